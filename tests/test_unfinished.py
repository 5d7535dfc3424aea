"""Runs that are stopped go on where they were; nothing else is taken for them."""

import dataclasses
import io
import json
import math
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from peft_sentiment import foundation, pipeline, unfinished
from peft_sentiment.config import Settings, load_settings
from peft_sentiment.errors import CheckpointError, DivergenceError, InterruptionError, OutputError
from peft_sentiment.files import locked
from peft_sentiment.inference.classifier import SentimentClassifier
from peft_sentiment.interruptions import termination_raised
from peft_sentiment.training import loop
from peft_sentiment.training.checkpoints import list_checkpoints

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"

Stop = Callable[[Settings], Path]


@pytest.fixture
def settings(tiny_distilbert: Path, reviews_csv: Path, tmp_path: Path) -> Settings:
    return load_settings(
        overrides={
            "data": {
                "train_file": str(reviews_csv),
                "train_size": 64,
                "validation_size": 20,
                "test_size": 30,
                "max_length": 32,
            },
            "model": {"model_name_or_path": str(tiny_distilbert)},
            "training": {
                "num_train_epochs": 1.0,
                "per_device_train_batch_size": 8,
                "learning_rate": 1e-2,
                "bf16": False,
                "eval_steps": 3,
            },
            "output": {
                "output_dir": str(tmp_path / "output"),
                "adapter_dir": str(tmp_path / "adapter"),
            },
        }
    )


def run(settings: Settings, resume: bool = False, is_terminal: bool = False) -> str:
    console = Console(file=io.StringIO(), width=400, force_terminal=is_terminal)
    pipeline.run_pipeline(settings, console, resume)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.fixture
def stop(monkeypatch: pytest.MonkeyPatch) -> Stop:
    """`stop(settings)` stops a run by Ctrl-C after its first validation, at step 3 of 8."""

    def stop_after_validation(settings: Settings) -> Path:
        with monkeypatch.context() as patched:
            interrupt = lambda *_: os.kill(os.getpid(), signal.SIGINT)  # noqa: E731
            patched.setattr(pipeline, "show_validation", interrupt)
            with pytest.raises(InterruptionError):
                run(settings)
        folder = Path(settings.output.output_dir) / "checkpoints"
        assert [path.name for path in list_checkpoints(folder)] == ["checkpoint-3"]
        return folder

    return stop_after_validation


def read_losses(settings: Settings) -> list[float]:
    lines = (Path(settings.output.output_dir) / "steps.jsonl").read_text().splitlines()
    return [event["loss"] for event in map(json.loads, lines) if "loss" in event]


def test_a_resumed_run_ends_as_if_it_had_not_been_stopped(
    settings: Settings, stop: Stop, tmp_path: Path
) -> None:
    adapter = Path(settings.output.adapter_dir) / "adapter_model.safetensors"
    run(settings)
    whole = (adapter.read_bytes(), read_losses(settings))
    folder = stop(settings)
    shown = run(settings, resume=True)
    assert "Going on after step 3 of 8" in shown
    assert (adapter.read_bytes(), read_losses(settings)) == whole
    assert not folder.exists()


def test_what_does_not_change_the_training_may_be_changed(settings: Settings, stop: Stop) -> None:
    stop(settings)
    changed = {
        "training": {"logging_steps": 1},
        "evaluation": {"bootstrap_samples": 200},
        "output": {"save_steps": 2},
    }
    assert "Going on after step 3 of 8" in run(settings.updated(changed, "test"), resume=True)


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        ({"learning_rate": 0.02}, "training.learning_rate was 0.01 and is 0.02"),
        ({"num_train_epochs": 5.0}, r"training.num_train_epochs was 1.0 and is 5.0 \(the learning"),
        ({"seed": 7}, "training.seed was 42 and is 7"),
    ],
)
def test_changed_settings_are_refused_with_the_difference(
    settings: Settings, stop: Stop, change: dict[str, float], difference: str
) -> None:
    folder = stop(settings)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(CheckpointError, match=difference) as refused:
        run(settings.updated({"training": change}, "test"), resume=True)
    assert str(folder) in str(refused.value)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_changed_reviews_are_refused(settings: Settings, stop: Stop) -> None:
    stop(settings)
    assert settings.data.train_file is not None
    path = Path(settings.data.train_file[0])
    path.write_text(path.read_text().replace("wonderful", "splendid"))
    with pytest.raises(CheckpointError, match="the reviews are others"):
        run(settings, resume=True)


def test_an_unfinished_run_is_named_and_begun_anew_where_nobody_can_be_asked(
    settings: Settings, stop: Stop
) -> None:
    folder = stop(settings)
    shown = run(settings)
    assert "unfinished run of these settings has reached step 3 of 8" in shown
    assert "--resume" in shown
    assert "Going on" not in shown
    assert not folder.exists()


