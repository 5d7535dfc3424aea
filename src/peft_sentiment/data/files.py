"""Rows of a CSV, TSV, JSON Lines, Parquet or text file, each with its line or row.

They come one by one, in memory that does not grow with the file. Nothing is guessed and, unless it
is asked for, nothing skipped but blank lines: a file that is not what its ending says ends in a
DataError with the place, because a row read wrongly is a label learned wrongly.
"""

import functools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peft_sentiment.data.bad_rows import BadRows
from peft_sentiment.data.columns import Row, Rows, require_column, shorten
from peft_sentiment.data.csv_records import iterate_records
from peft_sentiment.data.dialect import USUAL, Dialect, advise_delimiter
from peft_sentiment.data.json_records import read_json, read_json_lines
from peft_sentiment.data.utf8 import GZIP, build_read_error, find_broken_byte, open_utf8
from peft_sentiment.errors import BadRowError, DataError

_PARQUET_BATCH = 1000
_PARQUET_BUFFER_BYTES = 1 << 20


@dataclass(frozen=True)
class FileFormat:
    """How the files of an ending are read.

    Attributes:
        unit: what a row is counted in: line or row.
        read: yields the rows of a file with the values of some columns.
    """

    unit: str
    read: Callable[[Path, Sequence[str], BadRows, Dialect], Iterator[Row]]


def read_rows(
    path: Path, columns: Sequence[str], bad: BadRows | None = None, dialect: Dialect = USUAL
) -> Rows:
    """Read columns of a CSV, TSV, JSON Lines or Parquet file, chosen by its ending.

    Args:
        path: the file.
        columns: names of the columns to read; the first is the text column.
        bad: meets the rows that can't be read; by default the first ends the reading.
        dialect: how the file's text is written.

    Raises:
        DataError: the file is missing, empty, not what its ending says, or lacks a column.
    """
    numbers: list[int] = []
    values: list[list[Any]] = [[] for _ in columns]
    for number, row in iterate_rows(path, columns, bad=bad, dialect=dialect):
        numbers.append(number)
        for column, value in zip(values, row, strict=True):
            column.append(value)
    unit = find_format(path).unit
    return Rows(str(path), unit, numbers, dict(zip(columns, values, strict=True)))


def iterate_rows(
    path: Path,
    columns: Sequence[str],
    formats: Mapping[str, FileFormat] | None = None,
    bad: BadRows | None = None,
    dialect: Dialect = USUAL,
) -> Iterator[Row]:
    """Yield the rows of a file as `read_rows` reads them, one by one.

    A missing file and an unknown ending are told at once, all else when it is reached.

    Args:
        path: the file.
        columns: names of the columns to read; the first is the text column.
        formats: file ending -> format, of the files that can be read; `TABLES` by default.
        bad: as for `read_rows`.
        dialect: as for `read_rows`.

    Raises:
        DataError: as for `read_rows`.
    """
    is_there = _look_at(path)
    file_format = find_format(path, formats)
    if not is_there:
        raise DataError(f"{path}: no such file. Check the path; it is relative to {Path.cwd()}.")
    bad = BadRows() if bad is None else bad
    return _require_rows(path, file_format.read(path, columns, bad, dialect), bad)


def find_format(path: Path, formats: Mapping[str, FileFormat] | None = None) -> FileFormat:
    """Return the format that a file's ending stands for.

    Raises:
        DataError: it stands for none of them.
    """
    formats = TABLES if formats is None else formats
    if found := formats.get(get_ending(path)):
        return found
    raise DataError(
        f"{path}: files that end in {path.suffix or 'nothing'!r} can't be read. "
        f"Supported endings: {', '.join(formats)}; and {GZIP} behind those of texts."
    )


def get_ending(path: Path) -> str:
    """Return the ending that says what a file holds, without gzip's behind it."""
    unpacked = path.with_suffix("") if path.suffix.lower() == GZIP else path
    return unpacked.suffix.lower()


def _look_at(path: Path) -> bool:
    """Return whether there is a file.

    Raises:
        DataError: there is a folder, or nobody can tell.
    """
    try:
        if path.is_dir():
            raise DataError(
                f"{path}: this is a folder. Give the path of a file in it; for training, "
                "--streaming reads all Parquet files of a folder."
            )
        return path.exists()
    except OSError as error:  # a folder that may not be looked into, or a name beyond all length
        raise DataError(
            f"{shorten(str(path), 200)}: can't be looked at ({error.strerror}). Check the path, "
            "and who may read there."
        ) from error


def _require_rows(path: Path, rows: Iterator[Row], bad: BadRows) -> Iterator[Row]:
    is_empty, found_before = True, len(bad.found)
    for row in rows:
        is_empty = False
        yield row
    if is_empty:
        bad.require_rest(str(path), 0, found_before)
        raise DataError(f"{path}: there are no reviews in this file. Add some, or name another.")


