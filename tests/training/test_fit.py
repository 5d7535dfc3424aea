"""Validation chooses the weights, stops early, and changes nothing else."""

import dataclasses
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_models import PADDING
from tiny_training import (
    FLOAT32,
    build_tiny_adapter,
    build_tiny_training,
    copy_weights,
    tokenize_tiny,
)

from peft_sentiment.data.batching import LabelledTokens
from peft_sentiment.evaluation.prediction import predict_logits
from peft_sentiment.records import StepRecord, ValidationRecord
from peft_sentiment.records.reviews import Reviews
from peft_sentiment.training import fit
from peft_sentiment.training.fit import Event, fit_adapter, summarize_training
from peft_sentiment.training.loop import TrainingRun, train_steps


@pytest.fixture(scope="module")
def train(tiny_distilbert: Path, tiny_reviews: Reviews) -> LabelledTokens:
    return tokenize_tiny(tiny_distilbert, tiny_reviews.take(range(64)))


@pytest.fixture(scope="module")
def validation(tiny_distilbert: Path, tiny_reviews: Reviews) -> LabelledTokens:
    return tokenize_tiny(tiny_distilbert, tiny_reviews.take(range(160, 200)))


def build_run(folder: Path, train: LabelledTokens, **settings: float | str | bool) -> TrainingRun:
    return build_tiny_training(build_tiny_adapter(folder), train, **settings)


def pick_validations(events: Sequence[Event]) -> list[ValidationRecord]:
    return [event for event in events if isinstance(event, ValidationRecord)]


def fit_with_scores(
    run: TrainingRun,
    validation: LabelledTokens,
    monkeypatch: pytest.MonkeyPatch,
    accuracies: Sequence[float],
    log_losses: Sequence[float] | None = None,
) -> tuple[list[Event], list[dict[str, torch.Tensor]]]:
    """Fit while validation says what it is told; return the events and the weights it saw."""
    scores = zip(accuracies, log_losses or [0.5] * len(accuracies), strict=True)
    weights = []

    def pretend(run: TrainingRun, _: LabelledTokens, step: StepRecord) -> ValidationRecord:
        accuracy, log_loss = next(scores)
        weights.append(copy_weights(run.model))
        return ValidationRecord(
            step.step, step.epoch, accuracy, 1 - accuracy, log_loss, is_best=False, seconds=1.0
        )

    monkeypatch.setattr(fit, "validate", pretend)
    return list(fit_adapter(run, validation)), weights


def assert_weights(run: TrainingRun, expected: dict[str, torch.Tensor]) -> None:
    torch.testing.assert_close(copy_weights(run.model), expected, atol=0, rtol=0)


