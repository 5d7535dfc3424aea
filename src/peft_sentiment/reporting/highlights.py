"""Reviews with the words that spoke for their label set off, as pieces for a page."""

from collections.abc import Iterator
from dataclasses import dataclass

from peft_sentiment.records.explanation import Explanation

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
    pieces = tuple(_cut_pieces(explanation))
    return HighlightedReview(explanation.label, explanation.confidence, explanation.gap, pieces)


def _cut_pieces(explanation: Explanation) -> Iterator[Piece]:
    text, place = explanation.text, 0
    strongest = max((abs(word.score or 0) for word in explanation.words), default=0.0) or 1.0
    for word in explanation.words:
        if place < word.start:
            yield Piece(text[place : word.start])
        share = (word.score or 0.0) / strongest
        strength = share if abs(share) >= SHOWN_SHARE else 0.0
        yield Piece(text[word.start : word.end], strength, word.score is not None)
        place = word.end
    if place < len(text):
        yield Piece(text[place:])
