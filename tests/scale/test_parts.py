"""Files in parts: every row once, broken ones aside, and the same division whenever it is made."""

import io
import json
from collections.abc import Sequence
from pathlib import Path

import fsspec
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from peft_sentiment.errors import DataError, OutputError
from peft_sentiment.scale import records as records_module
from peft_sentiment.scale.plan import Part, list_files, plan_parts
from peft_sentiment.scale.records import Columns, Record, split_records
from peft_sentiment.scale.store import Store

COLUMNS = Columns("text", "id")
TEXTS = ("plain", 'with "quotes", and commas', "two\nlines\n", "x", 'ends in "', "a\r\nb")


def read_all(pattern: Path | str, columns: Columns, rows: int) -> list[Record]:
    parts = plan_parts(list_files(str(pattern)), columns, rows)
    assert [part.number for part in parts] == list(range(len(parts)))
    return [record for part in parts for record in Part.from_json(part.as_json()).read(columns)]


def write_csv(path: Path, texts: Sequence[str]) -> None:
    quoted = (text.replace('"', '""') for text in texts)
    rows = "".join(f'{i},"{text}"\n' for i, text in enumerate(quoted))
    path.write_text("id,text\n" + rows, encoding="utf-8", newline="")


@pytest.mark.parametrize("rows", [1, 2, 5, 100])
@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_every_row_is_read_once_whatever_the_parts(ending: str, rows: int, tmp_path: Path) -> None:
    texts, path = [f"{text}{i}" for i in range(4) for text in TEXTS], tmp_path / f"r.{ending}"
    if ending == "csv":
        write_csv(path, texts)
    elif ending == "jsonl":
        lines = (json.dumps({"id": i, "text": text}) for i, text in enumerate(texts))
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    else:
        table = pa.table({"id": list(range(len(texts))), "text": texts})
        parquet.write_table(table, path, row_group_size=7)
    found = read_all(path, COLUMNS, rows)
    assert [record.key for record in found] == [str(i) for i in range(len(texts))]
    assert [record.text for record in found] == [text.strip() for text in texts]


def test_without_a_key_column_file_and_row_are_the_key(tmp_path: Path) -> None:
    for name in ("a.csv", "b.csv"):
        write_csv(tmp_path / name, ["first", "second"])
    keys = [record.key for record in read_all(tmp_path, Columns("text", None), 1)]
    assert keys == [f"{tmp_path}/{name}.csv:{row}" for name in "ab" for row in (1, 2)]


def test_folders_globs_and_object_stores_are_read(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    for path in (tmp_path / "a.csv", tmp_path / "deep" / "b.csv"):
        write_csv(path, ["text"])
    (tmp_path / "notes.md").touch()
    assert len(list_files(str(tmp_path))) == 2
    assert len(list_files(f"{tmp_path}/*.csv")) == 1
    with fsspec.open("memory://reviews/c.jsonl", "w") as file:
        file.write('{"text": "stored", "id": "k"}\n')
    (record,) = read_all("memory://reviews", COLUMNS, 10)
    assert (record.key, record.text) == ("k", "stored")
    with pytest.raises(DataError, match="there is no file of the endings"):
        list_files(f"{tmp_path}/*.xml")


def test_a_broken_row_of_csv_costs_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records_module, "LONGEST_RECORD", 200)
    bad = [b"1,two,many", b"2,\xff\xfe", b"3,", b",no key", b'5,"never closed', b'6,"a"b']
    good = [b'10,a 5" disk', b'11,"quoted, and\nlong"', b"12,last"]
    rows = [row for pair in zip(bad[:3], good, strict=True) for row in pair] + bad[3:]
    rows += [b"%d,after" % i for i in range(20, 60)]
    (tmp_path / "r.csv").write_bytes(b"id,text\n" + b"\n".join(rows) + b"\n")
    for size in (1, 3, 100):
        found = read_all(tmp_path / "r.csv", COLUMNS, size)
        sound = [record.key for record in found if record.text is not None]
        assert sound == ["10", "11", "12", *map(str, range(20, 60))]
        broken = [(record.number, record.fault) for record in found if record.fault]
        assert [number for number, _ in broken] == [1, 3, 5, 7, 8, 9]
        assert all(fault for _, fault in broken)


def test_a_broken_line_of_json_costs_no_other(tmp_path: Path) -> None:
    rows = ['{"id": 1, "text": "a"}', "{", "[]", "", '{"id": 5}', '{"id": 6, "text": 7}',
            '{"id": 7, "text": "\\ud800"}', '{"id": 8, "text": "b"}']  # fmt: skip
    (tmp_path / "r.jsonl").write_text("\n".join(rows), encoding="utf-8")
    found = read_all(tmp_path / "r.jsonl", COLUMNS, 3)
    assert [record.key for record in found if record.text is not None] == ["1", "8"]
    assert [record.number for record in found if record.fault] == [2, 3, 5, 6, 7]


def test_a_missing_column_is_told_before_anything_is_scored(tmp_path: Path) -> None:
    write_csv(tmp_path / "r.csv", ["text"])
    with pytest.raises(DataError, match="no column 'review'"):
        plan_parts(list_files(str(tmp_path)), Columns("review", None), 10)


@given(st.lists(st.text(st.sampled_from('a,"\n'), max_size=8), max_size=8))
def test_no_byte_is_lost_when_records_are_split(lines: list[str]) -> None:
    raw = "\n".join(lines).encode()
    assert b"".join(split_records(io.BytesIO(raw), ",")) == raw


def test_a_folder_of_another_job_or_of_other_files_is_refused(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "labels"))
    assert store.open_job({"sha256": "a"}) == set()
    assert store.open_job({"sha256": "a"}) == set()
    with pytest.raises(OutputError, match="another job: sha256 differ"):
        store.open_job({"sha256": "b"})
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    with pytest.raises(OutputError, match="no job that could be gone on with"):
        Store(str(tmp_path / "mine")).open_job({"sha256": "a"})
