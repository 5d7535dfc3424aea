"""A training that goes on from a checkpoint ends, bit for bit, where it would have ended."""

import dataclasses
import math
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny_models import PADDING
from tiny_training import (
    BFLOAT16,
    FLOAT32,
    IDENTITY,
    build_tiny_adapter,
    build_tiny_training,
    tokenize_tiny,
)

from peft_sentiment.config import AdapterSettings, OutputSettings
from peft_sentiment.data.batching import LabelledTokens
from peft_sentiment.errors import CheckpointError, DivergenceError
from peft_sentiment.evaluation.prediction import predict_logits
from peft_sentiment.model.precision import Precision
from peft_sentiment.records.reviews import Reviews
from peft_sentiment.training.averaging import copy_trained_weights
from peft_sentiment.training.checkpoints import (
    FILES,
    MANIFEST_FILE,
    Checkpoint,
    list_checkpoints,
    load_checkpoint,
    save_checkpoint,
)
from peft_sentiment.training.fit import Event, fit_adapter
from peft_sentiment.training.identity import TrainingIdentity, list_differences
from peft_sentiment.training.loop import TrainingRun, plan_steps
from peft_sentiment.training.saving import CheckpointSaver, find_checkpoint, remove_checkpoints

EVERY_STEP = OutputSettings(save_steps=1, save_minutes=0, save_total_limit=1000)
NEVER = OutputSettings(save_minutes=0)


@pytest.fixture(scope="module")
def train(tiny_distilbert: Path, tiny_reviews: Reviews) -> LabelledTokens:
    return tokenize_tiny(tiny_distilbert, tiny_reviews.take(range(60)))


