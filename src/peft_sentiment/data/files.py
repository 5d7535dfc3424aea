"""Columns of a CSV, TSV, JSON Lines, Parquet or text file, each value with its line or row.

Nothing is guessed and nothing skipped but blank lines: a file that is not what its ending says
ends in a DataError with the place, because a row read wrongly is a label learned wrongly.
"""

import contextlib
import csv
import functools
import io
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peft_sentiment.errors import DataError, suggest

_LINE_END = re.compile(rb"\r\n|\r|\n")
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")

# The largest limit that fits a C long on every platform.
_NO_FIELD_LIMIT = 2**31 - 1


@dataclass(frozen=True)
class Rows:
    """Columns of one file or split as they were read, unchecked.

    Attributes:
        source: file or split, as messages name it.
        unit: what `numbers` count: line or row.
        numbers: the line or row of each value, from 1.
        columns: column name -> its values.
    """

    source: str
    unit: str
    numbers: Sequence[int]
    columns: Mapping[str, Sequence[Any]]

    def place(self, index: int) -> str:
        """Return where a row stands, such as 'reviews.csv, line 7'."""
        return f"{self.source}, {self.unit} {self.numbers[index]}"


_Reader = Callable[[Path, Sequence[str]], Rows]


def read_rows(path: Path, columns: Sequence[str]) -> Rows:
    """Read columns of a CSV, TSV, JSON Lines or Parquet file, chosen by its ending.

    Args:
        path: the file.
        columns: names of the columns to read; the first is the text column.

    Raises:
        DataError: the file is missing, empty, not what its ending says, or lacks a column.
    """
    return _read(path, columns, _READERS)


def read_text_rows(path: Path, text_column: str) -> Rows:
    """Read the text column of a file, or the lines of a .txt file.

    Raises:
        DataError: as for `read_rows`.
    """
    return _read(path, [text_column], {**_READERS, ".txt": _read_lines})


def require_column(name: str, columns: Sequence[str], place: str) -> None:
    """Check that a column is there, once.

    Raises:
        DataError: it is missing or there several times; the message names the columns found.
    """
    if columns.count(name) == 1:
        return
    problem = f"there are {columns.count(name)} columns" if name in columns else "no column"
    known = [shorten(column) for column in columns]
    advice = "Rename one of them." if name in columns else suggest(name, known) if known else ""
    raise DataError(
        f"{place}: {problem} {name!r} (found: {', '.join(known) or 'none'}). {advice} "
        "Columns are named with --text-column and --label-column."
    )


def shorten(value: object, limit: int = 60) -> str:
    """Return a value for a message: printable, on one line, and cut when it is long."""
    shown = value if isinstance(value, str) and value.isprintable() else repr(value)
    return shown if len(shown) <= limit else shown[:limit] + "..."


def _read(path: Path, columns: Sequence[str], readers: Mapping[str, _Reader]) -> Rows:
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise DataError(
            f"{path}: files that end in {path.suffix or 'nothing'!r} can't be read. "
            f"Supported endings: {', '.join(readers)}."
        )
    _require_file(path)
    rows = reader(path, columns)
    if not rows.numbers:
        raise DataError(f"{path}: there are no reviews in this file. Add some, or name another.")
    return rows


def _require_file(path: Path) -> None:
    if path.is_dir():
        raise DataError(f"{path}: this is a folder. Give the path of a file in it.")
    if not path.exists():
        raise DataError(f"{path}: no such file. Check the path; it is relative to {Path.cwd()}.")


def _read_utf8(path: Path) -> bytes:
    """Return a file's bytes, known to be UTF-8, without the mark that Excel puts first."""
    try:
        data = path.read_bytes()
        data.decode("utf-8")
    except OSError as error:
        raise _unreadable(path, error) from error
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}, line {_count_line(data, error.start)}: byte {error.start + 1} of the file "
            f"is 0x{data[error.start]:02x}, which is not UTF-8. Save the file as UTF-8."
        ) from None
    if not data:
        raise DataError(f"{path}: the file is empty. Add reviews, or name another file.")
    return data.removeprefix(b"\xef\xbb\xbf")


def _unreadable(path: Path, error: Exception) -> DataError:
    reason = getattr(error, "strerror", None) or " ".join(str(error).split())
    return DataError(f"{path}: the file can't be read ({reason}). Check that it is complete.")


def _count_line(data: bytes, offset: int) -> int:
    return len(_LINE_END.findall(data, 0, offset)) + 1


def _list_lines(data: bytes) -> Iterator[tuple[int, str]]:
    """Yield each line with its number; only line feeds and carriage returns end one."""
    return enumerate(io.TextIOWrapper(io.BytesIO(data), "utf-8"), start=1)


def _read_lines(path: Path, columns: Sequence[str]) -> Rows:
    numbers, texts = [], []
    for number, line in _list_lines(_read_utf8(path)):
        if not line.strip():
            raise DataError(
                f"{path}, line {number}: the line is blank, but each must hold one review. "
                "Remove it."
            )
        numbers.append(number)
        texts.append(line)
    return Rows(str(path), "line", numbers, {columns[0]: texts})


