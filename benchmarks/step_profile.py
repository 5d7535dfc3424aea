"""Where the time of a training step goes: torch's operators of one stream, in kinds.

    python benchmarks/step_profile.py [--steps 8] [--max-length 512]

Trains the encoder of the quickstart preset on one thread, after some steps to warm up, with torch's
profiler on, which itself takes time: believe the shares. What no operator took is Python's.
"""

import argparse
import itertools

from peft_sentiment.cli import set_up_libraries

set_up_libraries()

import torch  # noqa: E402 - the libraries are set up before they are loaded
from material import draw_reviews  # noqa: E402
from torch.profiler import ProfilerActivity, profile  # noqa: E402

from peft_sentiment import SentimentClassifier  # noqa: E402

WARM_UP = 4
BATCH = 16

KINDS = {
    "products of linear layers": ("linear_pointwise", "addmm", "aten::mm", "aten::linear"),
    "products of attention": ("bmm", "baddbmm", "aten::matmul"),
    "softmax": ("exp", "softmax", "aten::sum", "aten::div", "reciprocal", "amax"),
    "GELU": ("gelu",),
    "norms": ("layer_norm",),
    "sums and factors": ("aten::add", "aten::mul", "aten::sub", "lerp", "foreach", "aten::addcmul"),
    "copies between layouts": ("copy", "aten::cat", "clone", "contiguous", "aten::_to_copy"),
    "chance of the dropout": ("random", "bernoulli", "aten::lt", "aten::ge", "bitwise"),
    "memory": ("empty", "resize", "fill", "zero"),
}
"""Kind -> parts of operators' names; the first kind that fits an operator has it."""


def find_kind(operator: str) -> str:
    """Return the kind of an operator."""
    for kind, parts in KINDS.items():
        if any(part in operator for part in parts):
            return kind
    return "other operators"


def main() -> None:
    """Profile some steps and print what took how much."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--max-length", type=int, default=512)
    options = parser.parse_args()
    torch.set_num_threads(1)
    reviews = draw_reviews((options.steps + WARM_UP) * BATCH)
    classifier = SentimentClassifier(
        crop_length=0, num_train_epochs=1, per_device_train_batch_size=BATCH,
        max_length=options.max_length, truncation="head",
    )  # fmt: skip
    classifier.build_base(("negative", "positive"))
    tokens = classifier.tokenize(reviews)
    events = classifier.iterate_fit(tokens, None)
    list(itertools.islice(events, WARM_UP))
    with profile(activities=[ProfilerActivity.CPU], acc_events=True) as profiler:
        steps = list(events)
    total = sum(step.seconds for step in steps) * 1e6
    taken: dict[str, float] = {}
    for entry in profiler.key_averages():
        kind = find_kind(entry.key)
        taken[kind] = taken.get(kind, 0.0) + entry.self_cpu_time_total
    taken["Python and waiting"] = total - sum(taken.values())
    done = sum(step.reviews for step in steps)
    print(
        f"{done} reviews, {sum(step.tokens for step in steps) / done:.0f} tokens each, "
        f"{classifier.precision_.dtype_name}: {total / 1e6:.2f} s on one thread"
    )
    for kind, microseconds in sorted(taken.items(), key=lambda item: -item[1]):
        print(f"| {kind} | {microseconds / total:.1%} |".replace("%", " %"))


if __name__ == "__main__":
    main()
