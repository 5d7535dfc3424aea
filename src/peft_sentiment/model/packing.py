"""Reviews laid end to end, without padding."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from peft_sentiment.model.attention import round_up

ROW_ROUNDING = 64
"""oneDNN compiles a kernel for each number of rows; this keeps them few, at 1 to 2 % more rows."""


@dataclass(frozen=True)
class PackedReviews:
    """Reviews laid end to end.

    Attributes:
        ids: (N,) token ids.
        places: (N,) place of each token in its review.
        lengths: tokens of each of the B reviews.
    """

    ids: torch.Tensor
    places: torch.Tensor
    lengths: tuple[int, ...]

    @property
    def first_rows(self) -> list[int]:
        """Rows of the B first tokens."""
        return [0, *itertools.accumulate(self.lengths[:-1])]


def pack_reviews(token_ids: Sequence[NDArray[np.int32]]) -> PackedReviews:
    """Lay reviews end to end, in their order, and round the number of rows up.

    The rows after the last review hold token 0 at place 0; nothing reads what becomes of them.
    """
    lengths = tuple(map(len, token_ids))
    rows, end = round_up(sum(lengths), ROW_ROUNDING), 0
    ids, places = np.zeros(rows, np.int64), np.zeros(rows, np.int64)
    for review, length in zip(token_ids, lengths, strict=True):
        ids[end : end + length], places[end : end + length] = review, np.arange(length)
        end += length
    return PackedReviews(torch.from_numpy(ids), torch.from_numpy(places), lengths)
