"""What is done with finished runs: scored on unseen reviews only, compared, and used to label."""

import csv
import io
import json
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyarrow import parquet
from rich.console import Console
from tiny_reviews import build_tiny_reviews, write_reviews_csv
from tiny_runs import TinyRun

from peft_sentiment import labelling
from peft_sentiment.cli import main
from peft_sentiment.config import EvaluationSettings, Settings
from peft_sentiment.data.sources import load_reviews
from peft_sentiment.data.split import split_reviews
from peft_sentiment.errors import AdapterError, DataError, OutputError, SettingsError
from peft_sentiment.evaluation.comparison import compare_predictions
from peft_sentiment.evaluation.pairs import compare_pairs
from peft_sentiment.evaluation.storage import load_predictions
from peft_sentiment.inference.classifier import SentimentClassifier
from peft_sentiment.records import Scores, load_results
from peft_sentiment.records.reviews import Reviews, Splits
from peft_sentiment.reporting.pairs import name_pair
from peft_sentiment.saved_runs import (
    choose_test_reviews,
    compare_runs,
    evaluate_adapter,
    load_adapted_predictions,
    load_past,
)

Overrides = Mapping[str, Mapping[str, Any]]

AWKWARD_TEXTS = (
    "A plain film.",
    'He said "great", and left,\nthen came back.',
    'tab\there, semicolon; \'quote\' and ""two""',
    "ein schöner Film 🎬👍🏽 — 映画",
    "=1+1",
    "line one\r\nline two\n\nline four",
    "separator \u2028 inside, and a lone \\ backslash",
)


@pytest.fixture
def console() -> Console:
    return Console(file=io.StringIO(), width=1000)


