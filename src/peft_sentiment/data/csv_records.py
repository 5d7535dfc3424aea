"""Records of a CSV file, each with the line on which it starts, broken ones met one by one."""

import contextlib
import csv
import itertools
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from peft_sentiment.data.bad_rows import BadRows
from peft_sentiment.data.utf8 import UTF_8, find_broken_byte
from peft_sentiment.errors import BadRowError, DataError

# The largest limit that fits a C long on every platform.
_NO_FIELD_LIMIT = 2**31 - 1

MOST_LINES_READ_AGAIN = 10_000_000
"""After broken rows; a file may be built so that each of its rows seems to reach to its end."""


def iterate_records(
    path: Path, text: TextIO, delimiter: str, bad: BadRows, encoding: str = UTF_8
) -> Iterator[tuple[int, list[str]]]:
    """Yield the fields of each record, with the line on which it starts.

    Where a record is broken, the next one is looked for from the line after its first: a quote
    that is never closed takes one row along, not the rest of the file.

    Args:
        path: of the file, for messages.
        text: opened with its line ends left as they are.
        delimiter: between fields.
        bad: meets the broken records; the first, which is the header, is never left out.
        encoding: of the file, for messages.

    Raises:
        DataError: a record is broken, and is not to be left out.
    """
    lines = _Lines(text)
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    is_header, read_again = True, 0
    while True:
        line = lines.begin_record()
        try:
            fields = _read_record(reader)
        except csv.Error as error:
            broken = _describe_broken(path, line, lines, error)
            if is_header:
                raise broken from None
            bad.meet(broken)
            read_again += lines.give_back()
            _require_progress(broken, read_again)
            continue
        if fields is None:
            return
        if is_header and (fault := find_broken_byte("".join(fields), encoding, allow_nul=False)):
            raise DataError(f"{path}, line {line}: {fault}")
        if fields:
            is_header = False
            yield line, fields


def _read_record(reader: Any) -> list[str] | None:  # noqa: ANN401 - csv's own type is private
    # For one record at a time, because the limit is one for all readers of the program.
    with _unlimited_fields():
        fields: list[str] | None = next(reader, None)
    return fields


def _require_progress(broken: BadRowError, read_again: int) -> None:
    if read_again > MOST_LINES_READ_AGAIN:
        raise DataError(f"{broken} There are too many rows like this one to leave them out.")


def _describe_broken(path: Path, line: int, lines: "_Lines", error: csv.Error) -> BadRowError:
    return BadRowError(
        f"{path}, line {line}",
        f"the row that starts here is broken at line {lines.last} ({error}). Put a text with "
        "quotes in it between quotes, and double those inside.",
    )


class _Lines:
    """The lines of a text, of which those of the present record can be given back.

    Attributes:
        last: number of the line that was handed out last, from 1.
    """

    def __init__(self, text: TextIO) -> None:
        self._text = text
        self._waiting: deque[str] = deque()
        self._taken: list[str] = []
        self.last = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._waiting.popleft() if self._waiting else next(self._text)
        self._taken.append(line)
        self.last += 1
        return line

    def begin_record(self) -> int:
        """Let go of the lines handed out so far, and return the number of the next."""
        self._taken.clear()
        return self.last + 1

    def give_back(self) -> int:
        """Take back all lines of the present record but its first; return how many those are."""
        self._waiting.extendleft(itertools.islice(reversed(self._taken), len(self._taken) - 1))
        self.last -= len(self._taken) - 1
        return len(self._taken) - 1


@contextlib.contextmanager
def _unlimited_fields() -> Iterator[None]:
    """Let a CSV field be longer than 131,072 characters, Python's limit, as some reviews are."""
    limit = csv.field_size_limit(_NO_FIELD_LIMIT)
    try:
        yield
    finally:
        csv.field_size_limit(limit)
