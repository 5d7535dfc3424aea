"""Files in other encodings and with other delimiters: the same rows, or a message that says how."""

import csv
import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny_runs import TinyRun

from peft_sentiment.checking import load_rows
from peft_sentiment.cli import main
from peft_sentiment.config import DataSettings, Settings, load_settings
from peft_sentiment.data.bad_rows import BadRows
from peft_sentiment.data.dialect import Dialect
from peft_sentiment.data.files import TEXTS, iterate_rows, read_rows
from peft_sentiment.data.sources import load_labelled_file, load_reviews
from peft_sentiment.data.streaming import load_streamed
from peft_sentiment.data.utf8 import _BLOCK_BYTES
from peft_sentiment.errors import DataError, SettingsError

ROWS = [("Un café; très bon", "gut"), ('Said "fine",\nthen slept', "schlecht"), ("naïve", "gut")]
ENCODINGS = [
    "utf-8",
    "utf-8-sig",
    "cp1252",
    "latin-1",
    "utf-16",
    "utf-16-be",
    "utf-32",
    "mac_roman",
]


def write_delimited(path: Path, encoding: str, delimiter: str) -> Path:
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter).writerows([("text", "label"), *ROWS])
    path.write_bytes(text.getvalue().encode(encoding))
    return path


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("skip", [False, True])
def test_the_same_rows_come_however_they_are_written(
    encoding: str, delimiter: str, skip: bool, tmp_path: Path
) -> None:
    path = write_delimited(tmp_path / "a.csv", encoding, delimiter)
    dialect = Dialect(encoding, delimiter)
    rows = iterate_rows(path, ("text", "label"), bad=BadRows(skip), dialect=dialect)
    assert list(rows) == [(2, [*ROWS[0]]), (3, [*ROWS[1]]), (5, [*ROWS[2]])]


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "a.json", "a.txt"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_packed_file_gives_the_rows_of_what_it_holds(
    name: str, encoding: str, tmp_path: Path
) -> None:
    content = {".csv": "text,x\na,1\nb,2\n", ".tsv": "text\na\nb\n", ".txt": "a\nb\n"}.get(
        Path(name).suffix, '{"text": "a"}\n{"text": "b"}\n'
    )
    plain, packed = tmp_path / name, tmp_path / f"{name}.gz"
    plain.write_bytes(content.encode(encoding))
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    found = [
        list(iterate_rows(path, ["text"], TEXTS, dialect=Dialect(encoding)))
        for path in (plain, packed)
    ]
    assert found[0] == found[1]
    assert len(found[0]) == 2


@pytest.mark.parametrize("cut", [3, 12, 40, -4])
def test_a_packed_file_that_breaks_off_is_refused(cut: int, tmp_path: Path) -> None:
    path = tmp_path / "a.csv.gz"
    rows = "".join(f"film {number * 7919 % 1000},a\n" for number in range(1000))
    path.write_bytes(gzip.compress(f"text,label\n{rows}".encode())[:cut])
    with pytest.raises(DataError, match=r"a\.csv\.gz: the file can't be read"):
        read_rows(path, ("text", "label"))


def test_what_is_not_packed_but_named_so_is_refused(tmp_path: Path) -> None:
    for name in ("a.csv.gz", "a.parquet.gz"):
        (tmp_path / name).write_text("text,label\na,b\n", encoding="utf-8")
        with pytest.raises(DataError, match="the file can't be read"):
            read_rows(tmp_path / name, ("text", "label"))


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_lines_come_in_any_encoding(encoding: str, tmp_path: Path) -> None:
    lines, records = tmp_path / "a.txt", tmp_path / "a.jsonl"
    lines.write_bytes("café\nnaïve\n".encode(encoding))
    of_json = [json.dumps({"text": text}, ensure_ascii=False) for text in ("café", "naïve")]
    records.write_bytes("\n".join(of_json).encode(encoding))
    for path in (lines, records):
        found = iterate_rows(path, ["text"], TEXTS, dialect=Dialect(encoding))
        assert [text.strip() for _, (text,) in found] == ["café", "naïve"]


