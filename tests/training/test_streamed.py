"""Training reads streamed reviews as it would those in memory."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from several_processes import run_together
from tiny_reviews import write_reviews_csv
from tiny_training import (
    IDENTITY,
    MAX_LENGTH,
    build_tiny_adapter,
    build_tiny_training,
    copy_weights,
    load_tiny_encoder,
    make_dropout_zero,
    tokenize_tiny,
)

from peft_sentiment.config import DataSettings, OutputSettings
from peft_sentiment.data.batching import LabelledTokens
from peft_sentiment.data.streaming import load_streamed
from peft_sentiment.data.token_files import open_tokens
from peft_sentiment.records.reviews import Reviews
from peft_sentiment.training.checkpoints import list_checkpoints, load_checkpoint
from peft_sentiment.training.fit import fit_adapter
from peft_sentiment.training.loop import TrainingRun, plan_steps, train_steps
from peft_sentiment.training.saving import CheckpointSaver

EVERY_STEP = OutputSettings(save_steps=1, save_minutes=0, save_total_limit=1000)
NEVER = OutputSettings(save_minutes=0)

FORMS: dict[str, dict[str, Any]] = {
    "whole reviews": {},
    "stretches, weights averaged": {"crop_length": 12, "weight_averaging": 0.6},
    "padded": {"gradient_checkpointing": True},
}


def open_streamed(home: Path, base: Path, buffer_size: int | str) -> LabelledTokens:
    """Stream the reviews of a CSV file, less those held out."""
    settings = DataSettings(
        train_file=(str(home / "reviews.csv"),),
        streaming=True,
        shuffle_buffer_size=buffer_size,  # type: ignore[arg-type]
        validation_size=0,
        test_size=39,
        max_length=MAX_LENGTH,
    )
    root = home / "cache"
    streamed = load_streamed(settings, 0, root, lambda _: None)
    tokenizer = load_tiny_encoder(base).tokenizer
    return open_tokens(root, streamed, tokenizer, settings, lambda _: None)[0]


@pytest.fixture
def home(tiny_reviews: Reviews, tmp_path: Path) -> Path:
    """A folder with 100 reviews."""
    write_reviews_csv(tmp_path / "reviews.csv", tiny_reviews.take(range(100)))
    return tmp_path


def build_run(base: Path, train: LabelledTokens, form: str) -> TrainingRun:
    model = build_tiny_adapter(base)
    make_dropout_zero(model)
    values = {"num_train_epochs": 2.0, "per_device_train_batch_size": 8, **FORMS[form]}
    return build_tiny_training(model, train, **values)


def finish(run: TrainingRun) -> tuple[list[float], dict[str, bytes]]:
    losses = [step.loss for step in train_steps(run)]
    return losses, {name: w.numpy().tobytes() for name, w in copy_weights(run.model).items()}


@pytest.mark.parametrize(
    ("form", "buffer_size"),
    [("whole reviews", "full"), ("stretches, weights averaged", 61), ("padded", 61)],
)
def test_with_a_buffer_for_all_it_ends_as_in_memory_bit_for_bit(
    form: str, buffer_size: int | str, home: Path, tiny_distilbert: Path, tiny_reviews: Reviews
) -> None:
    streamed = open_streamed(home, tiny_distilbert, buffer_size)
    assert len(streamed) == 61
    held = tokenize_tiny(tiny_distilbert, tiny_reviews.take(range(100)))
    places = [
        next(i for i, other in enumerate(held.reviews.token_ids) if np.array_equal(ids, other))
        for ids in streamed.reviews.token_ids
    ]
    same = LabelledTokens(
        held.reviews.take(np.array(places)), held.targets[places], held.label_names
    )
    assert finish(build_run(tiny_distilbert, streamed, form)) == finish(
        build_run(tiny_distilbert, same, form)
    )


@pytest.mark.parametrize("form", ["whole reviews", "stretches, weights averaged"])
def test_resumed_it_ends_as_if_it_had_not_stopped(
    form: str, home: Path, tiny_distilbert: Path
) -> None:
    def fit(folder: str, output: OutputSettings, start: Path | None) -> dict[str, bytes]:
        train = open_streamed(home, tiny_distilbert, 10)
        run = build_run(tiny_distilbert, train, form)
        begun = None if start is None else load_checkpoint(start)
        list(fit_adapter(run, None, CheckpointSaver(home / folder, output, IDENTITY, begun)))
        return {name: w.numpy().tobytes() for name, w in copy_weights(run.model).items()}

    whole = fit("whole", EVERY_STEP, None)
    checkpoints = list_checkpoints(home / "whole")
    assert len(checkpoints) == 16
    for path in checkpoints[3::9]:
        assert fit(path.name, NEVER, path) == whole, path.name


def test_the_buffer_decides_the_order(home: Path, tiny_distilbert: Path) -> None:
    train = open_streamed(home, tiny_distilbert, 1)
    run = build_run(tiny_distilbert, train, "whole reviews")
    # A pool of steps holds all of these few reviews, so only what chance draws differs.
    orders = [
        np.concatenate(list(plan_steps(dataclasses.replace(run, train=of_size)))).tolist()
        for of_size in (train, dataclasses.replace(train, shuffle_buffer=None))
    ]
    assert orders[0] != orders[1]
    assert sorted(orders[0]) == sorted(orders[1])


def test_two_processes_make_the_files_once_and_train_as_one(
    home: Path, tiny_distilbert: Path
) -> None:
    def train_half() -> list[float]:
        train = open_streamed(home, tiny_distilbert, 20)
        run = build_run(tiny_distilbert, train, "padded")
        settings = dataclasses.replace(run.settings, per_device_train_batch_size=4)
        return [step.loss for step in train_steps(dataclasses.replace(run, settings=settings))]

    first, second = run_together(train_half)
    assert first == second
    whole = open_streamed(home, tiny_distilbert, 20)
    losses = [step.loss for step in train_steps(build_run(tiny_distilbert, whole, "padded"))]
    assert np.allclose(first, losses, rtol=0, atol=1e-5)
    folders = [path.name for path in (home / "cache").iterdir() if path.is_dir()]
    assert sorted(name.split("-")[0] for name in folders) == ["texts", "tokens"]
