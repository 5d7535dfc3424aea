"""Words of a text, and which of them each token the model reads belongs to.

Shapes: T tokens.
"""

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from peft_sentiment.config import Truncation
from peft_sentiment.data.batching import TokenizedReviews, count_special_tokens, cut_tokens
from peft_sentiment.data.windows import divide_reviews
from peft_sentiment.errors import ModelError

Span = tuple[int, int]
"""Place of the first character, and of the one after the last."""

_WORD = re.compile(r"\w+(?:['\u2019]\w+)*|[^\w\s]+")
"""Letters and digits, with an apostrophe inside; or signs that stand together."""


@dataclass(frozen=True)
class SpannedTokens:
    """The tokens that the model reads of one text, and the words they belong to.

    Attributes:
        ids: (T,), special tokens included, cut to length.
        word_places: (T,), place of each token's word in `words`; -1 for special tokens.
        words: all words of the text, also those that were cut out.
    """

    ids: NDArray[np.int64]
    word_places: NDArray[np.int64]
    words: list[Span]

    def divide(
        self, window_length: int, special_tokens: tuple[int, int]
    ) -> "tuple[list[SpannedTokens], list[float]]":
        """Return the windows that the text is scored in, in order, and the share of each.

        Args:
            window_length: most tokens of a window; 0 for no windows.
            special_tokens: how many stand before the text and after it.
        """
        places, is_cut = np.arange(len(self.ids), dtype=np.int32), np.zeros(1, np.bool_)
        windows = divide_reviews(TokenizedReviews([places], is_cut, special_tokens, window_length))
        tokens = [
            SpannedTokens(self.ids[window], self.word_places[window], self.words)
            for window in windows.reviews.token_ids
        ]
        return tokens, windows.shares.tolist()


def find_words(text: str) -> list[Span]:
    """Return the words of a text in order; all between them is white space."""
    return [match.span() for match in _WORD.finditer(text)]


def tokenize_with_words(
    text: str,
    tokenizer: Any,  # noqa: ANN401 - any tokenizer of transformers
    max_length: int,
    truncation: Truncation,
) -> SpannedTokens:
    """Tokenize a text as for scoring, and note the word of each token.

    Raises:
        ModelError: the tokenizer does not know where its tokens stand in the text.
    """
    if not tokenizer.is_fast:
        raise ModelError(
            f"{type(tokenizer).__name__} does not tell where its tokens stand in a text, so words "
            "can't be explained. Use an encoder with a fast tokenizer (tokenizer.json)."
        )
    encoded = tokenizer(
        text, return_offsets_mapping=True, return_special_tokens_mask=True, verbose=False
    )
    words = find_words(text)
    spans = np.array(encoded["offset_mapping"], np.int64).reshape(-1, 2)
    places = assign_words(text, words, spans)
    places[np.array(encoded["special_tokens_mask"], np.bool_)] = -1
    before, after = count_special_tokens(tokenizer)
    kept = cut_tokens(np.arange(len(spans), dtype=np.int32), max_length, truncation, before, after)
    return SpannedTokens(np.array(encoded["input_ids"], np.int64)[kept], places[kept], words)


def assign_words(text: str, words: list[Span], spans: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return (T,), the word of each token; one of white space belongs to the word before it.

    Args:
        text: the text.
        words: its words.
        spans: (T, 2), place of each token; some tokenizers count the space before it in.
    """
    if not words:
        return np.full(len(spans), -1)
    first = [start + _count_spaces(text[start:end]) for start, end in spans.tolist()]
    starts = np.array([start for start, _ in words])
    return np.maximum(np.searchsorted(starts, first, side="right") - 1, 0)


def _count_spaces(piece: str) -> int:
    rest = piece.lstrip()
    return len(piece) - len(rest) if rest else 0