@pytest.fixture(scope="module")
def validation(tiny_distilbert: Path, tiny_reviews: Reviews) -> LabelledTokens:
    return tokenize_tiny(tiny_distilbert, tiny_reviews.take(range(60, 90)))


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What must be equal bit for bit: all but the seconds."""

    events: list[dict[str, Any]]
    weights: dict[str, bytes]
    logits: bytes


def describe(events: list[Event], run: TrainingRun, validation: LabelledTokens) -> Outcome:
    logits = predict_logits(run.model, validation.reviews, PADDING, 16, run.precision)
    return Outcome(
        [{**dataclasses.asdict(event), "seconds": 0} for event in events],
        {n: w.numpy().tobytes() for n, w in copy_trained_weights(run.model).items()},
        logits.tobytes(),
    )


FORMS: dict[str, tuple[Precision, AdapterSettings, dict[str, Any]]] = {
    "float32": (FLOAT32, AdapterSettings(r=4), {}),
    "bfloat16": (BFLOAT16, AdapterSettings(r=4), {}),
    "padded": (FLOAT32, AdapterSettings(r=4), {"gradient_checkpointing": True}),
    "lower layers kept": (FLOAT32, AdapterSettings(r=4, layers_to_transform=(1,)), {}),
    "last weights": (FLOAT32, AdapterSettings(r=4), {"load_best_model_at_end": False}),
    "ranks shared out": (
        FLOAT32,
        AdapterSettings(method="adalora", r=4, method_options={
            "tinit": 1, "tfinal": 3, "deltaT": 2, "init_r": 4, "target_r": 2
        }),
        {},
    ),
    "weights averaged": (FLOAT32, AdapterSettings(r=4), {"weight_averaging": 0.6}),
    "last weights averaged": (
        FLOAT32, AdapterSettings(r=4), {"weight_averaging": 0.5, "load_best_model_at_end": False},
    ),
    "weights averaged, stretches": (
        BFLOAT16, AdapterSettings(r=4), {"weight_averaging": 0.6, "crop_length": 12},
    ),
    "weights shared by layers": (FLOAT32, AdapterSettings(method="vblora"), {}),
    "stopping early": (
        FLOAT32, AdapterSettings(r=4), {"early_stopping_patience": 1, "learning_rate": 0.2},
    ),
}  # fmt: skip


@pytest.fixture(params=list(FORMS))
def build_run(
    request: pytest.FixtureRequest, tiny_distilbert: Path, train: LabelledTokens
) -> Callable[[], TrainingRun]:
    precision, adapter, settings = FORMS[request.param]

    def build() -> TrainingRun:
        torch.manual_seed(int(torch.randint(1 << 30, ())))  # chance may not come from before
        model = build_tiny_adapter(tiny_distilbert, adapter)
        values = {
            "num_train_epochs": 3.0, "eval_steps": 2, "per_device_train_batch_size": 16, **settings
        }  # fmt: skip
        return build_tiny_training(model, train, precision, **values)

    return build


def test_a_training_that_goes_on_from_any_step_ends_as_if_it_had_not_stopped(
    build_run: Callable[[], TrainingRun], validation: LabelledTokens, tmp_path: Path
) -> None:
    run = build_run()
    whole = describe(list(fit_adapter(run, validation)), run, validation)

    run = build_run()
    saver = CheckpointSaver(tmp_path, EVERY_STEP, IDENTITY)
    assert describe(list(fit_adapter(run, validation, saver)), run, validation) == whole

    for path in list_checkpoints(tmp_path)[::4]:
        run, start = build_run(), load_checkpoint(path)
        saver = CheckpointSaver(tmp_path / path.name, NEVER, IDENTITY, start)
        events = [*start.events, *fit_adapter(run, validation, saver)]
        assert describe(events, run, validation) == whole, path.name


@pytest.fixture(scope="module")
def checkpoints(
    tiny_distilbert: Path,
    train: LabelledTokens,
    validation: LabelledTokens,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """Folder with the checkpoints of steps 1 to 4."""
    folder = tmp_path_factory.mktemp("checkpoints")
    model = build_tiny_adapter(tiny_distilbert)
    run = build_tiny_training(model, train, weight_averaging=0.5)
    assert run.steps == 4
    for _ in fit_adapter(run, validation, CheckpointSaver(folder, EVERY_STEP, IDENTITY)):
        pass
    return folder


@pytest.fixture
def folder(checkpoints: Path, tmp_path: Path) -> Path:
    """A copy for one test to work on."""
    return shutil.copytree(checkpoints, tmp_path / "checkpoints")


def find_step(folder: Path, identity: TrainingIdentity = IDENTITY) -> int:
    found = find_checkpoint(folder, identity).checkpoint
    return 0 if found is None else found.step


def test_a_checkpoint_comes_back_as_it_was_saved(folder: Path, tmp_path: Path) -> None:
    checkpoint = load_checkpoint(folder / "checkpoint-4")
    again = load_checkpoint(save_checkpoint(checkpoint, tmp_path / "again"))
    for item in dataclasses.fields(checkpoint):
        before, after = getattr(checkpoint, item.name), getattr(again, item.name)
        if item.name in ("weights", "random_states", "average"):
            before, after = ({n: t.tolist() for n, t in part.items()} for part in (before, after))
        if item.name == "best":
            before, after = before.record, after.record
        assert repr(before) == repr(after)
    assert [event.step for event in checkpoint.events] == [1, 2, 3, 4, 4]
    assert checkpoint.steps == 4


def test_a_checkpoint_holds_no_weight_of_the_base(folder: Path, tiny_distilbert: Path) -> None:
    base = load_file(tiny_distilbert / "model.safetensors")
    names = load_file(folder / "checkpoint-1" / "state.safetensors")
    assert not any(name.endswith(tuple(base)) for name in names)


def flip_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize("name", [*FILES, MANIFEST_FILE])
@pytest.mark.parametrize("damage", [flip_bit, truncate, Path.unlink])
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_used(
    folder: Path, name: str, damage: Callable[[Path], None]
) -> None:
    damage(folder / "checkpoint-4" / name)
    found = find_checkpoint(folder, IDENTITY)
    assert found.checkpoint is not None
    assert found.checkpoint.step == 3
    assert len(found.damaged) == 1
    assert str(folder / "checkpoint-4") in found.damaged[0]


def test_where_all_are_damaged_there_is_none(folder: Path) -> None:
    for path in list_checkpoints(folder):
        flip_bit(path / "state.json")
    found = find_checkpoint(folder, IDENTITY)
    assert found.checkpoint is None
    assert len(found.damaged) == 4


def test_a_checkpoint_that_does_not_fit_the_model_is_refused(
    folder: Path, tiny_distilbert: Path, train: LabelledTokens
) -> None:
    model = build_tiny_adapter(tiny_distilbert, AdapterSettings(r=8))
    saver = CheckpointSaver(folder, EVERY_STEP, IDENTITY, load_checkpoint(folder / "checkpoint-2"))
    with pytest.raises(CheckpointError, match=r"step 2 .*lora.*--resume"):
        next(fit_adapter(build_tiny_training(model, train), None, saver))


@pytest.mark.parametrize(
    "change",
    [
        {"settings": {"training": {"seed": 2}}},
        {"data_sha256": "other"},
        {"base_sha256": "other"},
    ],
)
def test_another_training_does_not_take_the_checkpoint(
    folder: Path, change: dict[str, Any]
) -> None:
    other = dataclasses.replace(IDENTITY, **change)
    found = find_checkpoint(folder, other)
    assert found.checkpoint is None
    assert found.other is not None
    assert len(list_differences(found.other.identity, other)) == 1


@pytest.mark.parametrize("change", [{"precision": {"x": 1}}, {"environment": {"threads": 2}}])
def test_a_training_on_other_hardware_takes_the_checkpoint(
    folder: Path, change: dict[str, Any]
) -> None:
    assert find_step(folder, dataclasses.replace(IDENTITY, **change)) == 4


def test_as_many_checkpoints_are_kept_as_are_asked_for_and_nothing_else(
    checkpoints: Path, folder: Path
) -> None:
    (folder / ".checkpoint-9.draft-killed").mkdir()
    (folder / "interrupted").mkdir()
    saver = CheckpointSaver(folder, OutputSettings(save_total_limit=2), IDENTITY)
    for step in (1, 2, 3):
        saver.save(load_checkpoint(checkpoints / f"checkpoint-{step}"))
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["checkpoint-2", "checkpoint-3", "interrupted"]
    assert saver.newest == folder / "checkpoint-3"


def test_the_one_that_was_gone_on_from_is_kept_as_one_of_them(folder: Path) -> None:
    start = load_checkpoint(folder / "checkpoint-2")
    saver = CheckpointSaver(folder, OutputSettings(save_total_limit=2), IDENTITY, start)
    saver.save(dataclasses.replace(start, step=5))
    assert [path.name for path in list_checkpoints(folder)] == ["checkpoint-5", "checkpoint-2"]


def test_finished_trainings_leave_no_checkpoints(folder: Path) -> None:
    (folder / ".checkpoint-9.removed").mkdir()
    remove_checkpoints(folder)
    assert not folder.exists()


class Clock:
    """A clock that goes when it is told to."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def offer(saver: CheckpointSaver, step: int, checkpoint: Checkpoint) -> bool:
    before = saver.written
    saver.offer(step, False, lambda: dataclasses.replace(checkpoint, step=step))
    return saver.written > before