def read_shown(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def load_classifier(run: TinyRun) -> SentimentClassifier:
    return SentimentClassifier.load(run.adapter, bf16=False)


def split_of_training(run: TinyRun) -> Splits:
    settings = Settings().updated(load_results(run.output / "results.json").settings, "test")
    return split_reviews(load_reviews(settings.data), settings.data, settings.training.seed)


def choose(run: TinyRun, **data: object) -> Reviews:
    labels = ("negative", "positive")
    return choose_test_reviews(load_past(run.adapter), {"data": data}, labels)[0]


def evaluate(run: TinyRun, console: Console, overrides: Overrides | None = None) -> Scores:
    return evaluate_adapter(
        run.adapter, {"training": {"bf16": False}, **(overrides or {})}, console, None
    )


def test_evaluate_gives_the_scores_of_the_run_itself(tiny_run: TinyRun, console: Console) -> None:
    measured = load_results(tiny_run.output / "results.json").models["peft"]
    scores = evaluate(tiny_run, console)
    assert scores.accuracy == measured.accuracy
    assert scores.confusion == measured.confusion
    assert scores.log_loss == pytest.approx(measured.log_loss, abs=1e-6)
    assert f"{100 * measured.accuracy:.1f} %" in read_shown(console)


@pytest.mark.parametrize("size", [10, 40, 100, 120, "full"])
def test_evaluate_never_scores_a_review_that_was_trained_on(
    tiny_run: TinyRun, size: int | str
) -> None:
    splits = split_of_training(tiny_run)
    chosen = choose(tiny_run, test_size=size)
    assert len(chosen) == (120 if size == "full" else size)
    assert len(set(chosen.texts)) == len(chosen)
    assert not set(chosen.texts) & {*splits.train.texts, *splits.validation.texts}


def test_reviews_trained_on_stay_barred_when_the_data_file_has_changed(tiny_run: TinyRun) -> None:
    splits, fresh = split_of_training(tiny_run), build_tiny_reviews(20, seed=99)
    known = build_tiny_reviews()
    grown = Reviews([*fresh.texts, *known.texts], [*fresh.labels, *known.labels])
    write_reviews_csv(tiny_run.reviews, grown)
    try:
        chosen = choose(tiny_run, test_size="full")
    finally:
        write_reviews_csv(tiny_run.reviews, known)
    assert len(chosen) == 140
    assert not set(chosen.texts) & {*splits.train.texts, *splits.validation.texts}


def test_damaged_fingerprints_are_named_and_not_taken_for_none(tiny_run: TinyRun) -> None:
    (tiny_run.adapter / "seen_reviews.safetensors").write_bytes(b"damaged")
    with pytest.raises(AdapterError, match=str(tiny_run.adapter)):
        choose(tiny_run)


def test_evaluate_takes_the_runs_own_test_reviews_first(tiny_run: TinyRun) -> None:
    splits = split_of_training(tiny_run)
    assert choose(tiny_run) == splits.test
    assert choose(tiny_run, test_size=100).texts[:40] == splits.test.texts


def test_more_reviews_than_the_training_left_are_refused(tiny_run: TinyRun) -> None:
    with pytest.raises(DataError, match=r"121 test reviews .* left 120"):
        choose(tiny_run, test_size=121)


def test_a_test_file_with_training_reviews_is_refused_with_their_number(
    tiny_run: TinyRun, tmp_path: Path
) -> None:
    splits, fresh = split_of_training(tiny_run), build_tiny_reviews(10, seed=99)
    texts = [*fresh.texts, *splits.train.texts[:2], *splits.validation.texts[:1]]
    labels = [*fresh.labels, *splits.train.labels[:2], *splits.validation.labels[:1]]
    path = write_reviews_csv(tmp_path / "test.csv", Reviews(texts, labels))
    with pytest.raises(DataError, match=r"3 of the 13 reviews to score ") as refused:
        choose(tiny_run, test_file=str(path))
    assert str(path) in str(refused.value)
    assert texts[10][:20] in str(refused.value)


def test_a_test_file_of_unseen_reviews_is_taken_whole_and_in_order(
    tiny_run: TinyRun, tmp_path: Path
) -> None:
    fresh = build_tiny_reviews(30, seed=99)
    path = write_reviews_csv(tmp_path / "test.csv", fresh)
    assert choose(tiny_run, test_file=str(path)) == fresh


def test_so_many_reviews_of_a_sorted_test_file_hold_both_labels(
    tiny_run: TinyRun, tmp_path: Path
) -> None:
    fresh = build_tiny_reviews(60, seed=99)
    order = sorted(range(60), key=lambda place: fresh.labels[place])
    path = write_reviews_csv(tmp_path / "test.csv", fresh.take(order))
    chosen = choose(tiny_run, test_file=str(path), test_size=20)
    assert len(set(chosen.texts)) == 20
    assert set(chosen.labels) == {"negative", "positive"}
    assert choose(tiny_run, test_file=str(path), test_size=20) == chosen


def test_more_reviews_than_a_test_file_has_are_refused(tiny_run: TinyRun, tmp_path: Path) -> None:
    path = write_reviews_csv(tmp_path / "test.csv", build_tiny_reviews(10, seed=99))
    with pytest.raises(DataError, match=r"11 test reviews .* 10"):
        choose(tiny_run, test_file=str(path), test_size=11)


def test_a_data_set_named_by_hand_is_not_the_file_trained_on(tiny_run: TinyRun) -> None:
    chosen = choose(tiny_run, dataset_name="packaged/imdb", test_size=50)
    known = {*build_tiny_reviews().texts}
    assert len(chosen) == 50
    assert not set(chosen.texts) & known


def test_an_adapter_of_unknown_training_needs_reviews_by_name() -> None:
    with pytest.raises(SettingsError, match=r"--test-file or --dataset-name"):
        choose_test_reviews(None, {}, ("negative", "positive"))


def test_evaluate_writes_the_predictions_it_has_scored(
    tiny_run: TinyRun, tmp_path: Path, console: Console
) -> None:
    path = tmp_path / "predictions.parquet"
    evaluate_adapter(tiny_run.adapter, {"training": {"bf16": False}}, console, path)
    reviews, predictions = load_predictions(path)
    stored_reviews, stored = load_predictions(tiny_run.output / "predictions" / "peft.parquet")
    assert reviews == stored_reviews
    np.testing.assert_allclose(predictions.probabilities, stored.probabilities, atol=1e-6)


def test_evaluate_says_how_many_rows_tell_nothing_new(
    tiny_run: TinyRun, tmp_path: Path, console: Console
) -> None:
    rows = [("A new film.", "positive")] * 2 + [("Another.", "negative"), ("Another.", "positive")]
    rows += [("A third one.", "negative")]
    path = tmp_path / "test.csv"
    path.write_text("".join(f"{text},{label}\n" for text, label in [("text", "label"), *rows]))
    evaluate(tiny_run, console, {"data": {"test_file": str(path)}})
    assert "3 rows are left out: their text came before, or has two labels" in read_shown(console)


def test_evaluate_changes_nothing_in_the_run(tiny_run: TinyRun, console: Console) -> None:
    before = tiny_run.read_files()
    evaluate(tiny_run, console)
    assert tiny_run.read_files() == before


def test_compare_of_one_run_shows_its_own_comparison(tiny_run: TinyRun, console: Console) -> None:
    results = load_results(tiny_run.output / "results.json")
    compare_runs([tiny_run.output], console, EvaluationSettings())
    shown = read_shown(console)
    assert f"fixes {results.improvement.fixed} reviews" in shown
    assert f"breaks {results.improvement.broken} " in shown
    assert f"{100 * results.models['base'].accuracy:.1f}" in shown
    assert f"{100 * results.models['peft'].accuracy:.1f}" in shown


def test_a_run_is_not_compared_with_itself_nor_shown_with_other_intervals(
    tiny_run: TinyRun, console: Console, capsys: pytest.CaptureFixture[str]
) -> None:
    again = tiny_run.output.parent / "." / tiny_run.output.name / ".." / tiny_run.output.name
    with pytest.raises(SettingsError, match="named twice"):
        compare_runs([tiny_run.output, again], console, EvaluationSettings())
    assert main(["compare", str(tiny_run.output), "--confidence-level", "0.8"]) == 2
    assert "intervals it was stored with" in capsys.readouterr().err


def test_compare_of_two_runs_shows_their_paired_test(
    tiny_run: TinyRun, tmp_path: Path, console: Console
) -> None:
    other = tmp_path / "other"
    folders = ["--output-dir", str(other), "--adapter-dir", str(tmp_path / "other-adapter")]
    assert main([*tiny_run.arguments, *folders, "--num-train-epochs", "4"]) == 0
    (reviews, first), (_, second) = (
        load_predictions(folder / "predictions" / "peft.parquet")
        for folder in (tiny_run.output, other)
    )
    expected = compare_predictions(
        reviews.labels, first, second, EvaluationSettings(), np.random.default_rng(0)
    )
    assert expected.fixed + expected.broken > 0

    compare_runs([tiny_run.output, other], console, EvaluationSettings())
    shown = read_shown(console)
    assert re.search(rf"fixes {expected.fixed} reviews and breaks {expected.broken} ", shown)
    assert str(tiny_run.output) in shown
    assert str(other) in shown


def test_runs_on_different_reviews_are_not_compared(
    tiny_run: TinyRun, tmp_path: Path, console: Console
) -> None:
    other = tmp_path / "other"
    folders = ["--output-dir", str(other), "--adapter-dir", str(tmp_path / "other-adapter")]
    assert main([*tiny_run.arguments, *folders, "--seed", "7"]) == 0
    with pytest.raises(DataError, match=r"different reviews.*--seed") as refused:
        compare_runs([tiny_run.output, other], console, EvaluationSettings())
    assert str(tiny_run.output) in str(refused.value)
    assert str(other) in str(refused.value)


def test_three_runs_are_compared_in_pairs_with_holms_correction(
    tiny_run: TinyRun, tmp_path: Path, console: Console
) -> None:
    folders = [tiny_run.output]
    for epochs in ("2", "4"):
        folders.append(tmp_path / epochs)
        places = ["--output-dir", str(folders[-1]), "--adapter-dir", str(tmp_path / f"a{epochs}")]
        assert main([*tiny_run.arguments, *places, "--num-train-epochs", epochs]) == 0
    compare_runs(folders, console, EvaluationSettings())
    shown = read_shown(console)
    labels, predictions = load_adapted_predictions(folders)
    pairs = compare_pairs(labels, predictions, EvaluationSettings(), np.random.default_rng(0))
    assert len(pairs) == 3
    for pair in pairs:
        row = next(line for line in shown.splitlines() if name_pair(pair) in line)
        assert f"{100 * pair.accuracy:+.1f}" in row
        assert str(pair.fixed) in row.split()
    assert "corrected by Holm for 3 pairs" in shown


def test_a_run_named_twice_is_refused(tiny_run: TinyRun, console: Console) -> None:
    with pytest.raises(SettingsError, match="twice"):
        compare_runs([tiny_run.output, tiny_run.output], console, EvaluationSettings())


def test_results_of_an_older_version_without_pairs_are_still_shown(
    tiny_run: TinyRun, console: Console
) -> None:
    path = tiny_run.output / "results.json"
    values = json.loads(path.read_text())
    del values["comparisons"]
    for scores in values["models"].values():
        del scores["intervals"]
    path.write_text(json.dumps(values))
    compare_runs([tiny_run.output], console, EvaluationSettings())
    assert "PEFT fixes" in read_shown(console)


def test_a_run_without_its_predictions_is_not_compared(
    tiny_run: TinyRun, finished_tiny_run: TinyRun, console: Console
) -> None:
    (tiny_run.output / "predictions" / "peft.parquet").unlink()
    with pytest.raises(OutputError, match=r"peft\.parquet: no such file"):
        compare_runs([finished_tiny_run.output, tiny_run.output], console, EvaluationSettings())


def read_delimited(path: Path, delimiter: str) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter=delimiter))