def test_training_ends_with_the_weights_of_the_best_validation(
    tiny_distilbert: Path,
    train: LabelledTokens,
    validation: LabelledTokens,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = build_run(tiny_distilbert, train, num_train_epochs=3.0, early_stopping_patience=0)
    events, weights = fit_with_scores(run, validation, monkeypatch, [0.6, 0.9, 0.7])
    assert [record.is_best for record in pick_validations(events)] == [True, True, False]
    assert_weights(run, weights[1])
    assert any(not torch.equal(weights[1][name], weights[2][name]) for name in weights[1])


def test_the_best_weights_give_the_scores_of_the_best_validation_again(
    tiny_distilbert: Path, train: LabelledTokens, validation: LabelledTokens
) -> None:
    run = build_run(
        tiny_distilbert, train, num_train_epochs=6.0, per_device_train_batch_size=8,
        early_stopping_patience=0,
    )  # fmt: skip
    records = pick_validations(list(fit_adapter(run, validation)))
    best = [record for record in records if record.is_best][-1]
    logits = predict_logits(run.model, validation.reviews, PADDING, 16, FLOAT32)
    assert (logits.argmax(1) == validation.targets).mean() == pytest.approx(best.accuracy)
    assert best.accuracy == max(record.accuracy for record in records)
    assert best.accuracy > 0.8


def test_the_last_weights_are_kept_where_that_is_asked_for(
    tiny_distilbert: Path,
    train: LabelledTokens,
    validation: LabelledTokens,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = build_run(tiny_distilbert, train, num_train_epochs=2.0, load_best_model_at_end=False)
    _, weights = fit_with_scores(run, validation, monkeypatch, [0.9, 0.6])
    assert_weights(run, weights[1])


@pytest.mark.parametrize("validates", ["not", "on nothing"])
def test_without_validation_the_weights_are_the_last(
    tiny_distilbert: Path, train: LabelledTokens, validates: str
) -> None:
    fitted, plain = (build_run(tiny_distilbert, train) for _ in range(2))
    nothing = tokenize_tiny(tiny_distilbert, Reviews([], []))
    events = list(fit_adapter(fitted, None if validates == "not" else nothing))
    steps = list(train_steps(plain))
    assert [dataclasses.replace(step, seconds=1.0) for step in steps] == events
    assert_weights(fitted, copy_weights(plain.model))


def test_validation_changes_no_step(
    tiny_distilbert: Path, train: LabelledTokens, validation: LabelledTokens
) -> None:
    losses = []
    for held_out in (None, validation):
        run = build_run(tiny_distilbert, train, eval_steps=1, early_stopping_patience=0)
        events = fit_adapter(run, held_out)
        losses.append([event.loss for event in events if isinstance(event, StepRecord)])
    assert losses[0] == losses[1]


@pytest.mark.parametrize(
    ("accuracies", "patience", "validations"),
    [
        ([0.6, 0.5, 0.5, 0.9], 2, 3),
        ([0.6, 0.5, 0.7, 0.5, 0.6, 0.9], 2, 5),
        ([0.6, 0.5, 0.7], 1, 2),
        ([0.6, 0.5, 0.5, 0.5], 0, 4),
        ([0.6, 0.6, 0.6], 1, 2),
    ],
)
def test_training_stops_when_the_patience_is_at_its_end(
    tiny_distilbert: Path,
    train: LabelledTokens,
    validation: LabelledTokens,
    monkeypatch: pytest.MonkeyPatch,
    accuracies: list[float],
    patience: int,
    validations: int,
) -> None:
    run = build_run(
        tiny_distilbert,
        train,
        num_train_epochs=len(accuracies) / 4,
        eval_steps=1,
        early_stopping_patience=patience,
    )
    events, weights = fit_with_scores(run, validation, monkeypatch, accuracies)
    assert len(pick_validations(events)) == validations
    assert summarize_training(events, True).stopped_early is (validations < len(accuracies))
    assert_weights(run, weights[int(np.argmax(accuracies[:validations]))])
    assert not run.model.training


@pytest.mark.parametrize(
    ("metric", "best"), [("accuracy", [True, False, True]), ("f1", [True, True, False])]
)
def test_the_metric_that_is_asked_for_decides(
    tiny_distilbert: Path,
    train: LabelledTokens,
    validation: LabelledTokens,
    monkeypatch: pytest.MonkeyPatch,
    metric: str,
    best: list[bool],
) -> None:
    settings = {"num_train_epochs": 3.0, "metric_for_best_model": metric}
    run = build_run(tiny_distilbert, train, **settings)
    # The pretended f1 is 1 - accuracy.
    events, _ = fit_with_scores(run, validation, monkeypatch, [0.6, 0.5, 0.7])
    assert [record.is_best for record in pick_validations(events)] == best


@pytest.mark.parametrize("metric", ["accuracy", "log_loss"])
def test_the_smaller_log_loss_is_better_and_tells_equals_apart(
    tiny_distilbert: Path,
    train: LabelledTokens,
    validation: LabelledTokens,
    monkeypatch: pytest.MonkeyPatch,
    metric: str,
) -> None:
    run = build_run(
        tiny_distilbert, train, num_train_epochs=4.0, metric_for_best_model=metric,
        early_stopping_patience=0,
    )  # fmt: skip
    events, weights = fit_with_scores(run, validation, monkeypatch, [0.6] * 4, [0.5, 0.7, 0.3, 0.3])
    assert [r.is_best for r in pick_validations(events)] == [True, False, True, False]
    assert_weights(run, weights[2])


@pytest.mark.parametrize(
    ("epochs", "eval_steps", "steps"),
    [(2.0, 0, [4, 8]), (1.0, 3, [3, 4]), (1.0, 2, [2, 4]), (1.5, 0, [4, 6]), (0.5, 100, [2])],
)
def test_validation_comes_at_its_interval_and_at_the_end(
    tiny_distilbert: Path,
    train: LabelledTokens,
    validation: LabelledTokens,
    epochs: float,
    eval_steps: int,
    steps: list[int],
) -> None:
    run = build_run(
        tiny_distilbert, train, num_train_epochs=epochs, eval_steps=eval_steps,
        early_stopping_patience=0,
    )  # fmt: skip
    events = list(fit_adapter(run, validation))
    assert [record.step for record in pick_validations(events)] == steps
    assert [type(event) for event in events[-2:]] == [StepRecord, ValidationRecord]


def test_validation_works_under_gradient_checkpointing(
    tiny_distilbert: Path, train: LabelledTokens, validation: LabelledTokens
) -> None:
    run = build_run(tiny_distilbert, train, eval_steps=1, gradient_checkpointing=True)
    assert len(pick_validations(list(fit_adapter(run, validation)))) >= 3


def test_whoever_iterates_may_stop(
    tiny_distilbert: Path, train: LabelledTokens, validation: LabelledTokens
) -> None:
    run = build_run(tiny_distilbert, train)
    events = list(islice(fit_adapter(run, validation), 2))
    assert [event.step for event in events] == [1, 2]
    assert not run.model.training


def _pretend_events(losses: Sequence[float], steps: int) -> Iterator[Event]:
    for place, loss in enumerate(losses, start=1):
        yield StepRecord(
            step=place, steps=steps, epoch=place / 10, loss=loss, learning_rate=0.1,
            grad_norm=1.0, reviews=16, tokens=1000, seconds=2.0,
        )  # fmt: skip
        if place % 10 == 0:
            is_best = place == 10
            yield ValidationRecord(place, place / 10, 0.5, 0.5, 0.7, is_best=is_best, seconds=3.0)


def test_a_summary_adds_up() -> None:
    losses = [1.0] * 18 + [0.4, 0.2]
    events = list(_pretend_events(losses, steps=30))
    summary = summarize_training(events, is_best_restored=True)
    assert summary.seconds == 20 * 2.0 + 2 * 3.0
    assert summary.reviews == 320
    assert summary.reviews_per_second == 8.0
    assert summary.tokens_per_second == 500.0
    assert summary.steps == 20
    assert summary.final_loss == pytest.approx(0.3)
    assert summary.best_step == 10
    assert summary.stopped_early
    assert (summary.epochs, summary.learning_rate) == (2.0, 0.1)
    assert [record.step for record in summary.validations] == [10, 20]
    last = summarize_training(events, is_best_restored=False)
    assert last == dataclasses.replace(summary, best_step=20)


def test_a_summary_of_one_step_is_that_step() -> None:
    summary = summarize_training(list(_pretend_events([0.6], steps=1)), is_best_restored=True)
    assert (summary.final_loss, summary.best_step, summary.stopped_early) == (0.6, 1, False)
    assert summary.validations == ()
