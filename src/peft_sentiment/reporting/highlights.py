"""Reviews with the words that spoke for their label set off, as pieces for a page."""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from peft_sentiment.records.explanation import Explanation

LONGEST_UNREAD = 12
"""Words in a row that were not read and are shown; of more only the number is."""

SHOWN_SHARE = 0.15
"""Of the strongest word's score: what a word needs to be set off."""


@dataclass(frozen=True)
class Piece:
    """A part of a review.

    Attributes:
        strength: from -1 (speaks against the label) to 1 (for it); 0 is plain text.
        is_read: False for what was cut out.
    """

    text: str
    strength: float = 0.0
    is_read: bool = True


@dataclass(frozen=True)
class HighlightedReview:
    """One review and its label, word by word.

    Attributes:
        gap: what the scores miss of what they explain, as a share.
    """

    label: str
    confidence: float
    gap: float
    pieces: tuple[Piece, ...]


def highlight(explanation: Explanation) -> HighlightedReview:
    """Cut a review into pieces that are set off by what they did for its label."""
    pieces = tuple(_shorten_unread(_cut_pieces(explanation)))
    return HighlightedReview(explanation.label, explanation.confidence, explanation.gap, pieces)


def _shorten_unread(pieces: Iterable[Piece]) -> Iterator[Piece]:
    for is_read, group in itertools.groupby(pieces, key=lambda piece: piece.is_read):
        run = list(group)
        words = sum(bool(piece.text.strip()) for piece in run)
        if is_read or words <= LONGEST_UNREAD:
            yield from run
        else:
            yield Piece(f"[{words} words not read] ", is_read=False)


def _cut_pieces(explanation: Explanation) -> Iterator[Piece]:
    text, place, is_read = explanation.text, 0, True
    strongest = max((abs(word.score or 0) for word in explanation.words), default=0.0) or 1.0
    for word in explanation.words:
        was_read, is_read = is_read, word.score is not None
        if place < word.start:
            # What lies between two words that were not read was not read either.
            yield Piece(text[place : word.start], is_read=was_read or is_read)
        share = (word.score or 0.0) / strongest
        strength = share if abs(share) >= SHOWN_SHARE else 0.0
        yield Piece(text[word.start : word.end], strength, is_read)
        place = word.end
    if place < len(text):
        yield Piece(text[place:], is_read=is_read)
