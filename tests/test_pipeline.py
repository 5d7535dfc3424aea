"""The pipeline on a tiny encoder: what it leaves behind, and what an interruption leaves."""

import io
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from peft_sentiment import pipeline, storing
from peft_sentiment.config import Settings, load_settings
from peft_sentiment.errors import InterruptionError
from peft_sentiment.evaluation.metrics import compute_scores
from peft_sentiment.evaluation.storage import load_predictions
from peft_sentiment.inference.classifier import SentimentClassifier
from peft_sentiment.records import Results, StepRecord, ValidationRecord, load_results
from peft_sentiment.training.checkpoints import load_checkpoint

RunPipeline = Callable[..., tuple[Results, str]]


@pytest.fixture
def settings(tiny_distilbert: Path, reviews_csv: Path, tmp_path: Path) -> Settings:
    return load_settings(
        overrides={
            "data": {
                "train_file": str(reviews_csv),
                "train_size": 100,
                "validation_size": 30,
                "test_size": 60,
                "max_length": 64,
            },
            "model": {"model_name_or_path": str(tiny_distilbert)},
            "training": {
                "num_train_epochs": 2.0,
                "learning_rate": 1e-2,
                "per_device_train_batch_size": 8,
                "crop_length": 0,
                "weight_averaging": 0.0,
                "bf16": False,
            },
            "output": {
                "output_dir": str(tmp_path / "output"),
                "adapter_dir": str(tmp_path / "adapter"),
            },
        }
    )


def run(settings: Settings) -> tuple[Results, str]:
    console = Console(file=io.StringIO(), width=100)
    results = pipeline.run_pipeline(settings, console)
    assert isinstance(console.file, io.StringIO)
    return results, console.file.getvalue()


def test_a_run_leaves_results_that_follow_the_contract(settings: Settings) -> None:
    results, shown = run(settings)
    folder = Path(settings.output.output_dir)
    stored = json.loads((folder / "results.json").read_text(encoding="utf-8"))

    assert load_results(folder / "results.json") == results
    assert stored["status"] == "finished"
    assert stored["settings"] == settings.as_tables()
    assert stored["data"]["train"] == 100
    assert stored["data"]["validation"] == 30
    assert stored["data"]["test"] == 60
    assert {"device", "dtype", "attention", "threads", "commit", "versions", "dtype_reason"} == set(
        stored["environment"]
    )
    counts = stored["parameters"]
    assert counts["trainable"] == counts["adapter"] + counts["head"]
    assert stored["training"]["reviews"] == 200
    gain = stored["models"]["peft"]["accuracy"] - stored["models"]["base"]["accuracy"]
    assert stored["improvement"]["accuracy"] == pytest.approx(gain)
    fixed, broken = stored["improvement"]["fixed"], stored["improvement"]["broken"]
    assert fixed - broken == round(60 * gain)
    for part in (1, 2, 3, 4):
        assert f"Part {part} of 4" in shown


def test_stored_predictions_give_the_stored_scores(settings: Settings) -> None:
    results, _ = run(settings)
    for name in ("base", "majority", "tfidf", "probe", "peft"):
        path = Path(settings.output.output_dir) / "predictions" / f"{name}.parquet"
        reviews, predictions = load_predictions(path)
        assert compute_scores(reviews.labels, predictions, 0.95) == results.models[name]


def test_baselines_are_measured_on_the_same_reviews_and_shown_beside_the_others(
    settings: Settings,
) -> None:
    results, shown = run(settings)
    assert list(results.models) == ["base", "majority", "tfidf", "probe", "peft"]
    folder = Path(settings.output.output_dir) / "predictions"
    texts = [load_predictions(folder / f"{name}.parquet")[0].texts for name in results.models]
    assert all(of_model == texts[0] for of_model in texts)
    for title in ("Majority", "TF-IDF", "Probe"):
        assert f"{title}: accuracy" in shown.partition("Part 2")[0]
        assert title in shown.partition("Part 3")[2]
    assert results.models["tfidf"].accuracy > 0.9


def test_full_fine_tuning_is_measured_on_request(settings: Settings) -> None:
    tables = {
        "adapter": {"layers_to_transform": [1]},
        "evaluation": {"baselines": "full"},
    }
    results, shown = run(settings.updated(tables, "test"))
    assert list(results.models) == ["base", "full", "peft"]
    assert "Full: accuracy" in shown
    assert results.models["full"] != results.models["base"]
    # It is another copy: what is trained next is still the adapter asked for.
    loaded = SentimentClassifier.load(settings.output.adapter_dir, bf16=False)
    assert loaded.get_params()["method"] == "lora"
    assert results.parameters.trainable < results.parameters.total / 2


def test_a_companion_is_named_and_the_adapter_shown_without_it(settings: Settings) -> None:
    tables = {"training": {"companion": "tfidf"}, "evaluation": {"baselines": "none"}}
    results, shown = run(settings.updated(tables, "test"))
    assert list(results.models) == ["base", "adapter", "peft"]
    assert results.settings["training"]["companion"] == "tfidf"
    assert "Adapter: accuracy" in shown
    assert "PEFT is the adapter with its companion" in shown
    path = Path(settings.output.output_dir) / "predictions" / "peft.parquet"
    reviews, measured = load_predictions(path)
    loaded = SentimentClassifier.load(settings.output.adapter_dir, bf16=False)
    again = loaded.predict_proba(reviews.texts)
    np.testing.assert_allclose(again, measured.probabilities, atol=1e-6)


