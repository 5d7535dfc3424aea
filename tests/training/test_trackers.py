"""Trackers receive what the run has stored, in real stores on disk."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tiny_runs import TinyRun

from peft_sentiment.cli import main
from peft_sentiment.config import Settings
from peft_sentiment.errors import SettingsError
from peft_sentiment.records import load_results
from peft_sentiment.training.trackers import require_packages


@pytest.fixture(autouse=True)
def own_mlflow(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Keep MLflow's variables and its process-wide place within one test."""
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    yield
    import mlflow

    mlflow.set_tracking_uri(None)


def read_steps(run: TinyRun) -> list[dict[str, Any]]:
    lines = (run.output / "steps.jsonl").read_text().splitlines()
    return [row for row in map(json.loads, lines) if row["kind"] == "StepRecord"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_tensorboard_and_mlflow_hold_the_steps_and_scores_of_the_run(tiny_run: TinyRun) -> None:
    assert main([*tiny_run.arguments, "--report-to", "tensorboard,mlflow"]) == 0
    steps = read_steps(tiny_run)
    scores = load_results(tiny_run.output / "results.json").models["peft"]
    for read in (read_tensorboard, read_mlflow):
        losses = read(tiny_run.output, "train/loss")
        assert [step for step, _ in losses] == [row["step"] for row in steps]
        assert [loss for _, loss in losses] == pytest.approx([row["loss"] for row in steps])
        assert read(tiny_run.output, "validation/accuracy")
        ((_, accuracy),) = read(tiny_run.output, "test/peft/accuracy")
        assert accuracy == pytest.approx(scores.accuracy)


def read_tensorboard(output: Path, name: str) -> list[tuple[int, float]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(output / "tensorboard" / "peft-sentiment"))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars(name)]


def read_mlflow(output: Path, name: str) -> list[tuple[int, float]]:
    import mlflow

    client = mlflow.MlflowClient((output / "mlruns").as_uri())
    experiment = client.get_experiment_by_name("peft-sentiment")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.data.params["training.seed"] == "42"
    assert run.info.status == "FINISHED"
    return [
        (metric.step, metric.value) for metric in client.get_metric_history(run.info.run_id, name)
    ]


def test_an_unknown_tracker_is_refused_with_those_there_are() -> None:
    with pytest.raises(SettingsError, match=r"report_to .*tensorboard, mlflow, wandb, trackio"):
        Settings().updated({"training": {"report_to": ["paper"]}}, "test")


def test_a_missing_package_is_named_before_any_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "trackio", None)
    with pytest.raises(SettingsError, match=r"trackio.*pip install 'trackio'"):
        require_packages(["trackio"])


def test_without_trackers_nothing_is_written_for_them(finished_tiny_run: TinyRun) -> None:
    names = {path.name for path in finished_tiny_run.output.iterdir()}
    assert not names & {"tensorboard", "mlruns"}
