"""A training that has lost what it had learned is ended, and no other."""

from collections.abc import Iterable
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_training import build_tiny_adapter, build_tiny_training, tokenize_tiny

from peft_sentiment.errors import DivergenceError
from peft_sentiment.model.adapters import get_bare_model
from peft_sentiment.records import StepRecord, ValidationRecord
from peft_sentiment.records.reviews import Reviews
from peft_sentiment.training.averaging import copy_trained_weights
from peft_sentiment.training.collapse import BLOCK, BLOCKS, build_watch, watch_for_collapse
from peft_sentiment.training.fit import fit_adapter

COIN = float(np.log(2))
WINDOW = BLOCK * BLOCKS


def build_step(number: int, loss: float) -> StepRecord:
    return StepRecord(number, 1000, 0.0, loss, 1e-3, 1.0, 16, 100, 1.0)


def watch(losses: Iterable[float], share: float = 0.5) -> int | None:
    """Return the step at which a training with these losses is ended; `share` is a label's."""
    watching = build_watch(np.array([share, 1 - share]), 16 * WINDOW)
    for number, loss in enumerate(losses, start=1):
        try:
            watching.note(build_step(number, loss))
        except DivergenceError as error:
            return error.step
    return None


def draw_losses(share: float, steps: int, seed: int) -> np.ndarray:
    """Return losses of steps of 16 by one who says of every review how frequent each label is."""
    rare = np.random.default_rng(seed).binomial(16, share, steps) / 16
    return -(rare * np.log(share) + (1 - rare) * np.log(1 - share))


def test_a_loss_that_came_down_and_is_that_of_guessing_again_ends_the_training() -> None:
    rng = np.random.default_rng(0)
    learning = rng.normal(0.4, 0.2, 2 * WINDOW).tolist()
    assert watch([*learning, *draw_losses(0.5, 3 * WINDOW, 1)]) == 3 * WINDOW
    assert watch([*learning, *draw_losses(0.48, 3 * WINDOW, 1)]) == 3 * WINDOW


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("share", [0.5, 0.3, 0.05])
def test_who_never_learns_is_left_to_go_on(share: float, seed: int) -> None:
    assert watch(draw_losses(share, 5000, seed), share) is None


def test_a_bad_while_is_no_collapse() -> None:
    learning = [0.4] * 2 * WINDOW
    assert watch([*learning, *[COIN] * (WINDOW - BLOCK), *[0.5] * WINDOW]) is None
    assert watch([*learning, *[1.5, 0.1] * WINDOW]) is None  # sorted labels, say
    assert watch([*learning, *[0.58] * 3 * WINDOW]) is None


def test_what_guessing_costs_is_what_the_labels_say(
    tiny_distilbert: Path, tiny_reviews: Reviews
) -> None:
    model = build_tiny_adapter(tiny_distilbert)
    train = tokenize_tiny(tiny_distilbert, tiny_reviews)
    equal = watch_for_collapse(build_tiny_training(model, train)).guessing
    assert equal == pytest.approx(COIN, rel=1e-3)
    order = np.argsort(train.targets, kind="stable")
    few = tokenize_tiny(tiny_distilbert, tiny_reviews.take(order[: len(train) // 2 + 20].tolist()))
    share = float(few.targets.mean())
    entropy = -(share * np.log(share) + (1 - share) * np.log(1 - share))
    assert watch_for_collapse(build_tiny_training(model, few)).guessing == pytest.approx(entropy)
    balanced = build_tiny_training(model, few, class_weights="balanced")
    assert watch_for_collapse(balanced).guessing == pytest.approx(COIN)


def test_a_head_that_dies_ends_the_training_with_advice_and_the_best_weights(
    tiny_distilbert: Path, tiny_reviews: Reviews
) -> None:
    model = build_tiny_adapter(tiny_distilbert)
    train = tokenize_tiny(tiny_distilbert, tiny_reviews)
    run = build_tiny_training(
        model, train, num_train_epochs=60.0, per_device_train_batch_size=8, learning_rate=5e-3,
        early_stopping_patience=0,
    )  # fmt: skip
    head = get_bare_model(model).pre_classifier.modules_to_save["default"]
    events = fit_adapter(run, train)
    best, losses = None, []
    for event in islice(events, 3 * WINDOW):
        if isinstance(event, StepRecord):
            losses.append(event.loss)
        elif isinstance(event, ValidationRecord) and event.is_best:
            best = copy_trained_weights(model)
    assert np.mean(losses[-WINDOW:]) < 0.5
    with torch.no_grad():
        head.bias.fill_(-1e4)  # Nothing passes a ReLU any more.
    with pytest.raises(
        DivergenceError, match=r"lost what it had learned.*third of --learning-rate"
    ):
        list(events)
    assert best is not None
    left = copy_trained_weights(model)
    assert all(torch.equal(left[name], weight) for name, weight in best.items())
