"""Reviews are cleaned, labelled once, and stand in one part only.

A text that is both trained and tested on is recognised instead of judged, and makes every score
look better than it is; so no text stands twice in a part, and none in two parts.
"""

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from peft_sentiment.errors import DataError

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
    """

    source: str
    unit: str
    texts: Sequence[str]
    labels: Sequence[str]
    numbers: Sequence[int]

    def __len__(self) -> int:
        """Return the number of reviews."""
        return len(self.texts)

    def place(self, index: int) -> str:
        """Return where a review stands, such as 'reviews.csv, line 7'."""
        return f"{self.source}, {self.unit} {self.numbers[index]}"

    def take(self, indices: Iterable[int]) -> "Part":
        """Return the reviews at these places, in this order."""
        chosen = list(indices)
        return Part(
            self.source,
            self.unit,
            [self.texts[i] for i in chosen],
            [self.labels[i] for i in chosen],
            [self.numbers[i] for i in chosen],
        )


def clean_text(text: str) -> str:
    """Return a review without HTML line breaks and outer blanks; the rest stays as it is."""
    # The search for "<" is far faster than the pattern, and most texts have none.
    return (_BREAKS.sub(" ", text) if "<" in text else text).strip()


def drop_duplicates(part: Part) -> Part:
    """Return the part with each text once.

    Of equal texts with one label the first is kept. Where their labels differ none is kept,
    because nothing tells which label is right.
    """
    label_of: dict[str, str] = {}
    contradicted = set()
    for text, label in zip(part.texts, part.labels, strict=True):
        if label_of.setdefault(text, label) != label:
            contradicted.add(text)
    first_index: dict[str, int] = {}
    for index, text in enumerate(part.texts):
        first_index.setdefault(text, index)
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
    examples = "; ".join(
        f"{part.unit} {part.numbers[i]} is {other.unit} {other.numbers[j]}"
        for i, j in shared[:_EXAMPLES]
    )
    raise DataError(
        f"{part.source} shares {_count(len(shared), 'text')} with {other.source} ({examples}). "
        "Scores on texts that are also trained on mean nothing: remove the shared texts from one "
        f"of the two, or leave {part.source} out to split its reviews off from the training "
        "reviews."
    )


def fingerprint_texts(texts: Sequence[str]) -> NDArray[np.uint64]:
    """Return (N,) numbers by which texts are known again without being kept: half a sha256."""
    digests = (hashlib.sha256(text.encode()).digest()[:8] for text in texts)
    return np.frombuffer(b"".join(digests), dtype="<u8").astype(np.uint64)


def find_seen_texts(texts: Sequence[str], seen: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Return the places of the texts whose fingerprints are among those seen."""
    return np.flatnonzero(np.isin(fingerprint_texts(texts), seen))


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
