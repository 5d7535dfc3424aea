"""Long reviews divided into windows that are scored by themselves, and what they say together.

An adapter that is trained on stretches of reviews knows texts of their length best.

Shapes: N reviews, M windows of them, T tokens, C labels.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from peft_sentiment.data.batching import TokenizedReviews


@dataclass(frozen=True)
class Windows:
    """The windows of some reviews, in the reviews' order.

    Attributes:
        reviews: M windows, each a review of its own with the special tokens of a whole one.
        owners: (M,), place of each window's review.
        shares: (M,), the part of its review's words that a window holds.
    """

    reviews: TokenizedReviews
    owners: NDArray[np.int64]
    shares: NDArray[np.float32]

    def combine(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return (N, C) means of each review's windows, weighted by their shares.

        Args:
            logits: (M, C), of the windows.
        """
        reviews = int(self.owners[-1]) + 1 if len(self.owners) else 0
        if reviews == len(self.owners):
            return logits
        means = np.zeros((reviews, logits.shape[1]), np.float32)
        np.add.at(means, self.owners, logits * self.shares[:, None])
        return means


def divide_reviews(reviews: TokenizedReviews) -> Windows:
    """Divide the reviews that are longer than their `window_length`."""
    length, (before, after) = reviews.window_length, reviews.special_tokens
    divided = [divide_tokens(ids, length, before, after) for ids in reviews.token_ids]
    counts = np.fromiter(map(len, divided), np.int64, len(divided))
    windows = [window for parts in divided for window in parts]
    owners = np.repeat(np.arange(len(reviews)), counts)
    words = np.fromiter(map(len, windows), np.int64, len(windows)) - before - after
    sums = np.bincount(owners, words, len(reviews))
    shares = np.where(counts[owners] == 1, 1.0, words / np.maximum(sums[owners], 1))
    return Windows(
        TokenizedReviews(windows, reviews.is_cut[owners], reviews.special_tokens),
        owners,
        shares.astype(np.float32),
    )


def divide_tokens(
    ids: NDArray[np.int32], window_length: int, before: int, after: int
) -> list[NDArray[np.int32]]:
    """Divide a review into as few windows as can be, which are as long as each other.

    Args:
        ids: (T,), of the review.
        window_length: most tokens of a window, special tokens included; 0 for no windows.
        before: special tokens in front, of the review and of each window.
        after: special tokens behind.
    """
    room = window_length - before - after
    words = ids[before : len(ids) - after]
    if not window_length or len(words) <= room:
        return [ids]
    parts = np.array_split(words, math.ceil(len(words) / room))
    return [np.concatenate([ids[:before], part, ids[len(ids) - after :]]) for part in parts]