def _read_lines(
    path: Path, columns: Sequence[str], bad: BadRows, dialect: Dialect
) -> Iterator[Row]:
    with open_utf8(path, dialect.encoding, keep_broken=bad.are_skipped) as lines:
        for number, line in enumerate(lines, start=1):
            fault = find_broken_byte(line, dialect.encoding)
            if not line.strip():
                fault = "the line is blank, but each must hold one review. Remove it."
            if fault is None:
                yield number, [line] * len(columns)
            else:
                bad.meet(BadRowError(f"{path}, line {number}", fault))


def _read_delimited(
    path: Path, columns: Sequence[str], bad: BadRows, dialect: Dialect, *, usual: str
) -> Iterator[Row]:
    delimiter, encoding = dialect.delimiter or usual, dialect.encoding
    opened = open_utf8(path, encoding, newline="", allow_nul=False, keep_broken=bad.are_skipped)
    with opened as text:
        records = iterate_records(path, text, delimiter, bad, encoding)
        line, header = next(records, (1, []))
        for name in columns:
            advice = advise_delimiter(header, delimiter)
            require_column(name, header, f"{path}, line {line}", advice)
        places = [header.index(name) for name in columns]
        for line, fields in records:
            fault = find_broken_byte("".join(fields), encoding, allow_nul=False)
            if len(fields) != len(header):
                fault = fault or _describe_misfit(len(fields), len(header), delimiter)
            if fault is None:
                yield line, [fields[place] for place in places]
            else:
                bad.meet(BadRowError(f"{path}, line {line}", fault))


def _describe_misfit(found: int, needed: int, delimiter: str) -> str:
    name = {",": "comma", "\t": "tab"}.get(delimiter, repr(delimiter))
    return (
        f"the row has {found} fields, but the header {needed}. "
        f'Put a text with a {name} in it between quotes: "...".'
    )


def _read_parquet(
    path: Path, columns: Sequence[str], bad: BadRows, _dialect: Dialect
) -> Iterator[Row]:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path, buffer_size=_PARQUET_BUFFER_BYTES) as file:
            schema = file.schema_arrow
            for name in columns:
                require_column(name, schema.names, str(path))
            _require_string_type(path, columns[0], schema.field(columns[0]).type)
            batches = file.iter_batches(batch_size=_PARQUET_BATCH, columns=list(columns))
            names = [_read_class_names(schema, name) for name in columns]
            for row, values in _list_values(path, columns, batches, bad):
                yield row, [_name_class(*pair) for pair in zip(values, names, strict=True)]
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:  # Names may be no UTF-8.
        raise build_read_error(path, error) from error


def _read_class_names(schema: Any, column: str) -> list[str]:  # noqa: ANN401 - pyarrow has no types
    """Return the names of a column's numbers, as the library datasets writes them beside it."""
    try:
        info = json.loads((schema.metadata or {})[b"huggingface"])
        feature = info["info"]["features"][column]
        return list(feature["names"]) if feature["_type"] == "ClassLabel" else []
    except (KeyError, TypeError, ValueError):
        return []


def _name_class(value: object, names: Sequence[str]) -> object:
    """Return the name of a class's number; datasets writes -1 where there is none."""
    if not names or not isinstance(value, int):
        return value
    return names[value] if 0 <= value < len(names) else None


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


def _list_values(
    path: Path, columns: Sequence[str], batches: Iterator[Any], bad: BadRows
) -> Iterator[Row]:
    row = 0
    for batch in batches:
        chosen = [batch.column(name) for name in columns]
        for place in range(batch.num_rows):
            row += 1
            # One by one, so that a value that is no text is known by its row.
            try:
                values = [
                    _convert_value(column[place], f"{path}, row {row}", name)
                    for column, name in zip(chosen, columns, strict=True)
                ]
            except BadRowError as error:
                bad.meet(error)
            else:
                yield row, values


def _convert_value(value: Any, place: str, name: str) -> Any:  # noqa: ANN401 - pyarrow has no types
    try:
        return value.as_py()
    except (UnicodeDecodeError, ValueError, OverflowError) as error:
        raise BadRowError(
            place, f"the value of column {name!r} can't be read ({error}). Correct the row."
        ) from None


TABLES: dict[str, FileFormat] = {
    ".csv": FileFormat("line", functools.partial(_read_delimited, usual=",")),
    ".tsv": FileFormat("line", functools.partial(_read_delimited, usual="\t")),
    ".jsonl": FileFormat("line", read_json_lines),
    ".ndjson": FileFormat("line", read_json_lines),
    ".json": FileFormat("line", read_json),
    ".parquet": FileFormat("row", _read_parquet),
    ".pq": FileFormat("row", _read_parquet),
}
"""File ending -> format, of files with named columns."""

TEXTS: dict[str, FileFormat] = {**TABLES, ".txt": FileFormat("line", _read_lines)}
"""File ending -> format, of files that texts can be read from: of a .txt file, each line is one."""
