"""A run keeps its error analysis and explanations; errors and predict --explain show them."""

import json
import sys
from pathlib import Path

import pytest
from rich.console import Console
from tiny_runs import TinyRun

from peft_sentiment.cli import main
from peft_sentiment.inference.classifier import SentimentClassifier
from peft_sentiment.insight import ERRORS_FILE, EXPLANATIONS_FILE
from peft_sentiment.records import build_record, load_results
from peft_sentiment.records.explanation import ExplanationsRecord
from peft_sentiment.records.mistakes import ErrorAnalysis
from peft_sentiment.serving.demo import EXPLAIN, ask_for_reviews
from peft_sentiment.serving.showcase import Showcase


def read_errors(run: TinyRun) -> ErrorAnalysis:
    analysis = build_record(ErrorAnalysis, json.loads((run.output / ERRORS_FILE).read_text()))
    assert isinstance(analysis, ErrorAnalysis)
    return analysis


def test_a_run_keeps_where_it_errs_and_why(tiny_run: TinyRun) -> None:
    analysis = read_errors(tiny_run)
    results = load_results(tiny_run.output / "results.json")
    assert analysis.accuracy == results.models["peft"].accuracy
    assert analysis.reviews == results.data.test
    values = json.loads((tiny_run.output / EXPLANATIONS_FILE).read_text())
    record = build_record(ExplanationsRecord, values)
    assert len(record.explanations) == 4
    for explanation in record.explanations:
        assert all(
            0 <= word.start < word.end <= len(explanation.text) for word in explanation.words
        )


def test_explanations_can_be_left_out(tiny_run: TinyRun) -> None:
    assert main([*tiny_run.arguments, "--explanations", "0"]) == 0
    assert not (tiny_run.output / EXPLANATIONS_FILE).exists()
    assert (tiny_run.output / ERRORS_FILE).exists()


def test_errors_of_a_finished_run_are_found_again(
    tiny_run: TinyRun, capsys: pytest.CaptureFixture[str]
) -> None:
    before = read_errors(tiny_run)
    (tiny_run.output / ERRORS_FILE).unlink()
    assert main(["errors", str(tiny_run.output)]) == 0
    shown = capsys.readouterr().out
    assert read_errors(tiny_run) == before
    for words in ("By length", "By cut", "By label", "By confidence", "labelled wrong"):
        assert words in shown


def test_errors_are_shown_where_the_training_reviews_are_gone(
    tiny_run: TinyRun, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tiny_run.output / "results.json"
    values = json.loads(path.read_text())
    values["settings"]["data"]["train_file"] = "/nowhere/reviews.csv"
    path.write_text(json.dumps(values))
    before = read_errors(tiny_run)
    assert main(["errors", str(tiny_run.output)]) == 0
    assert "No nearest training reviews" in capsys.readouterr().out
    assert read_errors(tiny_run) == before, "neighbours that the run has kept are lost"


def test_errors_are_found_from_any_working_folder(
    tiny_run: TinyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tiny_run.reviews.parent)
    place = tiny_run.arguments.index("--train-file") + 1
    arguments = [*tiny_run.arguments]
    arguments[place] = tiny_run.reviews.name
    assert main(arguments) == 0
    monkeypatch.chdir(tmp_path)
    assert main(["errors", str(tiny_run.output)]) == 0
    assert "No nearest training reviews" not in capsys.readouterr().out


def test_explanations_leave_nothing_undecided(
    tiny_run: TinyRun, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["predict", "--explain", "--undecided-share", "0.5", "A film."]
    assert main([*arguments, "--adapter", str(tiny_run.adapter)]) == 2
    assert "Leave out --min-precision and --undecided-share" in capsys.readouterr().err


def test_predict_explains(tiny_run: TinyRun, capsys: pytest.CaptureFixture[str]) -> None:
    text = "The film was amazing and good, not [bold]bad[/bold]."
    flags = ["--adapter", str(tiny_run.adapter), "--no-bf16", "--explain"]
    assert main(["predict", *flags, text]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert text in shown
    assert "For " in shown
    assert "of what they explain" in shown


def test_predict_names_the_extra_that_explaining_needs(
    tiny_run: TinyRun, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    flags = ["--adapter", str(tiny_run.adapter), "--no-bf16", "--explain"]
    assert main(["predict", *flags, "good"]) == 2
    assert "peft-sentiment[explain]" in capsys.readouterr().err


def test_the_demo_explains_the_last_review(tiny_run: TinyRun) -> None:
    console = Console(record=True, width=120)
    classifier = SentimentClassifier.load(tiny_run.adapter, bf16=False)
    lines = iter(["A superb and dull film.", EXPLAIN, ""])
    ask_for_reviews(console, Showcase({"peft": classifier}), lambda _: next(lines))
    shown = console.export_text()
    assert "A superb and dull film." in shown
    assert "of what they explain" in shown
