"""Records of a JSON file: an object a line, or one array of objects; broken ones met one by one."""

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from peft_sentiment.data.bad_rows import BadRows
from peft_sentiment.data.columns import Row, require_column, shorten
from peft_sentiment.data.dialect import Dialect
from peft_sentiment.data.utf8 import find_broken_byte, open_utf8
from peft_sentiment.errors import BadRowError, DataError

MOST_CHARACTERS = 1 << 24
"""Of an object in an array: one that is longer was never meant to end."""

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_BLANK = re.compile(r"[ \t\n\r]*")
_BLOCK_CHARACTERS = 1 << 16
_AS_LINES = 'Write each review as {"text": "...", "label": "..."} on a line of its own.'


def read_json(path: Path, columns: Sequence[str], bad: BadRows, dialect: Dialect) -> Iterator[Row]:
    """Yield the rows of a file that holds an array of objects, or an object a line.

    Args:
        path: the file.
        columns: names of the values to read.
        bad: meets the objects that can't be used.
        dialect: how the file's text is written.

    Raises:
        DataError: an array breaks off, or an object is not to be left out.
    """
    with open_utf8(path, dialect.encoding, keep_broken=bad.are_skipped) as text:
        array = _Array(path, text)
        if not array.begin():
            yield from read_json_lines(path, columns, bad, dialect)
            return
        for line, value, written in array.iterate_values():
            place = f"{path}, line {line}"
            try:
                if fault := find_broken_byte(written, dialect.encoding):
                    raise BadRowError(place, fault)
                yield line, _read_values(value, written, place, columns)
            except BadRowError as error:
                bad.meet(error)


def read_json_lines(
    path: Path, columns: Sequence[str], bad: BadRows, dialect: Dialect
) -> Iterator[Row]:
    """Yield the rows of a file that holds an object a line, as `read_json` does."""
    # Only line feeds and carriage returns end a line here, not all that Python's splitlines takes.
    with open_utf8(path, dialect.encoding, keep_broken=bad.are_skipped) as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            place = f"{path}, line {number}"
            try:
                if fault := find_broken_byte(line, dialect.encoding):
                    raise BadRowError(place, fault)
                yield number, _read_values(_parse_line(line, place), line, place, columns)
            except BadRowError as error:
                bad.meet(error)


def _parse_line(line: str, place: str) -> object:
    try:
        return json.loads(line)
    # A number of thousands of digits and a thousand nested lists are valid JSON, yet no record.
    except (ValueError, RecursionError) as error:
        raise BadRowError(
            place, f"this is not a JSON object on one line ({_reason(error)}). {_AS_LINES}"
        ) from None


def _reason(error: Exception) -> str:
    """Return what is wrong with a line, without the line number that JSON counts within it."""
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at column {error.colno}"
    return str(error)


def _read_values(record: object, written: str, place: str, columns: Sequence[str]) -> list[Any]:
    """Return the values of some columns of an object."""
    if not isinstance(record, dict):
        raise BadRowError(
            place, f"there is {shorten(record)}, but it must be an object. {_AS_LINES}"
        )
    # Only an escape can bring one in: the file itself is valid UTF-8.
    if "\\u" in written and _LONE_SURROGATE.search(json.dumps(record, ensure_ascii=False)):
        raise BadRowError(
            place,
            "there is half a character (a lone surrogate such as \\ud83d), left over "
            "where a text was cut. Remove it.",
        )
    for name in columns:
        if name not in record:
            require_column(name, list(record), place)
    return [record[name] for name in columns]


class _Array:
    """The values of a JSON array, in memory that does not grow with it."""

    def __init__(self, path: Path, text: TextIO) -> None:
        self._path = path
        self._text = text
        self._held = ""
        self._place = 0
        self._line = 1
        self._is_left = True

    def begin(self) -> bool:
        """Go behind the bracket that begins the array; return whether there is one."""
        return self._take("[")

    def iterate_values(self) -> Iterator[tuple[int, object, str]]:
        """Yield the line on which each value begins, the value, and how it is written.

        Raises:
            DataError: the array is broken; what follows can't be read.
        """
        if not self._take("]"):
            yield self._read_value()
            while self._take(","):
                yield self._read_value()
            if not self._take("]"):
                raise self._describe_broken("there is no comma and no ] behind an object")
        self._skip_blank()
        if self._place < len(self._held):
            raise self._describe_broken("there is more behind the array's end")

    def _read_value(self) -> tuple[int, object, str]:
        self._skip_blank()
        while True:
            try:
                value, end = json.JSONDecoder().raw_decode(self._held, self._place)
            except (ValueError, RecursionError) as error:
                # Perhaps it goes on in the next block.
                unread = len(self._held) - self._place
                if unread < MOST_CHARACTERS and self._read_more(unread):
                    continue
                reason = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
                raise self._describe_broken(reason) from None
            if end == len(self._held) and self._read_more(_BLOCK_CHARACTERS):
                continue  # A number may go on, too.
            line, written = self._line, self._held[self._place : end]
            self._move(end)
            return line, value, written

    def _take(self, sign: str) -> bool:
        """Go behind a sign, if it is what comes next."""
        self._skip_blank()
        is_next = self._held.startswith(sign, self._place)
        if is_next:
            self._move(self._place + 1)
        return is_next

    def _skip_blank(self) -> None:
        while True:
            blank = _BLANK.match(self._held, self._place)
            self._move(blank.end() if blank else self._place)
            if self._place < len(self._held) or not self._read_more(_BLOCK_CHARACTERS):
                return

    def _move(self, place: int) -> None:
        self._line += self._held.count("\n", self._place, place)
        self._place = place

    def _read_more(self, characters: int) -> bool:
        """Read so many characters more, if there are any; what is passed is let go."""
        block = self._text.read(max(characters, _BLOCK_CHARACTERS)) if self._is_left else ""
        self._is_left = bool(block)
        self._held, self._place = self._held[self._place :] + block, 0
        return self._is_left

    def _describe_broken(self, reason: str) -> DataError:
        return DataError(
            f"{self._path}, line {self._line}: the array of objects that the file holds is broken "
            f"here ({reason}). Correct it, or write each object on a line of its own, without the "
            "brackets."
        )
