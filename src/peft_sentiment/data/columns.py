"""Columns as a file, a package or the hub holds them, and what messages say of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from peft_sentiment.errors import BadRowError, find_nearest

Row = tuple[int, Sequence[Any]]
"""The line or row, from 1, and the values of the columns asked for."""


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


def require_column(name: str, columns: Sequence[str], place: str, advice: str = "") -> None:
    """Check that a column is there, once.

    Args:
        name: of the column.
        columns: all that there are.
        place: of their names, for the message.
        advice: what to do where it is missing, instead of what is usual.

    Raises:
        BadRowError: it is missing or there several times; the message names the columns found.
    """
    if columns.count(name) == 1:
        return
    problem = f"there are {columns.count(name)} columns" if name in columns else "no column"
    known = [shorten(column) for column in columns]
    if name in columns:
        advice = "Rename one of them."
    elif not advice:
        nearest = find_nearest(name, known)
        meant = "" if nearest is None else f"Did you mean {nearest}? "
        advice = f"{meant}Columns are named with --text-column and --label-column."
    raise BadRowError(place, f"{problem} {name!r} (found: {', '.join(known) or 'none'}). {advice}")


def name_some(names: Sequence[str], last: str = ", ", most: int = 10) -> str:
    """Return names for a message, the last behind `last`; of many the first, and how many more."""
    shown = [shorten(name) for name in names[:most]]
    if len(names) > most:
        return f"{', '.join(shown)} and {len(names) - most:,} more"
    return last.join([", ".join(shown[:-1]), *shown[-1:]] if len(shown) > 1 else shown)


def shorten(value: object, limit: int = 60) -> str:
    """Return a value for a message: printable, on one line, and cut when it is long."""
    shown = value if isinstance(value, str) and value.isprintable() else repr(value)
    return shown if len(shown) <= limit else shown[:limit] + "..."