def test_baselines_do_not_change_what_is_trained(settings: Settings) -> None:
    with_all, _ = run(settings)
    without = settings.updated({"evaluation": {"baselines": "none"}}, "test")
    alone, shown = run(without)
    assert list(alone.models) == ["base", "peft"]
    assert "TF-IDF" not in shown
    assert alone.training.final_loss == with_all.training.final_loss
    assert alone.models["peft"].confusion == with_all.models["peft"].confusion


def test_the_stored_adapter_predicts_what_was_measured(settings: Settings) -> None:
    run(settings)
    path = Path(settings.output.output_dir) / "predictions" / "peft.parquet"
    reviews, measured = load_predictions(path)
    loaded = SentimentClassifier.load(settings.output.adapter_dir, bf16=False)
    again = loaded.predict_proba(reviews.texts)
    np.testing.assert_allclose(again, measured.probabilities, atol=1e-6)


def test_two_runs_with_one_seed_have_the_same_losses_and_scores(settings: Settings) -> None:
    losses = []
    for _ in range(2):
        results, _ = run(settings)
        lines = (Path(settings.output.output_dir) / "steps.jsonl").read_text().splitlines()
        events = [json.loads(line) for line in lines]
        steps = [event["loss"] for event in events if event["kind"] == StepRecord.__name__]
        losses.append((steps, results.improvement))
    assert losses[0] == losses[1]


def test_every_step_and_validation_is_stored(settings: Settings) -> None:
    results, _ = run(settings)
    lines = (Path(settings.output.output_dir) / "steps.jsonl").read_text().splitlines()
    kinds = [json.loads(line)["kind"] for line in lines]
    assert kinds.count(StepRecord.__name__) == results.training.steps
    assert kinds.count(ValidationRecord.__name__) == len(results.training.validations) == 2


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_keeps_the_last_run_and_the_training_so_far(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, number: int, code: int
) -> None:
    run(settings)
    output, adapter = Path(settings.output.output_dir), Path(settings.output.adapter_dir)
    before = _read_all(adapter) | _read_all(output)

    monkeypatch.setattr(pipeline, "show_validation", lambda *_: os.kill(os.getpid(), number))
    with pytest.raises(InterruptionError, match=r"after step 13.*--resume") as stopped:
        run(settings)
    after = _read_all(adapter) | _read_all(output)
    saved = output / "checkpoints" / "interrupted"
    assert {path: after[path] for path in before} == before
    assert str(saved) in str(stopped.value)
    assert stopped.value.exit_code == code
    assert load_checkpoint(output / "checkpoints" / "checkpoint-13").step == 13
    assert SentimentClassifier.load(saved).predict(["A good film."]).shape == (1,)


def test_a_second_signal_stops_at_once_and_the_last_checkpoint_stays(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt_twice(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(pipeline, "show_validation", interrupt_twice)
    settings = settings.updated({"output": {"save_steps": 5}}, "test")
    with pytest.raises(InterruptionError, match=r"checkpoint-10\. .*--resume"):
        run(settings)
    output = Path(settings.output.output_dir)
    assert load_checkpoint(output / "checkpoints" / "checkpoint-10").step == 10


def test_an_interruption_before_the_first_checkpoint_leaves_nothing(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline.SentimentClassifier, "iterate_fit", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run(settings)
    assert _read_all(Path(settings.output.output_dir)) == {}


def test_results_appear_last(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    run(settings)
    results = Path(settings.output.output_dir) / "results.json"

    def fail(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(storing, "save_predictions", fail)
    with pytest.raises(OSError, match="no space"):
        run(settings)
    assert not results.exists()


def test_a_run_of_several_classes_reports_each(
    settings: Settings, tmp_path: Path, tiny_distilbert: Path
) -> None:
    words = {"bad": "terrible awful", "fair": "film story", "good": "great superb"}
    path = tmp_path / "classes.csv"
    rows = [f"{words[label]} number {n},{label}" for n in range(60) for label in words]
    path.write_text("text,label\n" + "\n".join(rows), encoding="utf-8")
    tables = {
        "data": {"train_file": str(path), "test_size": 45, "validation_size": 15},
        "training": {"num_train_epochs": 8.0},
    }
    results, _ = run(settings.updated(tables, "test"))
    assert results.data.label_names == ("bad", "fair", "good")
    assert len(results.models["peft"].confusion) == 3
    assert results.models["peft"].accuracy > 0.8


def test_what_frozen_lower_layers_take_on_disk_is_told_beforehand(settings: Settings) -> None:
    tables = {"adapter": {"layers_to_transform": [1]}}
    _, shown = run(settings.updated(tables, "test"))
    assert "Lower layers are run once; 0.00 GB of disk" in shown
    tables["training"] = {"lower_layers_cache_gb": 0.0}  # type: ignore[assignment,dict-item]
    _, shown = run(settings.updated(tables, "test"))
    assert "Lower layers" not in shown


def _read_all(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
