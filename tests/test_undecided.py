"""Undecided reviews, from the settings of a training to what predict prints."""

import json
from pathlib import Path

import pytest
from tiny_runs import TinyRun

from peft_sentiment.cli import main
from peft_sentiment.model.metadata import METADATA_FILE
from peft_sentiment.records import load_results

TEXTS = ["The film was amazing and good.", "There are two brothers.", "It was awful, just bad."]


def predict(run: TinyRun, capsys: pytest.CaptureFixture[str], *flags: str) -> list[str]:
    capsys.readouterr()
    assert main(["predict", "--adapter", str(run.adapter), "--no-bf16", *flags, *TEXTS]) == 0
    return [line.split()[0] for line in capsys.readouterr().out.splitlines()]


def test_all_are_decided_unless_asked_for(
    tiny_run: TinyRun, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "undecided" not in predict(tiny_run, capsys)
    assert predict(tiny_run, capsys, "--undecided-share", "0.99").count("undecided") >= 2


def test_predict_writes_the_undecided_to_a_file(tiny_run: TinyRun, tmp_path: Path) -> None:
    flags = ["--adapter", str(tiny_run.adapter), "--no-bf16", "--undecided-share", "0.99"]
    assert main(["predict", *flags, "--output", str(tmp_path / "out.jsonl"), *TEXTS]) == 0
    lines = (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    assert sum(row["label"] == "undecided" for row in rows) >= 2
    assert all(0.5 <= row["confidence"] <= 1 for row in rows)


def test_a_threshold_of_the_training_is_kept_and_can_be_overruled(
    tiny_run: TinyRun, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*tiny_run.arguments, "--undecided-share", "0.9"]) == 0
    record = load_results(tiny_run.output / "results.json").calibration
    assert record is not None
    assert record.threshold is not None
    assert 0 < record.threshold.undecided_share < 1
    metadata = json.loads((tiny_run.adapter / METADATA_FILE).read_text(encoding="utf-8"))
    assert metadata["calibration"]["threshold"] == record.threshold.confidence
    kept = predict(tiny_run, capsys)
    assert kept == predict(tiny_run, capsys, "--undecided-share", "0.9")
    assert "undecided" not in predict(tiny_run, capsys, "--undecided-share", "0")


def test_a_precision_out_of_reach_does_not_cost_the_training(
    tiny_run: TinyRun, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*tiny_run.arguments, "--min-precision", "0.999"]) == 0
    assert "20 validation reviews can vouch for" in capsys.readouterr().out.replace("\n", " ")
    assert load_results(tiny_run.output / "results.json").calibration is not None
    flags = ["--adapter", str(tiny_run.adapter), "--no-bf16", "--min-precision", "0.999"]
    assert main(["predict", *flags, *TEXTS]) == 2
    assert "can vouch for" in capsys.readouterr().err


def test_a_threshold_without_validation_reviews_is_refused_before_the_training(
    tiny_run: TinyRun, capsys: pytest.CaptureFixture[str]
) -> None:
    before = tiny_run.read_files()
    flags = ["--validation-size", "0", "--undecided-share", "0.1"]
    assert main([*tiny_run.arguments, *flags]) == 2
    assert "chosen on validation reviews" in capsys.readouterr().err
    assert tiny_run.read_files() == before


def test_an_adapter_without_a_calibration_can_tell_no_threshold(
    tiny_run: TinyRun, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tiny_run.adapter / METADATA_FILE
    metadata = json.loads(path.read_text(encoding="utf-8"))
    del metadata["calibration"], metadata["files"], metadata["sha256"]  # as an older version did
    path.write_text(json.dumps(metadata), encoding="utf-8")
    assert "undecided" not in predict(tiny_run, capsys)
    flags = ["--adapter", str(tiny_run.adapter), "--undecided-share", "0.1"]
    assert main(["predict", *flags, *TEXTS]) == 2
    assert "no threshold can be chosen" in capsys.readouterr().err


def test_two_thresholds_at_once_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--dry-run", "--min-precision", "0.9", "--undecided-share", "0.1"]) == 2
    assert "choose one of them" in capsys.readouterr().err


def test_evaluate_shows_both_sides_of_the_temperature(
    tiny_run: TinyRun, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--no-bf16", "--undecided-share", "0.5"]
    assert main(["evaluate", str(tiny_run.adapter), *flags]) == 0
    shown = capsys.readouterr().out
    assert "as they come" in shown
    assert "temperature" in shown
    assert "left undecided" in shown
