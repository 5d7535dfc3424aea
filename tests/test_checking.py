"""`check`, as users meet it."""

import json
from pathlib import Path
from typing import Any

import pytest
from tiny_reviews import build_tiny_reviews, write_reviews_csv
from tiny_runs import TinyRun

from peft_sentiment.cli import main
from peft_sentiment.records.reviews import Reviews


@pytest.fixture
def base(tiny_distilbert: Path) -> list[str]:
    return ["--model-name-or-path", str(tiny_distilbert)]


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_sound_file_is_described(
    reviews_csv: Path, base: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", str(reviews_csv), "--no-near", *base]) == 0
    words = " ".join(capsys.readouterr().out.split())
    assert "200 rows" in words
    assert "negative 100 (50.0 %), positive 100 (50.0 %)" in words
    assert "are cut (--max-length)" in words
    assert "Nothing was found that deserves a look." in words


def test_rows_found_are_shown_as_far_as_asked_for_and_all_written(
    tiny_reviews: Reviews, base: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = [*tiny_reviews.texts[:20], *tiny_reviews.texts[:5]]
    labels = [*tiny_reviews.labels[:20], *tiny_reviews.labels[:5]]
    path = write_reviews_csv(tmp_path / "a.csv", Reviews(texts, labels))
    output = tmp_path / "found.jsonl"
    arguments = ["check", str(path), "--no-near", "--rows", "2", "--output", str(output), *base]
    assert main(arguments) == 0
    words = capsys.readouterr().out
    assert "5 rows with the text of an earlier row." in words
    assert "line 22, as line 2" in words
    assert "line 24" not in words
    assert "... and 3 more" in words
    lines = read_lines(output)
    assert [line["place"] for line in lines] == [f"line {n}" for n in range(22, 27)]
    assert lines[0] == {
        "source": str(path), "kind": "duplicate", "place": "line 22", "label": labels[0],
        "text": texts[0], "other": "line 2",
    }  # fmt: skip


def test_rows_that_training_refuses_end_with_exit_code_1(
    base: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text,label\nA fine film,a\n,b\nA dull film,\n", encoding="utf-8")
    assert main(["check", str(path), *base]) == 1
    shown = capsys.readouterr()
    assert "1 row without a text." in shown.out
    assert "1 row without a label." in shown.out
    assert "2 rows have no text or no label, the first of them line 3" in shown.err


def test_a_file_that_can_not_be_read_ends_with_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", str(tmp_path / "none.csv")]) == 2
    assert "no such file" in capsys.readouterr().err


def test_texts_alone_and_another_file_can_be_checked(
    base: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.txt").write_text("A fine film\nA dull film\n", encoding="utf-8")
    (tmp_path / "b.csv").write_text("text,label\nA dull film,a\n", encoding="utf-8")
    arguments = ["check", str(tmp_path / "a.txt"), "--against", str(tmp_path / "b.csv"), *base]
    assert main(arguments) == 0
    words = " ".join(capsys.readouterr().out.split())
    assert "Labels" not in words
    assert f"line 2, as {tmp_path / 'b.csv'}, line 2: A dull film" in words


def test_probable_label_errors_are_listed(
    tiny_reviews: Reviews, base: list[str], tmp_path: Path
) -> None:
    swapped = [3, 40, 77, 120, 161]
    labels = list(tiny_reviews.labels)
    for index in swapped:
        labels[index] = {"negative": "positive", "positive": "negative"}[labels[index]]
    path = write_reviews_csv(tmp_path / "a.csv", Reviews(tiny_reviews.texts, labels))
    output = tmp_path / "found.jsonl"
    assert main(["check", str(path), "--no-near", "--labels", "--output", str(output), *base]) == 0
    found = [line for line in read_lines(output) if line["kind"] == "label_error"]
    assert {f"line {index + 2}" for index in swapped} <= {line["place"] for line in found}
    assert all(line["detail"].startswith("rather ") for line in found)
    assert [line["score"] for line in found] == sorted(line["score"] for line in found)


def test_an_output_of_another_ending_is_refused(
    reviews_csv: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", str(reviews_csv), "--output", "a.csv"]) == 2
    assert "end in .jsonl" in capsys.readouterr().err


def test_unequal_labels_are_told(
    tiny_reviews: Reviews, base: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    unequal = tiny_reviews.take([*range(0, 60, 2), 1])
    path = write_reviews_csv(tmp_path / "a.csv", unequal)
    assert main(["check", str(path), "--no-near", *base]) == 0
    words = " ".join(capsys.readouterr().out.split())
    assert "negative 30 (96.8 %), positive 1 (3.2 %)" in words
    assert "--class-weights balanced" in words


def test_tokens_are_left_out_where_there_is_no_tokenizer(
    reviews_csv: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", str(reviews_csv), "--model-name-or-path", "some/model"]) == 0
    assert "Tokens" not in capsys.readouterr().out


def test_labels_written_differently_are_named_before_training(
    tiny_run: TinyRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_reviews_csv(tmp_path / "mixed.csv", build_tiny_reviews())
    lines = path.read_text(encoding="utf-8").split("\n")
    lines[2::8] = [line.replace(",positive", ",Positive") for line in lines[2::8]]
    path.write_text("\n".join(lines), encoding="utf-8")
    assert main(["check", str(path)]) == 0
    assert "label Positive, else positive" in " ".join(capsys.readouterr().out.split())
    assert main([*tiny_run.arguments, "--train-file", str(path), "--baselines", "none"]) == 0
    words = " ".join(capsys.readouterr().out.split())
    assert "Label Positive seems to be positive, written differently" in words


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([f"Film {n} is fine,pos" for n in range(9)], "two labels or more"),
        (["A film of note,a", "A film of note,b"], "there is only none"),
        ([f"Film {n} is fine,{n}" for n in range(60)], "no column of labels"),
    ],
)
def test_a_file_that_training_would_refuse_as_a_whole_ends_with_exit_code_1(
    rows: list[str], words: str, base: list[str], tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    path = tmp_path / "a.csv"
    path.write_text("\n".join(["text,label", *rows]))
    assert main(["check", str(path), "--no-near", *base]) == 1
    assert words in capsys.readouterr().err


def test_texts_that_two_files_share_end_with_exit_code_1(
    reviews_csv: Path, base: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["check", str(reviews_csv), "--against", str(reviews_csv), "--no-near", *base]
    assert main(arguments) == 1
    assert "200 texts stand in" in capsys.readouterr().err


def test_what_is_checked_is_not_written_over(
    tmp_path: Path, base: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "A fine film.", "label": "x"}\n')
    before = path.read_bytes()
    given = str(tmp_path / "." / "a.jsonl")
    assert main(["check", str(path), "--output", given, *base]) == 2
    assert "would be replaced" in capsys.readouterr().err
    assert path.read_bytes() == before


def test_sentences_of_scripts_without_blanks_are_not_short(
    tmp_path: Path, base: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text,label\n这部电影非常精彩,x\nとても退屈な映画でした,y\n", encoding="utf-8")
    assert main(["check", str(path), "--no-near", *base]) == 0
    assert "Nothing was found" in capsys.readouterr().out