READERS: dict[str, Callable[[Path], list[dict[str, Any]]]] = {
    ".csv": lambda path: read_delimited(path, ","),
    ".tsv": lambda path: read_delimited(path, "\t"),
    ".jsonl": lambda path: [json.loads(row) for row in path.read_text("utf-8").split("\n")[:-1]],
    ".parquet": lambda path: parquet.ParquetFile(path).read().to_pylist(),
}


def predict(run: TinyRun, *arguments: object) -> int:
    flags = ["--adapter", str(run.adapter), "--no-bf16"]
    return main(["predict", *flags, *(str(argument) for argument in arguments)])


def write_texts(path: Path) -> Path:
    lines = (json.dumps({"text": text}) + "\n" for text in AWKWARD_TEXTS)
    path.write_text("".join(lines), encoding="utf-8")
    return path


@pytest.mark.parametrize("ending", READERS)
@pytest.mark.parametrize("chunk", [3, labelling.CHUNK])
def test_predicted_files_hold_the_texts_as_they_were_and_in_order(
    finished_tiny_run: TinyRun,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    ending: str,
    chunk: int,
) -> None:
    monkeypatch.setattr(labelling, "CHUNK", chunk)
    path = tmp_path / f"labels{ending}"
    source = write_texts(tmp_path / "texts.jsonl")
    assert predict(finished_tiny_run, "--file", source, "--output", path) == 0
    rows = READERS[ending](path)
    expected = load_classifier(finished_tiny_run).predict_reviews(AWKWARD_TEXTS)
    assert [row["text"] for row in rows] == list(AWKWARD_TEXTS)
    assert [row["label"] for row in rows] == expected.labels
    for name, column in zip(expected.label_names, expected.probabilities.T, strict=True):
        written = [float(row[f"probability_{name}"]) for row in rows]
        np.testing.assert_allclose(written, column, atol=1e-6)
    confidence = [float(row["confidence"]) for row in rows]
    np.testing.assert_allclose(confidence, expected.probabilities.max(axis=1), atol=1e-6)