@pytest.mark.parametrize("answer", [True, False])
def test_an_unfinished_run_is_offered_at_a_terminal(
    settings: Settings, stop: Stop, answer: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop(settings)
    asked: list[str] = []
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    monkeypatch.setattr(pipeline, "ask_for_reviews", lambda *_: None)
    monkeypatch.setattr(unfinished, "ask_to_resume", lambda _, what: asked.append(what) or answer)
    shown = run(settings, is_terminal=True)
    assert len(asked) == 1
    assert ("Going on after step" in shown) == answer


def test_with_nothing_to_resume_a_run_begins_at_the_beginning(settings: Settings) -> None:
    assert "no checkpoint to resume" in run(settings, resume=True)


def test_a_damaged_checkpoint_is_named_and_the_run_goes_on_from_the_one_before(
    settings: Settings,
) -> None:
    changed = settings.updated({"output": {"save_steps": 2}}, "test")
    folder = Path(settings.output.output_dir) / "checkpoints"
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(
            pipeline, "show_validation", lambda *_: os.kill(os.getpid(), signal.SIGTERM)
        )
        with pytest.raises(InterruptionError):
            run(changed)
    tensors = folder / "checkpoint-3" / "state.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:-10])
    shown = run(changed, resume=True)
    assert re.search(r"checkpoint-3: the checkpoint is damaged .*state.safetensors", shown)
    assert "Going on after step 2 of 8" in shown


def test_other_threads_are_said_to_change_the_last_digits(
    settings: Settings, stop: Stop, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop(settings)
    original = foundation.describe_environment
    monkeypatch.setattr(
        foundation,
        "describe_environment",
        lambda classifier: dataclasses.replace(original(classifier), threads=3),
    )
    shown = run(settings, resume=True)
    assert "threads was 1 and is 3: the result may differ in its last digits" in shown


def test_a_loss_that_is_no_number_lists_its_reviews_and_keeps_the_last_good_checkpoint(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(settings)
    output, adapter = Path(settings.output.output_dir), Path(settings.output.adapter_dir)
    before = {path: path.read_bytes() for path in [*output.rglob("*.*"), *adapter.iterdir()]
              if path.is_file()}  # fmt: skip
    original = loop.require_finite

    def fail_at_step_4(what: str, value: float, step: int, *rest: object) -> None:
        original(what, math.nan if step == 4 else value, step, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(loop, "require_finite", fail_at_step_4)
    changes = {"output": {"save_steps": 1}, "training": {"eval_steps": 2}}
    with pytest.raises(DivergenceError, match=r"loss of step 4 is nan at learning rate") as error:
        run(settings.updated(changes, "test"))
    rows = [json.loads(line) for line in (output / "diverged.jsonl").read_text().splitlines()]
    assert len(rows) == 8
    assert all(row["text"] and row["label"] in ("negative", "positive") for row in rows)
    assert str(output / "diverged.jsonl") in str(error.value)
    assert str(output / "checkpoints" / "checkpoint-3") in str(error.value)
    rescued = output / "checkpoints" / "interrupted"
    assert re.search(rf"of step 2 \(accuracy .* saved in {rescued};", str(error.value))
    assert SentimentClassifier.load(rescued).predict(["A film."])[0] in ("negative", "positive")
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.parametrize(
    ("where", "signals", "words"),
    [
        ("write_report", 1, "Stopped. The run has finished"),
        ("write_report", 2, "while results were being stored"),
        ("show_results", 1, "Stopped. The run has finished"),
    ],
)
def test_a_signal_while_results_are_stored_or_shown_says_what_there_is(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, where: str, signals: int, words: str
) -> None:
    original = getattr(pipeline, where)

    def interrupt(*arguments: object) -> object:
        for _ in range(signals):
            os.kill(os.getpid(), signal.SIGTERM)
        return original(*arguments)

    monkeypatch.setattr(pipeline, where, interrupt)
    with termination_raised(), pytest.raises(InterruptionError, match=words) as stopped:
        run(settings)
    assert stopped.value.exit_code == 143
    output = Path(settings.output.output_dir)
    assert str(output) in str(stopped.value)
    assert (output / "results.json").exists()
    assert (output / "checkpoints").exists() == (signals == 2)
    assert "unchanged" not in str(stopped.value)


@pytest.mark.parametrize("flag", ["--output-dir", "--adapter-dir"])
def test_two_runs_do_not_write_to_one_folder(settings: Settings, flag: str) -> None:
    folder = Path(getattr(settings.output, flag.removeprefix("--").replace("-", "_")))
    folder.parent.mkdir(exist_ok=True)
    beside = folder.with_name(f".{folder.name}.lock")
    lock = folder / ".lock" if flag == "--output-dir" else beside
    with (
        locked(folder, lock, flag),
        pytest.raises(OutputError, match=f"another run is at work there.*{flag}"),
    ):
        run(settings)


def test_runs_that_are_killed_at_random_moments_end_as_one_that_is_let_be(
    settings: Settings,
) -> None:
    assert settings.data.train_file is not None
    flags = {
        "--model-name-or-path": settings.model.model_name_or_path,
        "--train-file": settings.data.train_file[0],
        "--learning-rate": 0.01,
    }
    command = [str(part) for flag in flags.items() for part in flag]
    done = subprocess.run(
        [sys.executable, BENCHMARKS / "chaos.py", "--kills", "5", "--no-bf16", *command],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert "5 of 5 bit-identical" in done.stdout, done.stdout + done.stderr
    assert done.returncode == 0
