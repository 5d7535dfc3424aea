"""What training reads of each review: the whole, or a stretch that is drawn anew at every pass."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from peft_sentiment.config import TrainingSettings
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
        tail_share: share of the stretches that are the end of their review.
    """

    reviews: TokenizedReviews
    length: int
    seed: int
    tail_share: float = 0.0

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
        chance = np.random.default_rng([self.seed, step, place])
        skipped = int(chance.integers(surplus + 1))
        if chance.random() < self.tail_share:
            skipped = surplus
        start = before + skipped
        body = ids[start : start + self.length - before - after]
        return np.concatenate([ids[:before], body, ids[len(ids) - after :]])


def build_stretches(reviews: TokenizedReviews, settings: TrainingSettings) -> Stretches:
    """Return what a training with these settings reads of its reviews."""
    return Stretches(reviews, settings.crop_length, settings.seed, settings.crop_tail_share)
