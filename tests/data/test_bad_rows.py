"""Rows that can't be used: the first ends the reading or, if asked for, all are left out."""

import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from peft_sentiment.config import DataSettings
from peft_sentiment.data import csv_records
from peft_sentiment.data.bad_rows import BadRows, write_skipped_rows
from peft_sentiment.data.files import TEXTS, iterate_rows, read_rows
from peft_sentiment.data.sources import iterate_text_rows, load_labelled_file, load_reviews
from peft_sentiment.errors import BadRowError, DataError
from peft_sentiment.records.skipped import SkippedRow

MANY = 100_000
BROKEN = MANY // 2


def write_many(path: Path, broken: str) -> Path:
    """Write 100,000 rows of which the one in the middle is replaced."""
    rows = [f'{{"text": "film {n}", "label": "{"ab"[n % 2]}"}}' for n in range(MANY)]
    head = ""
    if path.suffix == ".csv":
        head, rows = "text,label\n", [f"film {n},{'ab'[n % 2]}" for n in range(MANY)]
    rows[BROKEN] = broken
    path.write_text(head + "\n".join(rows) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("name", "broken", "place", "words"),
    [
        ("a.csv", '"film, unclosed,a', f"line {BROKEN + 2}", "the row that starts here is broken"),
        ("a.csv", "film, more,a", f"line {BROKEN + 2}", "the row has 3 fields"),
        ("a.jsonl", '{"text": "cut', f"line {BROKEN + 1}", "not a JSON object"),
        ("a.jsonl", '{"text": "x", "label": 0.5}', f"line {BROKEN + 1}", "label 0.5 is no label"),
    ],
)
def test_one_broken_row_among_a_hundred_thousand(
    name: str, broken: str, place: str, words: str, tmp_path: Path
) -> None:
    path = write_many(tmp_path / name, broken)
    with pytest.raises(BadRowError, match=f"{place}: .*{words}.*--skip-bad-rows leaves"):
        load_reviews(DataSettings(train_file=str(path)))
    source = load_reviews(DataSettings(train_file=str(path), skip_bad_rows=True))
    assert len(source.train) == MANY - 1
    assert len(source.train) + source.duplicates_removed + len(source.skipped) == MANY
    assert [row.place for row in source.skipped] == [f"{path}, {place}"]
    assert words in source.skipped[0].reason


def skip(path: Path) -> tuple[list[str], list[SkippedRow]]:
    bad = BadRows(are_skipped=True)
    rows = read_rows(path, ("text", "label"), bad)
    return list(rows.columns["text"]), bad.found


def places(rows: list[SkippedRow], path: Path) -> list[str]:
    return [row.place.removeprefix(f"{path}, ") for row in rows]


@pytest.mark.parametrize("separator", [",", "\t"])
def test_rows_after_a_quote_that_is_not_closed_are_kept(separator: str, tmp_path: Path) -> None:
    rows = ["text,label", '"open,a', "dull,b", '"fine, and\nlong",a', '"x "y" z",b', "last,a"]
    path = tmp_path / {",": "a.csv", "\t": "a.tsv"}[separator]
    text = "\n".join(rows)
    text = text.replace("fine, and", "fine and").replace(",", separator)
    path.write_text(text, encoding="utf-8")
    texts, found = skip(path)
    assert texts == ["dull", "fine and\nlong", "last"]
    assert places(found, path) == ["line 2", "line 6"]


def test_bytes_that_are_not_utf_8_and_nul_cost_their_rows_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes("text,label\ncafé,a\n".encode() + b"caf\xe9,a\nx\0y,b\nfine,b\n")
    texts, found = skip(path)
    assert texts == ["café", "fine"]
    assert places(found, path) == ["line 3", "line 4"]
    assert "0xe9" in found[0].reason
    assert "NUL" in found[1].reason


