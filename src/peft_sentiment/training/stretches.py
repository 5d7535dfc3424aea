"""What training reads of each review: the whole, or a stretch that is drawn anew at every pass."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from peft_sentiment.data.batching import TokenizedReviews


@dataclass(frozen=True)
class Stretches:
    """Stretches of at most `length` tokens, where chance puts them in the longer reviews.

    They depend on seed, step and review alone, so that a training that is resumed, or shared by
    several processes, reads the same ones.

    Attributes:
        reviews: N reviews.
        length: tokens of a stretch, special tokens included; 0 reads whole reviews.
        seed: of the training.
    """

    reviews: TokenizedReviews
    length: int
    seed: int

    @cached_property
    def lengths(self) -> NDArray[np.int32]:
        """(N,), tokens that are read of each review."""
        lengths = self.reviews.lengths
        return np.minimum(lengths, self.length, dtype=np.int32) if self.length else lengths

    @property
    def are_whole(self) -> bool:
        """Whether every review is read whole, and so the same at every pass."""
        return bool((self.lengths == self.reviews.lengths).all())

    def read(self, places: Iterable[int], step: int) -> list[NDArray[np.int32]]:
        """Return the token ids that a step reads of the reviews at these places."""
        return [self._read_one(int(place), step) for place in places]

    def _read_one(self, place: int, step: int) -> NDArray[np.int32]:
        ids = self.reviews.token_ids[place]
        surplus = len(ids) - self.length
        if not self.length or surplus <= 0:
            return ids
        before, after = self.reviews.special_tokens
        start = before + int(np.random.default_rng([self.seed, step, place]).integers(surplus + 1))
        body = ids[start : start + self.length - before - after]
        return np.concatenate([ids[:before], body, ids[len(ids) - after :]])