def test_no_more_texts_are_read_than_are_being_labelled(
    finished_tiny_run: TinyRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(labelling, "CHUNK", 2)
    texts = iter(["good", "bad", "fine", "dull", "superb"])
    labelled = labelling.label_chunks(finished_tiny_run.adapter, texts, {})
    assert next(labelled)[0] == ["good", "bad"]
    assert list(texts) == ["fine", "dull", "superb"]


def test_a_row_that_is_broken_far_down_leaves_the_earlier_output_as_it_was(
    finished_tiny_run: TinyRun,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(labelling, "CHUNK", 2)
    source, output = tmp_path / "texts.jsonl", tmp_path / "labels.csv"
    source.write_text('{"text": "good"}\n' * 5 + '{"text": 3}\n')
    output.write_text("earlier")
    assert predict(finished_tiny_run, "--file", source, "--output", output) == 2
    assert f"{source}, line 6" in capsys.readouterr().err
    assert output.read_text() == "earlier"
    assert sorted(tmp_path.iterdir()) == [output, source]


@pytest.mark.parametrize("ending", READERS)
def test_a_predicted_file_can_be_predicted_again(
    finished_tiny_run: TinyRun, tmp_path: Path, ending: str
) -> None:
    first, second = tmp_path / f"first{ending}", tmp_path / f"second{ending}"
    source = write_texts(tmp_path / "texts.jsonl")
    assert predict(finished_tiny_run, "--file", source, "--output", first) == 0
    assert predict(finished_tiny_run, "--file", first, "--output", second) == 0
    assert READERS[ending](second) == READERS[ending](first)


def test_texts_from_stdin_file_and_arguments_get_the_same_labels(
    finished_tiny_run: TinyRun,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    texts = ["A superb film!", "  bad, dull<br /><br />and worst  ", "ein schöner Film 🎬"]
    lines = "".join(f"{text}\n" for text in texts)
    path = tmp_path / "texts.txt"
    path.write_text(lines, encoding="utf-8")
    stdin = io.TextIOWrapper(io.BytesIO(lines.encode()), encoding="utf-8")

    shown = []
    for arguments in ([], ["--file", path], texts):
        monkeypatch.setattr(sys, "stdin", stdin)
        assert predict(finished_tiny_run, *arguments) == 0
        shown.append(capsys.readouterr().out)
    assert len(shown[0].splitlines()) == 3
    assert shown[1] == shown[0]
    assert shown[2] == shown[0]


def test_texts_of_another_encoding_are_refused_on_a_pipe(finished_tiny_run: TinyRun) -> None:
    command = [sys.executable, "-m", "peft_sentiment.cli", "predict"]
    done = subprocess.run(
        [*command, "--adapter", str(finished_tiny_run.adapter)],
        input=b"good\ncaf\xe9\n",
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 2
    assert b"not UTF-8" in done.stderr
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("ending", [".doc", ""])
def test_an_output_of_unknown_ending_is_refused_before_any_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], ending: str
) -> None:
    path = tmp_path / f"labels{ending}"
    assert main(["predict", "good", "--adapter", str(tmp_path), "--output", str(path)]) == 2
    assert ".csv, .tsv, .jsonl, .parquet" in capsys.readouterr().err
