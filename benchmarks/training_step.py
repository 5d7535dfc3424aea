"""What each way of doing less work gives: training steps of the packaged encoder, side by side.

    .venv/bin/python benchmarks/training_step.py [--steps 8] [--length 200]

The variants take turns in one process, so that the machine's moods meet them all; figures are
medians, and the ratios are what to believe.
"""

import argparse
import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from unittest import mock

import numpy as np

from peft_sentiment import SentimentClassifier
from peft_sentiment.data.batching import LabelledTokens, TokenizedReviews
from peft_sentiment.model import adapters, encoder
from peft_sentiment.records import StepRecord

LABELS = ["negative", "positive"]
BATCH = 16

Steps = Iterator[StepRecord]


def main() -> None:
    """Time the variants in turn and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=8, help="steps that are timed of each variant")
    parser.add_argument("--length", type=int, default=200, help="tokens of every review")
    arguments = parser.parse_args()
    reviews = build_reviews(arguments.steps + 1, arguments.length)
    runs = {name: start_training(reviews, **options) for name, options in VARIANTS.items()}
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for steps in runs.values():
        next(steps)  # warms up
    for _ in range(arguments.steps):
        for name, steps in runs.items():
            seconds[name].append(next(steps).seconds)
    print_table(seconds)


VARIANTS: dict[str, dict[str, bool]] = {
    "the model's own dropout, whole last layer, torch's dropout masks": {
        "body_dropout": True,
        "whole_layer": True,
        "torch_dropout": True,
    },
    "no dropout in the frozen body": {"whole_layer": True, "torch_dropout": True},
    "and cheap dropout masks": {"whole_layer": True},
    "and the last layer at the first token only (what is used)": {},
}


def build_reviews(steps: int, length: int) -> LabelledTokens:
    """Return random reviews of one length, enough for so many steps."""
    rng, count = np.random.default_rng(0), steps * BATCH
    ids = [rng.integers(1000, 20000, length).astype(np.int32) for _ in range(count)]
    tokens = TokenizedReviews(ids, np.zeros(count, np.bool_))
    return LabelledTokens(tokens, rng.integers(0, 2, count), tuple(LABELS))


def start_training(
    reviews: LabelledTokens,
    body_dropout: bool = False,
    whole_layer: bool = False,
    torch_dropout: bool = False,
) -> Steps:
    """Return the steps of a training of one variant."""
    classifier = SentimentClassifier(body_dropout=body_dropout, num_train_epochs=1)
    with (
        _left_out(encoder, "read_first_token_only", whole_layer),
        _left_out(adapters, "replace_dropouts", torch_dropout),
    ):
        classifier.build_base(LABELS)
        classifier.build_adapter()
    return (event for event in classifier.iterate_fit(reviews, None) if _is_step(event))


def _is_step(event: object) -> bool:
    return isinstance(event, StepRecord)


@contextmanager
def _left_out(module: object, name: str, is_left_out: bool) -> Iterator[None]:
    nothing: Callable[..., None] = lambda *_: None  # noqa: E731 - it does nothing
    with mock.patch.object(module, name, nothing if is_left_out else getattr(module, name)):
        yield


def print_table(seconds: dict[str, list[float]]) -> None:
    """Print reviews a second of each variant, and the ratio to the first."""
    rates = {name: BATCH / statistics.median(times) for name, times in seconds.items()}
    first = next(iter(rates.values()))
    for name, rate in rates.items():
        print(f"{rate:6.1f} reviews/s  {rate / first:4.2f} x  {name}")


if __name__ == "__main__":
    main()
