"""Reviews are cleaned, labelled once, and stand in one part only.

A text that is both trained and tested on is recognised instead of judged, and makes every score
look better than it is; so no text stands twice in a part, and none in two parts.
"""

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from peft_sentiment.data.arrow_files import Texts
from peft_sentiment.data.columns import shorten
from peft_sentiment.errors import DataError
from peft_sentiment.records.reviews import Reviews

Value = TypeVar("Value")

_BREAKS = re.compile(r"<br\s*/?>(?:\s*<br\s*/?>)*", re.IGNORECASE)

_EXAMPLES = 3


@dataclass(frozen=True)
class Part:
    """The labelled reviews of one file or split, and where each stands in it.

    Attributes:
        source: file or split, as messages name it.
        unit: what `numbers` count: line or row.
        texts: the reviews, cleaned.
        labels: the label name of each review.
        numbers: the line or row of each review, from 1.
        groups: the group of each review, if there are groups.
        weights: how much each counts in training, if they differ.
        files: the file of each review, if there are several.
    """

    source: str
    unit: str
    texts: Sequence[str]
    labels: Sequence[str]
    numbers: Sequence[int]
    groups: Sequence[str] | None = None
    weights: Sequence[float] | None = None
    files: Sequence[str] | None = None

    def __len__(self) -> int:
        """Return the number of reviews."""
        return len(self.texts)

    def place(self, index: int) -> str:
        """Return where a review stands, such as 'reviews.csv, line 7'."""
        source = self.source if self.files is None else self.files[index]
        return f"{source}, {self.unit} {self.numbers[index]}"

    def row(self, index: int) -> str:
        """Return where a review stands, without the file's name where there is only one."""
        return f"{self.unit} {self.numbers[index]}" if self.files is None else self.place(index)

    def reviews(self) -> Reviews:
        """Return the reviews without their places."""
        return Reviews(self.texts, self.labels, self.groups, self.weights)

    def take(self, indices: Iterable[int]) -> "Part":
        """Return the reviews at these places, in this order."""
        chosen = list(indices)
        return Part(
            self.source,
            self.unit,
            [self.texts[i] for i in chosen],
            [self.labels[i] for i in chosen],
            [self.numbers[i] for i in chosen],
            None if self.groups is None else [self.groups[i] for i in chosen],
            None if self.weights is None else [self.weights[i] for i in chosen],
            None if self.files is None else [self.files[i] for i in chosen],
        )


def join_parts(parts: Sequence[Part]) -> Part:
    """Return the reviews of several files as one part; a single one stays as it is."""
    if len(parts) == 1:
        return parts[0]
    units = {part.unit for part in parts}
    return Part(
        source=" and ".join(part.source for part in parts),
        unit=units.pop() if len(units) == 1 else "row",
        texts=[text for part in parts for text in part.texts],
        labels=[label for part in parts for label in part.labels],
        numbers=[number for part in parts for number in part.numbers],
        groups=_join(part.groups for part in parts),
        weights=_join(part.weights for part in parts),
        files=[part.source for part in parts for _ in part.texts],
    )


def _join(columns: Iterable[Sequence[Value] | None]) -> list[Value] | None:
    found = [column for column in columns if column is not None]
    return [value for column in found for value in column] if found else None


def clean_text(text: str) -> str:
    """Return a review without HTML line breaks and outer blanks; the rest stays as it is."""
    # The search for "<" is far faster than the pattern, and most texts have none.
    return (_BREAKS.sub(" ", text) if "<" in text else text).strip()


def drop_duplicates(part: Part) -> Part:
    """Return the part with each text once.

    Of equal texts with one label the first is kept. Where their labels differ none is kept,
    because nothing tells which label is right.

    Raises:
        DataError: all labels differ, so that nothing is left.
    """
    label_of: dict[str, str] = {}
    contradicted = set()
    for text, label in zip(part.texts, part.labels, strict=True):
        if label_of.setdefault(text, label) != label:
            contradicted.add(text)
    first_index: dict[str, int] = {}
    for index, text in enumerate(part.texts):
        first_index.setdefault(text, index)
    if part.texts and len(contradicted) == len(first_index):
        raise DataError(
            f"{part.source}: every text stands there with two labels or more, and nothing tells "
            "which is right, so that no review is left. Correct the labels."
        )
    return part.take(index for text, index in first_index.items() if text not in contradicted)


def drop_shared_texts(part: Part, other: Part) -> Part:
    """Return the part without the texts that the other part has too."""
    others = set(other.texts)
    return part.take(index for index, text in enumerate(part.texts) if text not in others)


def refuse_shared_texts(part: Part, other: Part) -> None:
    """Check that two parts have no text in common.

    Raises:
        DataError: they share texts; the message names the first of them in both parts.
    """
    index_of = {text: index for index, text in enumerate(other.texts)}
    shared = [(i, index_of[text]) for i, text in enumerate(part.texts) if text in index_of]
    if not shared:
        return
    examples = "; ".join(f"{part.row(i)} is {other.row(j)}" for i, j in shared[:_EXAMPLES])
    raise DataError(
        f"{part.source} shares {_count(len(shared), 'text')} with {other.source} ({examples}). "
        "Scores on texts that are also trained on mean nothing: remove the shared texts from one "
        f"of the two, or leave {part.source} out to split its reviews off from the training "
        "reviews."
    )


def refuse_shared_groups(part: Part, other: Part) -> None:
    """Check that no group stands in two parts.

    Raises:
        DataError: one does; the message names it, with a review of it in both parts.
    """
    if part.groups is None or other.groups is None:
        return
    index_of = {group: index for index, group in enumerate(other.groups)}
    for index, group in enumerate(part.groups):
        if group in index_of:
            raise DataError(
                f"{part.place(index)}: the group {shorten(group)!r} stands in "
                f"{other.place(index_of[group])} too, but no group may be divided. Move all its "
                "reviews to one of the files, or leave --group-column out."
            )


def fingerprint_texts(texts: Sequence[str]) -> NDArray[np.uint64]:
    """Return (N,) numbers by which texts are known again without being kept: 64 bits of sha256."""
    if isinstance(texts, Texts):
        return texts.fingerprints
    digests = (hashlib.sha256(text.encode()).digest()[:8] for text in texts)
    return np.frombuffer(b"".join(digests), dtype="<u8").astype(np.uint64)


def find_seen_texts(texts: Sequence[str], seen: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Return the places of the texts whose fingerprints are among those seen."""
    return np.flatnonzero(np.isin(fingerprint_texts(texts), seen))


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