def _read_delimited(path: Path, columns: Sequence[str], *, delimiter: str) -> Rows:
    data = _read_utf8(path)
    _refuse_nul(path, data)
    with _unlimited_fields():
        records = _parse_records(path, data, delimiter)
        line, header = next(records, (1, []))
        for name in columns:
            require_column(name, header, f"{path}, line {line}")
        places = [header.index(name) for name in columns]
        numbers: list[int] = []
        values: list[list[str]] = [[] for _ in columns]
        for line, fields in records:
            if len(fields) != len(header):
                raise _misfit(f"{path}, line {line}", len(fields), len(header), delimiter)
            numbers.append(line)
            for column, place in zip(values, places, strict=True):
                column.append(fields[place])
    return Rows(str(path), "line", numbers, dict(zip(columns, values, strict=True)))


def _refuse_nul(path: Path, data: bytes) -> None:
    offset = data.find(b"\0")
    if offset >= 0:
        raise DataError(
            f"{path}, line {_count_line(data, offset)}: there is a NUL byte, which no text has. "
            "Save the file as UTF-8."
        )


@contextlib.contextmanager
def _unlimited_fields() -> Iterator[None]:
    """Let a CSV field be longer than 131,072 characters, Python's limit, as some reviews are."""
    limit = csv.field_size_limit(_NO_FIELD_LIMIT)
    try:
        yield
    finally:
        csv.field_size_limit(limit)


def _parse_records(path: Path, data: bytes, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the fields of each record, with the line on which it starts."""
    text = io.TextIOWrapper(io.BytesIO(data), "utf-8", newline="")
    reader = csv.reader(text, delimiter=delimiter, strict=True)
    line = 1
    try:
        for fields in reader:
            if fields:
                yield line, fields
            line = reader.line_num + 1
    except csv.Error as error:
        raise DataError(
            f"{path}, line {line}: the row that starts here is broken at line {reader.line_num} "
            f"({error}). Put a text with quotes in it between quotes, and double those inside."
        ) from None


def _misfit(place: str, found: int, needed: int, delimiter: str) -> DataError:
    name = {",": "comma", "\t": "tab"}[delimiter]
    return DataError(
        f"{place}: the row has {found} fields, but the header {needed}. "
        f'Put a text with a {name} in it between quotes: "...".'
    )


def _read_json_lines(path: Path, columns: Sequence[str]) -> Rows:
    numbers: list[int] = []
    values: dict[str, list[Any]] = {name: [] for name in columns}
    for number, line in _list_lines(_read_utf8(path)):
        if not line.strip():
            continue
        place = f"{path}, line {number}"
        record = _parse_json_line(line, place)
        for name in columns:
            if name not in record:
                require_column(name, list(record), place)
            values[name].append(record[name])
        numbers.append(number)
    return Rows(str(path), "line", numbers, values)


def _reason(error: Exception) -> str:
    """Return what is wrong with a line, without the line number that JSON counts within it."""
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at column {error.colno}"
    return str(error)


def _parse_json_line(line: str, place: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
    # A number of thousands of digits and a thousand nested lists are valid JSON, yet no record.
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{place}: this is not a JSON object on one line ({_reason(error)}). "
            'Write each review as {"text": "...", "label": "..."} on a line of its own.'
        ) from None
    if not isinstance(record, dict):
        raise DataError(
            f"{place}: the line holds {shorten(record)}, but must hold an object. "
            'Write each review as {"text": "...", "label": "..."} on a line of its own.'
        )
    # Only an escape can bring one in: the file itself is valid UTF-8.
    if "\\u" in line and _LONE_SURROGATE.search(json.dumps(record, ensure_ascii=False)):
        raise DataError(
            f"{place}: there is half a character (a lone surrogate such as \\ud83d), left over "
            "where a text was cut. Remove it."
        )
    return record


def _read_parquet(path: Path, columns: Sequence[str]) -> Rows:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            for name in columns:
                require_column(name, file.schema_arrow.names, str(path))
            table = file.read(columns=list(columns))
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(path, error) from error
    _require_string_type(path, columns[0], table.schema.field(columns[0]).type)
    values = {name: _list_values(path, name, table.column(name)) for name in columns}
    return Rows(str(path), "row", range(1, table.num_rows + 1), values)


def _require_string_type(path: Path, column: str, kind: Any) -> None:  # noqa: ANN401 - pyarrow has no types
    import pyarrow as pa

    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    is_string = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    if not any(check(kind) for check in is_string):
        raise DataError(
            f"{path}: column {column!r} holds {kind}, but must hold strings. "
            "Name another with --text-column, or convert it."
        )


def _list_values(path: Path, name: str, column: Any) -> list[Any]:  # noqa: ANN401 - pyarrow has no types
    values = []
    try:
        # One by one, so that a value that is no text is known by its row.
        for value in column:
            values.append(value.as_py())
    except (UnicodeDecodeError, ValueError, OverflowError) as error:
        raise DataError(
            f"{path}, row {len(values) + 1}: the value of column {name!r} can't be read "
            f"({error}). Correct the row."
        ) from None
    return values


_READERS: dict[str, _Reader] = {
    ".csv": functools.partial(_read_delimited, delimiter=","),
    ".tsv": functools.partial(_read_delimited, delimiter="\t"),
    ".jsonl": _read_json_lines,
    ".ndjson": _read_json_lines,
    ".json": _read_json_lines,
    ".parquet": _read_parquet,
    ".pq": _read_parquet,
}
