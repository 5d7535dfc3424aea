"""`--skip-bad-rows`, as users meet it: what is left out is counted, shown and listed."""

import json
from pathlib import Path

import pytest
from tiny_reviews import build_tiny_reviews, write_reviews_csv
from tiny_runs import TinyRun

from peft_sentiment.cli import main


def read_places(path: Path) -> list[str]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["place"] for line in lines]


@pytest.fixture
def flawed(tmp_path: Path) -> Path:
    """The tiny reviews with three rows behind them that can't be used, from line 202 on."""
    path = write_reviews_csv(tmp_path / "flawed.csv", build_tiny_reviews())
    path.write_bytes(path.read_bytes() + b'caf\xe9,positive\r\n"open,positive\r\nA film.,\r\n')
    return path


FLAWS = ["line 202", "line 203", "line 204"]


def test_a_run_leaves_them_out(
    tiny_run: TinyRun, flawed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [*tiny_run.arguments, "--train-file", str(flawed), "--baselines", "none"]
    assert main(arguments) == 2
    assert main([*arguments, "--skip-bad-rows"]) == 0
    words = " ".join(capsys.readouterr().out.split())
    assert f"3 rows are left out, the first of them {flawed}, line 202" in words
    listed = tiny_run.output / "skipped_rows.jsonl"
    assert read_places(listed) == [f"{flawed}, {place}" for place in FLAWS]
    results = json.loads((tiny_run.output / "results.json").read_text(encoding="utf-8"))
    assert results["data"]["rows_skipped"] == 3
    assert main(["train", *tiny_run.arguments[1:]]) == 0
    assert not listed.exists()


def test_evaluation_and_prediction_leave_them_out(
    finished_tiny_run: TinyRun,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    path, adapter = tmp_path / "new.csv", str(finished_tiny_run.adapter)
    path.write_text("text,label\nA new film.,positive\n ,negative\nB,negative\nc\n", "utf-8")
    asked = ["evaluate", adapter, "--test-file", str(path), "--no-bf16"]
    assert main(asked) == 2
    assert "line 5: the row has 1 fields" in capsys.readouterr().err
    assert main([*asked, "--skip-bad-rows"]) == 0
    assert "2 rows are left out" in capsys.readouterr().out
    assert read_places(tmp_path / "skipped_rows.jsonl") == [f"{path}, line 5", f"{path}, line 3"]
    output = tmp_path / "labels.csv"
    asked = ["predict", "--adapter", adapter, "--file", str(path), "--output", str(output)]
    assert main(asked) == 2
    assert not output.exists()
    assert main([*asked, "--skip-bad-rows"]) == 0
    assert len(output.read_text(encoding="utf-8").splitlines()) == 3
    listed = tmp_path / "labels.skipped_rows.jsonl"
    assert read_places(listed) == [f"{path}, line 3", f"{path}, line 5"]


def test_check_lists_them(
    finished_tiny_run: TinyRun, flawed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base, output = str(finished_tiny_run.base), tmp_path / "found.jsonl"
    asked = ["check", str(flawed), "--no-near", "--model-name-or-path", base]
    assert main(asked) == 2
    assert main([*asked, "--skip-bad-rows", "--output", str(output)]) == 0
    words = capsys.readouterr().out
    assert "2 rows that can't be read." in words
    assert "1 row without a label." in words
    assert "training leaves 3 rows out" in words
    assert read_places(output) == FLAWS