def test_checkpoints_are_written_by_steps_and_by_minutes(folder: Path, tmp_path: Path) -> None:
    clock, checkpoint = Clock(), load_checkpoint(folder / "checkpoint-1")
    settings = OutputSettings(save_steps=3, save_minutes=2)
    saver = CheckpointSaver(tmp_path, settings, IDENTITY, clock=clock)
    written = []
    for step in range(1, 9):
        clock.now += 50
        written += [step] if offer(saver, step, checkpoint) else []
    assert written == [3, 6]
    clock.now += 80
    assert offer(saver, 8, checkpoint)


def test_writing_by_the_time_takes_no_more_than_a_fiftieth_of_it(
    folder: Path, tmp_path: Path
) -> None:
    checkpoint = load_checkpoint(folder / "checkpoint-1")
    seconds = iter([0.0, 61.0, 61.0, 71.0, 500.0, 570.0, 570.0, 571.0])
    saver = CheckpointSaver(tmp_path, OutputSettings(), IDENTITY, clock=lambda: next(seconds))
    assert offer(saver, 1, checkpoint)  # takes 10 seconds, so 500 must pass
    assert not offer(saver, 2, checkpoint)
    assert not offer(saver, 3, checkpoint)
    seconds = iter([571.0, 571.0, 572.0])
    assert offer(saver, 4, checkpoint)


def test_a_last_step_and_a_stop_are_always_saved(folder: Path, tmp_path: Path) -> None:
    checkpoint = load_checkpoint(folder / "checkpoint-1")
    saver = CheckpointSaver(tmp_path, NEVER, IDENTITY)
    assert not offer(saver, 1, checkpoint)
    saver.offer(1, True, lambda: checkpoint)
    assert saver.written == 1
    saver.is_stopping = lambda: True
    assert offer(saver, 2, checkpoint)


def test_a_clock_that_is_set_back_keeps_no_checkpoint_from_being_written(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "time", lambda: 0.0)
    settings = OutputSettings(save_minutes=1e-9)
    saver = CheckpointSaver(tmp_path, settings, IDENTITY)
    assert offer(saver, 1, load_checkpoint(folder / "checkpoint-1"))
    assert find_step(tmp_path) == 1


def test_the_newest_checkpoint_is_the_one_of_the_most_steps_whatever_the_files_dates_say(
    folder: Path,
) -> None:
    os.utime(folder / "checkpoint-1", (4e9, 4e9))
    assert find_step(folder) == 4


def test_a_loss_that_is_no_number_names_the_step_and_its_reviews(
    tiny_distilbert: Path, train: LabelledTokens, tmp_path: Path
) -> None:
    run = build_tiny_training(build_tiny_adapter(tiny_distilbert), train)
    saver = CheckpointSaver(tmp_path, EVERY_STEP, IDENTITY)
    fit = fit_adapter(run, None, saver)
    assert [next(fit).step, next(fit).step] == [1, 2]
    with torch.no_grad():
        next(weight for weight in run.model.parameters() if weight.requires_grad).fill_(math.nan)
    chosen = list(plan_steps(run))[2].tolist()
    with pytest.raises(DivergenceError, match=r"step 3 is nan at learning rate") as diverged:
        next(fit)
    assert (diverged.value.step, diverged.value.reviews) == (3, chosen)
