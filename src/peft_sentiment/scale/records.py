"""The records of a file: where each begins, and what it says or why it says nothing.

A broken record costs itself and no other. Places are counted from 1, in records below the header.
"""

import csv
import io
import itertools
import json
import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any

from peft_sentiment.data.checks import clean_text

LONGEST_RECORD = 1 << 20
"""Bytes: a quoted field that does not end within them was never meant to begin."""

NO_FIELD_LIMIT = 2**31 - 1
"""The largest one that fits a C long everywhere; records are limited as a whole."""

DELIMITERS = {".csv": ",", ".tsv": "\t"}


@dataclass(frozen=True)
class Record:
    """One row of a file.

    Attributes:
        number: from 1.
        key: its own or one made of file and number.
        text: cleaned; None where the row is broken.
        fault: what is wrong with it; empty if nothing.
    """

    number: int
    key: str
    text: str | None
    fault: str = ""


@dataclass(frozen=True)
class Columns:
    """Which values of a row are wanted.

    Attributes:
        text: column of the texts.
        key: column of the keys; None makes them from file and number.
    """

    text: str
    key: str | None

    @property
    def wanted(self) -> list[str]:
        """The columns that a file must have."""
        return [self.text] if self.key is None else list(dict.fromkeys((self.key, self.text)))

    def build(self, file: str, number: int, row: Mapping[str, Any]) -> Record:
        """Return the record of a row's values."""
        made, fault, value = f"{file}:{number}", "", row.get(self.text)
        key = made if self.key is None else row.get(self.key)
        key = None if key is None or key == "" else str(key)
        text = clean_text(value) if isinstance(value, str) else None
        if key is None:
            fault = f"the key {self.key!r} is missing"
        elif text is None:
            fault = f"the text {self.text!r} is {'missing' if value is None else 'no text'}"
        elif not text:
            fault = "the text is empty"
        elif not _is_utf8(text):
            fault = "the text is not UTF-8"
        return Record(number, key or made, None if fault else text, fault)


def split_records(
    lines: Iterable[bytes], delimiter: str | None, width: int | None = None
) -> Iterator[bytes]:
    """Yield the raw records of a file's lines; of a CSV file, some take several lines.

    Where several lines are no sound record together, a quote was never closed: the first of them
    is a broken record by itself, and the others are looked at anew.

    Args:
        lines: with their ends.
        delimiter: of a file in which line ends within double quotes belong to a field.
        width: fields that a sound record has, if that is known.
    """
    if delimiter is None:
        yield from lines
        return
    opening = re.compile(rb'(?:^|%b)"' % re.escape(delimiter.encode()))
    source, again = iter(lines), deque[bytes]()
    held: list[bytes] = []
    is_inside = False
    while True:
        line = again.popleft() if again else next(source, None)
        if line is not None:
            held.append(line)
            is_inside = _ends_inside(line, opening, is_inside)
            if is_inside and sum(map(len, held)) <= LONGEST_RECORD:
                continue
        if not held:
            return
        if is_inside or (len(held) > 1 and not _is_sound(b"".join(held), delimiter, width)):
            again.extendleft(reversed(held[1:]))
            held = held[:1]
        yield b"".join(held)
        held, is_inside = [], False


def _is_sound(raw: bytes, delimiter: str, width: int | None) -> bool:
    try:
        fields = read_fields(raw, delimiter)
    except ValueError:
        return False
    return width is None or len(fields) == width


def _ends_inside(line: bytes, opening: re.Pattern[bytes], is_inside: bool) -> bool:
    """Tell whether a line ends within a quoted field; `is_inside` if it begins within one."""
    place = 0
    while True:
        if is_inside:
            place = line.find(b'"', place) + 1
            if not place:
                return True
            if line[place : place + 1] == b'"':  # A doubled one stands for itself.
                place += 1
                continue
        else:
            found = opening.search(line, place)
            if found is None:
                return False
            place = found.end()
        is_inside = not is_inside


def parse_delimited(raw: bytes, header: Sequence[str], delimiter: str) -> dict[str, Any]:
    """Return the values of a raw record by column.

    Raises:
        ValueError: it is broken.
    """
    fields = read_fields(raw, delimiter)
    if len(fields) != len(header):
        raise ValueError(f"the row has {len(fields)} fields, but the header has {len(header)}")
    return dict(zip(header, fields, strict=True))


def read_fields(raw: bytes, delimiter: str) -> list[str]:
    """Return the fields of a raw record.

    Raises:
        ValueError: it is broken.
    """
    csv.field_size_limit(NO_FIELD_LIMIT)
    try:
        text = raw.decode("utf-8-sig")
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"the row can't be read ({error})") from error
    return rows[0] if rows else []


def parse_json(raw: bytes) -> dict[str, Any]:
    """Return the values of a line of JSON.

    Raises:
        ValueError: it is broken.
    """
    try:
        row = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"the line is not JSON ({error})") from error
    if not isinstance(row, dict):
        raise ValueError("the line is not a JSON object")
    return row


def iterate_text_records(
    file: IO[bytes], name: str, first: int, rows: int, header: Sequence[str], columns: Columns
) -> Iterator[Record]:
    """Yield records of a CSV, TSV or JSON Lines file from where it stands; blank lines are none.

    Args:
        file: at the beginning of a record.
        name: its path, for keys; its ending decides how it is read.
        first: number of that record.
        rows: how many to read, blank lines included.
        header: columns of a CSV or TSV file.
        columns: which of them are wanted.
    """
    delimiter = DELIMITERS.get(get_ending(name))
    raw_records = itertools.islice(split_records(file, delimiter, len(header)), rows)
    for number, raw in enumerate(raw_records, first):
        if not raw.strip():
            continue
        try:
            row = parse_json(raw) if delimiter is None else parse_delimited(raw, header, delimiter)
        except ValueError as error:
            yield Record(number, f"{name}:{number}", None, str(error))
            continue
        yield columns.build(name, number, row)


def iterate_parquet_records(
    file: IO[bytes], name: str, first: int, rows: int, columns: Columns
) -> Iterator[Record]:
    """Yield the records of a Parquet file from one of its rows on, in little memory."""
    from pyarrow import parquet

    table, start = parquet.ParquetFile(file), 1
    for group in range(table.num_row_groups):
        end = start + table.metadata.row_group(group).num_rows
        if end > first and start < first + rows:
            number = start
            batches = table.iter_batches(1000, row_groups=[group], columns=columns.wanted)
            for batch in batches:
                if number + len(batch) > first:
                    for place, row in enumerate(batch.to_pylist(), number):
                        if first <= place < first + rows:
                            yield columns.build(name, place, row)
                number += len(batch)
                if number >= first + rows:
                    return
        start = end


def get_ending(name: str) -> str:
    """Return the ending of a file's name in small letters, such as `.csv`."""
    return "." + name.rpartition(".")[2].lower()


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
