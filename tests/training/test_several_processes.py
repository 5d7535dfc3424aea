"""Several processes with a share of each batch train as one process with the whole of it."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from several_processes import run_together
from tiny_training import (
    FLOAT32,
    build_tiny_adapter,
    build_tiny_training,
    copy_weights,
    make_dropout_zero,
    tokenize_tiny,
)

from peft_sentiment.config import AdapterSettings, OutputSettings
from peft_sentiment.data.batching import LabelledTokens
from peft_sentiment.errors import DataError, ProcessError
from peft_sentiment.evaluation.prediction import predict_logits
from peft_sentiment.processes import Processes, get_processes, working_alone
from peft_sentiment.records import StepRecord, ValidationRecord
from peft_sentiment.records.reviews import Reviews
from peft_sentiment.training.checkpoints import load_checkpoint
from peft_sentiment.training.fit import fit_adapter
from peft_sentiment.training.identity import TrainingIdentity
from peft_sentiment.training.loop import train_steps
from peft_sentiment.training.saving import CheckpointSaver

FORMS: dict[str, tuple[AdapterSettings, dict[str, Any]]] = {
    "packed": (AdapterSettings(r=4), {}),
    "padded": (AdapterSettings(r=4), {"gradient_checkpointing": True}),
    "weighed labels": (AdapterSettings(r=4), {"class_weights": "balanced"}),
    "lower layers kept": (AdapterSettings(r=4, layers_to_transform=(1,)), {}),
    "accumulated": (AdapterSettings(r=4), {"gradient_accumulation_steps": 2}),
    "adalora": (
        AdapterSettings(method="adalora", method_options={"tinit": 2, "tfinal": 3}),
        {"gradient_checkpointing": True},
    ),
}
SHORT = {"num_train_epochs": 2.0, "learning_rate": 1e-2}


@pytest.fixture(scope="module")
def train(tiny_distilbert: Path, tiny_reviews: Reviews) -> LabelledTokens:
    """61 reviews: the last step of a pass has fewer, and an odd number of them."""
    return tokenize_tiny(tiny_distilbert, tiny_reviews.take(range(61)))


@pytest.fixture(scope="module")
def validation(tiny_distilbert: Path, tiny_reviews: Reviews) -> LabelledTokens:
    return tokenize_tiny(tiny_distilbert, tiny_reviews.take(range(61, 98)))


@dataclasses.dataclass(frozen=True)
class Trained:
    """What a training has yielded, and the weights it has ended with."""

    steps: list[StepRecord]
    weights: dict[str, np.ndarray[Any, Any]]


def train_tiny(
    folder: Path, train: LabelledTokens, form: str, batch: int, dropout: bool = False
) -> Trained:
    adapter, settings = FORMS[form]
    model = build_tiny_adapter(folder, adapter)
    if not dropout:
        make_dropout_zero(model)
    run = build_tiny_training(
        model, train, per_device_train_batch_size=batch, **{**SHORT, **settings}
    )
    steps = list(train_steps(run))
    return Trained(steps, {name: w.numpy() for name, w in copy_weights(model).items()})


@pytest.mark.parametrize("form", FORMS)
def test_two_processes_train_as_one_with_twice_the_batch(
    tiny_distilbert: Path, train: LabelledTokens, form: str
) -> None:
    one = train_tiny(tiny_distilbert, train, form, batch=8)
    first, second = run_together(lambda: train_tiny(tiny_distilbert, train, form, batch=4))
    assert [step.reviews for step in first.steps] == [step.reviews for step in one.steps]
    assert first.steps == second.steps
    for name in ("loss", "grad_norm"):
        found, expected = ([getattr(s, name) for s in t.steps] for t in (first, one))
        assert found == pytest.approx(expected, rel=1e-5, abs=1e-5)
    for name, weight in first.weights.items():
        np.testing.assert_array_equal(weight, second.weights[name])
        np.testing.assert_allclose(weight, one.weights[name], atol=1e-4)


def test_with_dropout_two_processes_train_as_one_of_two_threads(
    tiny_distilbert: Path, train: LabelledTokens
) -> None:
    threads = torch.get_num_threads()
    both = run_together(lambda: train_tiny(tiny_distilbert, train, "packed", 4, dropout=True))
    torch.set_num_threads(2)
    try:
        one = train_tiny(tiny_distilbert, train, "packed", 8, dropout=True)
    finally:
        torch.set_num_threads(threads)
    expected = [step.loss for step in one.steps]
    assert [step.loss for step in both[0].steps] == pytest.approx(expected, rel=1e-5, abs=1e-5)


def test_three_processes_train_with_fewer_reviews_than_processes_in_a_step(
    tiny_distilbert: Path, train: LabelledTokens
) -> None:
    one = train_tiny(tiny_distilbert, train, "packed", batch=3)  # The last step has 1 review.
    three = run_together(lambda: train_tiny(tiny_distilbert, train, "packed", batch=1), count=3)
    expected = [step.loss for step in one.steps]
    assert [step.loss for step in three[2].steps] == pytest.approx(expected, rel=1e-5, abs=1e-5)


def test_every_review_is_scored_once_and_in_its_place(
    tiny_distilbert: Path, train: LabelledTokens
) -> None:
    model = build_tiny_adapter(tiny_distilbert)

    def score() -> np.ndarray[Any, Any]:
        return predict_logits(model, train.reviews, 1, 8, FLOAT32)

    expected = score()
    for found in run_together(score):
        np.testing.assert_allclose(found, expected, atol=1e-5)
    assert len(np.unique(expected, axis=0)) > 50  # A misplaced row would be seen.


def fit_tiny(
    folder: Path, train: LabelledTokens, validation: LabelledTokens, saver: CheckpointSaver
) -> list[Any]:
    model = build_tiny_adapter(folder)
    make_dropout_zero(model)
    run = build_tiny_training(model, train, per_device_train_batch_size=4, **SHORT)
    run = dataclasses.replace(run, began_with=saver.identity.processes)
    return [dataclasses.replace(e, seconds=0.0) for e in fit_adapter(run, validation, saver)]


def save_every_step(folder: Path, start: Path | None = None) -> CheckpointSaver:
    checkpoint = None if start is None else load_checkpoint(start)
    identity = TrainingIdentity({}, "data", "base", {}, {}, processes=2)
    settings = OutputSettings(save_steps=1, save_minutes=0, save_total_limit=100)
    return CheckpointSaver(folder, settings, identity, checkpoint)


def test_checkpoints_of_two_processes_go_on_in_one_or_three(
    tiny_distilbert: Path, train: LabelledTokens, validation: LabelledTokens, tmp_path: Path
) -> None:
    def fit(name: str, start: Path | None = None) -> list[Any]:
        saver = save_every_step(tmp_path / name, start)
        return fit_tiny(tiny_distilbert, train, validation, saver)

    whole, _ = run_together(lambda: fit("whole"))
    middle = tmp_path / "whole" / "checkpoint-9"
    assert load_checkpoint(middle).identity.processes == 2
    rest = [event for event in whole if event.step > 9]
    resumed, _ = run_together(lambda: fit("two", middle))
    assert resumed == rest
    for found in (fit("one", middle), run_together(lambda: fit("three", middle), count=3)[0]):
        assert [type(event) for event in found] == [type(event) for event in rest]
        for event, expected in zip(found, rest, strict=True):
            name = "loss" if isinstance(event, StepRecord) else "log_loss"
            assert getattr(event, name) == pytest.approx(getattr(expected, name), abs=1e-4)
    assert any(isinstance(event, ValidationRecord) for event in rest)


def test_all_processes_stop_after_the_step_in_which_one_is_asked_to(
    tiny_distilbert: Path, train: LabelledTokens, validation: LabelledTokens, tmp_path: Path
) -> None:
    def fit() -> int:
        saver, looks = save_every_step(tmp_path), iter(range(1000))
        rank = get_processes().rank
        saver.is_stopping = lambda: rank == 1 and next(looks) >= 2
        return int(fit_tiny(tiny_distilbert, train, validation, saver)[-1].step)

    assert run_together(fit) == [3, 3]
    assert (tmp_path / "checkpoint-3").is_dir()


def test_what_the_main_process_finds_or_meets_is_the_same_everywhere() -> None:
    def find() -> tuple[int, str]:
        processes = get_processes()

        def refuse() -> None:
            raise DataError(f"found by {processes.rank}")

        found = processes.agree(lambda: processes.rank + 10)
        with pytest.raises(DataError) as error:
            processes.agree(refuse)
        with working_alone():
            assert get_processes().agree(lambda: processes.rank) == processes.rank
            assert get_processes().is_main == processes.is_main
        return found, str(error.value)

    assert run_together(find) == [(10, "found by 0")] * 2


def wait_for_ever(processes: Processes) -> None:
    while True:
        processes.wait()


def test_a_process_that_loses_the_others_says_so() -> None:
    def lose() -> str:
        processes = get_processes()
        if processes.rank == 1:
            return "gone"
        with pytest.raises(ProcessError, match="One of them has ended"):
            wait_for_ever(processes)
        return "told"

    assert run_together(lose) == ["told", "gone"]