@pytest.mark.parametrize(
    ("encoding", "words"), [("cp1252", "é x"), ("utf-16", "映画 "), ("shift_jis", "映画 ")]
)
@pytest.mark.parametrize("shift", range(4))
def test_characters_that_lie_across_blocks_stay_whole(
    encoding: str, words: str, shift: int, tmp_path: Path
) -> None:
    text = "x" * shift + words * (_BLOCK_BYTES // 2)
    path = tmp_path / "a.txt"
    path.write_bytes(text.encode(encoding))
    [(_, (found,))] = iterate_rows(path, ["text"], TEXTS, dialect=Dialect(encoding))
    assert found == text


@pytest.mark.parametrize(
    ("content", "encoding", "words"),
    [
        (b"text,label\n\xe9t\xe9,a\n", "utf-8", ["line 2: byte 12 ", "0xe9", "--encoding cp1252"]),
        ("text,label\nx,a\n".encode("utf-16"), "utf-8", ["line 1: byte 1 ", "--encoding utf-16"]),
        (b"text,label\nfine,a\nd\x81ll,b\n", "cp1252",
         ["line 3: byte 20 ", "0x81", "nothing in cp1252", "--encoding"]),
        ("text,label\nfine,a\n".encode("utf-16") + b"\0", "utf-16", ["line 3: byte 39 ", "utf-16"]),
        (b"text,label\nfine,a\n\0,b\n", "cp1252", ["line 3", "NUL byte"]),
        (b"", "cp1252", ["the file is empty"]),
    ],
)  # fmt: skip
def test_what_is_not_in_the_encoding_is_told_with_its_place(
    content: bytes, encoding: str, words: list[str], tmp_path: Path
) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(content)
    with pytest.raises(DataError) as told:
        read_rows(path, ("text", "label"), dialect=Dialect(encoding))
    assert all(word in str(told.value) for word in words), str(told.value)


def test_a_row_that_is_not_in_the_encoding_is_left_out_if_asked(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"text,label\nd\x81ll,b\ncaf\xe9,a\n")
    bad = BadRows(are_skipped=True)
    rows = read_rows(path, ("text", "label"), bad, Dialect("cp1252"))
    assert rows.columns["text"] == ["café"]
    assert [(row.place, "nothing in cp1252" in row.reason) for row in bad.found] == [
        (f"{path}, line 2", True)
    ]


@pytest.mark.parametrize(
    ("header", "advice"),
    [
        ("text;label", "--delimiter ';'"),
        ("text\tlabel", "--delimiter tab"),
        ("text|label", "--delimiter '|'"),
        ("texts", "Did you mean texts? Columns are named with --text-column"),
        ("a;b,text;label", "Columns are named with --text-column"),
    ],
)
def test_a_header_that_another_delimiter_divides_is_told(
    header: str, advice: str, tmp_path: Path
) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f"{header}\nfine;a\n", encoding="utf-8")
    with pytest.raises(DataError, match="no column 'text'") as told:
        read_rows(path, ("text", "label"))
    assert advice in str(told.value)
    assert ("--delimiter" in str(told.value)) is ("--delimiter" in advice)


def read_whole(path: Path, settings: DataSettings) -> list[str]:
    return [*load_reviews(settings).train.texts]


def read_alone(path: Path, settings: DataSettings) -> list[str]:
    return [*load_labelled_file(path, settings, ("gut", "schlecht")).reviews.texts]


def read_to_check(path: Path, settings: DataSettings) -> list[str]:
    return [*load_rows(str(path), Settings(data=settings)).texts]


@pytest.mark.parametrize("read", [read_whole, read_alone, read_to_check])
def test_settings_say_how_a_file_is_written(
    read: Callable[[Path, DataSettings], list[str]], tmp_path: Path
) -> None:
    path = write_delimited(tmp_path / "a.csv", "cp1252", ";")
    settings = DataSettings(train_file=(str(path),), encoding="cp1252", delimiter=";")
    assert read(path, settings) == [text for text, _ in ROWS]


def test_a_streamed_file_is_read_again_when_it_is_said_to_be_written_otherwise(
    tmp_path: Path,
) -> None:
    path = tmp_path / "a.csv"
    rows = "".join(f"café {number},{'ab'[number % 2]}\n" for number in range(40))
    path.write_bytes(f"text,label\n{rows}".encode())
    texts = []
    for encoding in ("utf-8", "cp1252"):
        settings = DataSettings(train_file=(str(path),), streaming=True, encoding=encoding)
        streamed = load_streamed(settings, 0, tmp_path / "cache", lambda *_: None)
        texts.append(streamed.splits.train.texts[0].split()[0])
    assert texts == ["café", "cafÃ©"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("encoding", "utf9"),
        ("encoding", "rot13"),
        ("encoding", "a\0b"),
        ("delimiter", ""),
        ("delimiter", ";;"),
        ("delimiter", '"'),
        ("delimiter", "\n"),
    ],
)
def test_what_names_no_encoding_or_delimiter_is_refused(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=rf"data\.{name} is .*, but must be"):
        load_settings(overrides={"data": {name: value}})


@pytest.mark.parametrize("value", ["tab", "\\t", "\t"])
def test_a_tab_is_named_in_words_or_typed(value: str) -> None:
    assert load_settings(overrides={"data": {"delimiter": value}}).data.delimiter == "\t"


def test_a_saved_adapter_labels_and_is_scored_on_such_files(
    finished_tiny_run: TinyRun, tmp_path: Path
) -> None:
    plain, other = tmp_path / "plain.csv", tmp_path / "other.csv"
    text = "text,label\nA good café.,positive\nA dull naïveté.,negative\n"
    plain.write_text(text, encoding="utf-8")
    other.write_bytes(text.replace(",", ";").encode("cp1252"))
    labelled = []
    for path, flags in ((plain, []), (other, ["--encoding", "cp1252", "--delimiter", ";"])):
        adapter, output = str(finished_tiny_run.adapter), tmp_path / f"{path.stem}.jsonl"
        asked = ["--adapter", adapter, "--no-bf16", "--output", str(output), *flags]
        assert main(["predict", "--file", str(path), *asked]) == 0
        assert main(["evaluate", adapter, "--test-file", str(path), "--no-bf16", *flags]) == 0
        assert main(["verify", adapter, "--file", str(path), *flags]) == 0
        labelled.append(output.read_text(encoding="utf-8"))
    assert labelled[0] == labelled[1]
