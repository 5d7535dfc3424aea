"""Reading row by row: nothing is held that was read, and nothing is read ahead of need."""

import csv
import itertools
import json
import os
import threading
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from peft_sentiment.config import DataSettings
from peft_sentiment.data.files import iterate_rows
from peft_sentiment.data.sources import iterate_text_rows
from peft_sentiment.errors import DataError

ENDINGS = [".csv", ".tsv", ".jsonl", ".parquet", ".txt"]
LONG_REVIEW = "word " * 400
MEGABYTE = 1 << 20


def list_texts(path: Path, text_column: str) -> list[str]:
    return [text for _, text in iterate_text_rows(path, DataSettings(text_column=text_column))]


def write_texts(path: Path, texts: list[str]) -> Path:
    match path.suffix:
        case ".parquet":
            parquet.write_table(pa.table({"text": texts}), path, row_group_size=500)
        case ".jsonl":
            lines = (json.dumps({"text": text}) + "\n" for text in texts)
            path.write_text("".join(lines), encoding="utf-8")
        case ".txt":
            path.write_text("\n".join(texts), encoding="utf-8")
        case ending:
            with path.open("w", encoding="utf-8", newline="") as file:
                rows = [["text"], *([text] for text in texts)]
                csv.writer(file, delimiter={".csv": ",", ".tsv": "\t"}[ending]).writerows(rows)
    return path


@pytest.mark.parametrize("ending", ENDINGS)
def test_each_text_comes_with_its_place(ending: str, tmp_path: Path) -> None:
    path = write_texts(tmp_path / f"a{ending}", ["fine <br />", "dull"])
    unit, first = {".parquet": ("row", 1), ".jsonl": ("line", 1), ".txt": ("line", 1)}.get(
        ending, ("line", 2)
    )
    assert list(iterate_text_rows(path, DataSettings())) == [
        (f"{path}, {unit} {first}", "fine"),
        (f"{path}, {unit} {first + 1}", "dull"),
    ]


@pytest.mark.parametrize("ending", ENDINGS)
def test_memory_does_not_grow_with_the_file(ending: str, tmp_path: Path) -> None:
    texts = [f"{LONG_REVIEW}{number}" for number in range(10_000)]
    path = write_texts(tmp_path / f"a{ending}", texts)
    assert sum(map(len, texts)) > 18 * MEGABYTE
    del texts
    tracemalloc.start()
    try:
        held_by_arrow = [
            pa.total_allocated_bytes() for _ in iterate_text_rows(path, DataSettings())
        ]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(held_by_arrow) == 10_000
    assert peak < 6 * MEGABYTE
    assert max(held_by_arrow) < 12 * MEGABYTE


def test_a_fault_late_in_a_file_leaves_the_rows_before_it(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text\nfine\ndull\na,b\n", encoding="utf-8")
    rows = iterate_text_rows(path, DataSettings())
    assert [text for _, text in itertools.islice(rows, 2)] == ["fine", "dull"]
    with pytest.raises(DataError, match="line 4: the row has 2 fields"):
        next(rows)


@pytest.mark.parametrize(("name", "words"), [("none.csv", "no such file"), ("a.xls", "'.xls'")])
def test_a_file_that_can_not_be_read_is_told_before_the_first_row(
    name: str, words: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=words):
        iterate_text_rows(tmp_path / name, DataSettings())


def test_readers_that_take_turns_do_not_disturb_each_other(tmp_path: Path) -> None:
    long = "word " * 100_000
    path = write_texts(tmp_path / "a.csv", ["fine", long, long])
    limit = csv.field_size_limit()
    one, other = iterate_text_rows(path, DataSettings()), iterate_text_rows(path, DataSettings())
    pairs = list(itertools.zip_longest(_texts(one), itertools.islice(_texts(other), 2)))
    assert pairs == [("fine", "fine"), (long.strip(), long.strip()), (long.strip(), None)]
    assert csv.field_size_limit() == limit


def _texts(rows: Iterator[tuple[str, str]]) -> Iterator[str]:
    return (text for _, text in rows)


def test_a_pipe_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_text, args=('{"text": "fine"}\n',))
    writer.start()
    assert list_texts(path, "text") == ["fine"]
    writer.join()


def test_parquet_columns_come_in_the_order_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    parquet.write_table(pa.table({"label": [1, 0], "x": [0, 0], "text": ["a", "b"]}), path)
    assert list(iterate_rows(path, ["text", "label"])) == [(1, ["a", 1]), (2, ["b", 0])]


def test_numbers_of_classes_have_the_names_that_stand_beside_them(tmp_path: Path) -> None:
    feature = {"names": ["positive", "negative"], "_type": "ClassLabel"}
    info = {"info": {"features": {"text": {"_type": "Value"}, "label": feature}}}
    table = pa.table({"text": ["a", "b", "c"], "label": [0, 1, -1]})
    path = tmp_path / "a.parquet"
    parquet.write_table(table.replace_schema_metadata({"huggingface": json.dumps(info)}), path)
    rows = list(iterate_rows(path, ["text", "label"]))
    assert [row for _, row in rows] == [["a", "positive"], ["b", "negative"], ["c", None]]
    parquet.write_table(table.replace_schema_metadata({"huggingface": "{"}), path)
    assert [row[1] for _, row in iterate_rows(path, ["text", "label"])] == [0, 1, -1]


def test_a_path_that_can_t_be_looked_at_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DataError, match=r"can't be looked at .File name too long"):
        iterate_rows(Path("a" * 300 + ".csv"), ["text"])

    def bar(_path: Path) -> bool:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "is_dir", bar)
    with pytest.raises(DataError, match=r"a\.csv: can't be looked at .Permission denied.*who may"):
        iterate_rows(tmp_path / "a.csv", ["text"])
