"""Reviews without labels are learned from; those of a test are not."""

import json
from pathlib import Path

import pytest
from tiny_reviews import build_tiny_reviews
from tiny_runs import TinyRun

from peft_sentiment.cli import main
from peft_sentiment.config import load_settings
from peft_sentiment.data.sources import load_reviews
from peft_sentiment.data.split import split_reviews
from peft_sentiment.self_training import iterate_unlabelled

SIZES = ("--train-size", "30", "--validation-size", "20", "--test-size", "40")


@pytest.fixture
def run(tmp_path: Path, tiny_distilbert: Path, reviews_csv: Path) -> TinyRun:
    return TinyRun(tmp_path / "run", tiny_distilbert, reviews_csv)


@pytest.fixture
def unlabelled(tmp_path: Path) -> Path:
    """All tiny reviews, a line each: those of the run's parts are among them."""
    path = tmp_path / "unlabelled.txt"
    path.write_text("".join(f"{text}\n" for text in build_tiny_reviews().texts), encoding="utf-8")
    return path


def test_no_review_of_a_part_is_taken_for_an_unlabelled_one(run: TinyRun, unlabelled: Path) -> None:
    values = {
        "train_file": [str(run.reviews)],
        "unlabelled": str(unlabelled),
        "train_size": 30,
        "validation_size": 20,
        "test_size": 40,
    }
    settings = load_settings(overrides={"data": values}).data
    splits = split_reviews(load_reviews(settings), settings, seed=1)
    texts = list(iterate_unlabelled(settings, splits))
    parts = {*splits.train.texts, *splits.validation.texts, *splits.test.texts}
    assert len(texts) == len(set(texts)) == 200 - len(parts)
    assert not parts & {*texts}


def test_a_run_learns_from_the_surest_and_says_so(
    run: TinyRun, unlabelled: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--unlabelled", str(unlabelled), "--contrastive-epochs", "8"]
    assert main([*run.arguments, *SIZES, *flags, "--baselines", "tfidf"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "of 110 reviews without labels, 55 are learned from" in printed
    results = json.loads((run.output / "results.json").read_text())
    assert results["data"]["train"] == 30
    assert results["data"]["unlabelled"] == 110
    assert results["data"]["pseudo_labelled"] == 55
    assert results["training"]["reviews"] == 85
    assert "55 of 110 reviews without labels" in (run.output / "report.html").read_text()
    # The pairs are the teacher's; the adapter that is kept has no first stage.
    lines = (run.output / "steps.jsonl").read_text().splitlines()
    kinds = {json.loads(line)["kind"] for line in lines}
    assert kinds == {"StepRecord", "ValidationRecord"}


def test_reviews_that_were_learned_from_are_refused_in_a_later_test(
    run: TinyRun, unlabelled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*run.arguments, *SIZES, "--unlabelled", str(unlabelled)]) == 0
    evaluate = ["evaluate", str(run.adapter), "--test-file", str(run.reviews)]
    assert main([*evaluate, "--output", str(tmp_path / "out.json")]) != 0
    # 30 of training, 20 of validation, 55 with pseudo-labels.
    assert "105" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "flags", "message"),
    [
        ("", [], "the file is empty"),
        ("A film.\n", ["--companion", "tfidf"], "leave one of the two out"),
    ],
)
def test_what_can_not_be_is_told_before_training(
    run: TinyRun,
    tmp_path: Path,
    content: str,
    flags: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "few.txt"
    path.write_text(content, encoding="utf-8")
    assert main([*run.arguments, *SIZES, "--unlabelled", str(path), *flags]) == 2
    assert message in capsys.readouterr().err


def test_a_file_of_known_reviews_alone_is_refused(
    run: TinyRun, unlabelled: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = ["--train-size", "140", "--validation-size", "20", "--test-size", "40"]
    assert main([*run.arguments, *sizes, "--unlabelled", str(unlabelled)]) == 2
    assert "no review in it is new" in capsys.readouterr().err