def test_lines_of_json_and_of_text_are_left_out_alike(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    good = b'{"text": "fine", "label": 1}\n'
    path.write_bytes(good + b'{"text": "\xff", "label": 1}\n[]\n{"text": "x"}\n'
                     b'{"text": "\\ud83d", "label": 1}\n' + good)  # fmt: skip
    texts, found = skip(path)
    assert texts == ["fine", "fine"]
    assert places(found, path) == ["line 2", "line 3", "line 4", "line 5"]
    lines = tmp_path / "a.txt"
    lines.write_bytes(b"fine\n\n\xe9t\xe9\ndull\n")
    bad = BadRows(are_skipped=True)
    assert [text for _, text in iterate_text_rows(lines, DataSettings(), bad)] == ["fine", "dull"]
    assert places(bad.found, lines) == ["line 2", "line 3"]


def test_a_value_of_parquet_that_is_no_text_is_left_out(tmp_path: Path) -> None:
    raw = pa.array([b"fine", b"\xff\xfe", b"dull"]).cast(pa.binary())
    text = pa.Array.from_buffers(pa.string(), 3, raw.buffers())
    path = tmp_path / "a.parquet"
    parquet.write_table(pa.table({"text": text, "label": ["a", "b", "b"]}), path)
    with pytest.raises(BadRowError, match="row 2"):
        read_rows(path, ("text", "label"))
    texts, found = skip(path)
    assert texts == ["fine", "dull"]
    assert places(found, path) == ["row 2"]


def test_labels_texts_and_groups_that_are_none_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text,label,film\na,x,1\n ,x,1\nb,,1\nc,0.5,1\nd,y,\ne,y,2\n", encoding="utf-8")
    settings = DataSettings(train_file=str(path), skip_bad_rows=True, group_column="film")
    source = load_reviews(settings)
    assert (source.train.texts, source.train.groups) == (["a", "e"], ["1", "2"])
    assert places(list(source.skipped), path) == ["line 3", "line 4", "line 5", "line 6"]


def test_labels_that_the_training_lacks_are_left_out_of_a_test_file(tmp_path: Path) -> None:
    train, test = tmp_path / "train.csv", tmp_path / "test.csv"
    train.write_text("text,label\na,x\nb,y\n", encoding="utf-8")
    test.write_text("text,label\nc,x\nd,z\ne,y\n", encoding="utf-8")
    settings = DataSettings(train_file=str(train), test_file=str(test), skip_bad_rows=True)
    source = load_reviews(settings)
    assert source.test is not None
    assert source.test.texts == ["c", "e"]
    assert places(list(source.skipped), test) == ["line 3"]
    assert load_labelled_file(test, settings, ("x", "y")).reviews.texts == ["c", "e"]


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.csv", "text,label\na\nb\n"), ("a.jsonl", '{"txt": "a"}\n{"txt": "b"}\n')],
)
def test_a_file_of_bad_rows_alone_is_refused(name: str, content: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=r"none of its 2 rows can be used\. The first is .*line"):
        skip(path)


def test_texts_that_are_all_empty_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text,label\n ,a\n<br>,b\n", encoding="utf-8")
    with pytest.raises(DataError, match="none of its 2 rows can be used"):
        list(iterate_text_rows(path, DataSettings(), BadRows(are_skipped=True)))
    with pytest.raises(DataError, match="none of its 2 rows can be used"):
        load_reviews(DataSettings(train_file=str(path), skip_bad_rows=True))


@pytest.mark.parametrize(
    "content", [b"", b'"text,label\na,b\n', b"t\xffext,label\na,b\n", b"text,lab\na,b\n"]
)
def test_a_header_is_never_left_out(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        skip(path)
    assert "skip-bad-rows" not in str(caught.value)


def test_a_file_whose_every_row_seems_to_reach_to_its_end_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(csv_records, "MOST_LINES_READ_AGAIN", 1000)
    path = tmp_path / "a.csv"
    path.write_text("text,label\n" + 'x","open\n' * 200, encoding="utf-8")
    with pytest.raises(DataError, match="too many rows like this one"):
        skip(path)


def test_reading_stops_at_the_row_without_reading_on(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text,label\na,b\nc\nd,e\n", encoding="utf-8")
    rows: Iterator[object] = iterate_rows(path, ("text", "label"), TEXTS)
    assert next(rows) == (2, ["a", "b"])
    with pytest.raises(BadRowError, match="line 3"):
        next(rows)


def test_the_list_has_place_and_reason(tmp_path: Path) -> None:
    path = tmp_path / "skipped.jsonl"
    write_skipped_rows(path, [SkippedRow("a.csv, line 3", "é")])
    line = path.read_text(encoding="utf-8")
    assert json.loads(line) == {"place": "a.csv, line 3", "reason": "é"}
