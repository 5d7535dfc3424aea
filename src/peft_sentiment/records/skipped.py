"""Rows of files that were left out, and why."""

from dataclasses import dataclass


@dataclass(frozen=True)
class SkippedRow:
    """A row that could not be used.

    Attributes:
        place: such as 'reviews.csv, line 7'.
        reason: what is wrong with it.
    """

    place: str
    reason: str
