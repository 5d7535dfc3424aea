"""From texts to batches of token ids, with reviews of like length together.

Shapes: B reviews of a batch, T tokens of the longest of them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from peft_sentiment.config import Truncation

HEAD_SHARE = 0.25
"""Of a cut review, with `head+tail`: the share of the tokens that comes from its start."""

CHUNK = 1000
"""Reviews tokenized at a time; bounds the memory that Python's lists of numbers take."""

POOL = 50
"""Batches' worth of reviews that are sorted by length together. More would pad less, but leave
less to chance."""


@dataclass(frozen=True)
class TokenizedReviews:
    """Token ids of reviews, special tokens included, cut to length.

    Attributes:
        token_ids: one array of ids per review, in the reviews' order.
        is_cut: (N,), whether the review was longer than that.
    """

    token_ids: list[NDArray[np.int32]]
    is_cut: NDArray[np.bool_]

    def __len__(self) -> int:
        """Return the number of reviews."""
        return len(self.token_ids)

    @property
    def lengths(self) -> NDArray[np.int32]:
        """(N,), tokens of each review."""
        return np.fromiter(map(len, self.token_ids), np.int32, len(self))


@dataclass(frozen=True)
class LabelledTokens:
    """Tokenized reviews with the number of each one's label.

    Attributes:
        reviews: N reviews.
        targets: (N,), place of each one's label in `label_names`.
        label_names: all labels.
    """

    reviews: TokenizedReviews
    targets: NDArray[np.int64]
    label_names: tuple[str, ...]

    def __len__(self) -> int:
        """Return the number of reviews."""
        return len(self.reviews)

    @classmethod
    def build(
        cls, reviews: TokenizedReviews, labels: Sequence[str], label_names: Sequence[str]
    ) -> "LabelledTokens":
        """Look the labels up among their names."""
        numbers = {name: i for i, name in enumerate(label_names)}
        targets = np.array([numbers[label] for label in labels], dtype=np.int64)
        return cls(reviews, targets, tuple(label_names))


def tokenize_reviews(
    texts: Sequence[str],
    tokenizer: Any,  # noqa: ANN401 - any callable tokenizer of transformers
    max_length: int,
    truncation: Truncation,
) -> TokenizedReviews:
    """Tokenize reviews and cut the long ones.

    Args:
        texts: the reviews.
        tokenizer: a tokenizer of `transformers`.
        max_length: tokens that are kept, special tokens included.
        truncation: which part of a longer review is kept.
    """
    before, after = count_special_tokens(tokenizer)
    token_ids: list[NDArray[np.int32]] = []
    for start in range(0, len(texts), CHUNK):
        encoded = tokenizer(list(texts[start : start + CHUNK]), verbose=False)["input_ids"]
        token_ids += [np.asarray(ids, dtype=np.int32) for ids in encoded]
    is_cut = np.fromiter((len(ids) > max_length for ids in token_ids), np.bool_, len(token_ids))
    cut_ids = [cut_tokens(ids, max_length, truncation, before, after) for ids in token_ids]
    return TokenizedReviews(cut_ids, is_cut)


def count_special_tokens(tokenizer: Any) -> tuple[int, int]:  # noqa: ANN401 - as above
    """Return how many special tokens a tokenizer puts before and after a text."""
    mask = tokenizer("a", return_special_tokens_mask=True)["special_tokens_mask"]
    before = mask.index(0)
    return before, mask[::-1].index(0)


def cut_tokens(
    ids: NDArray[np.int32], max_length: int, truncation: Truncation, before: int, after: int
) -> NDArray[np.int32]:
    """Cut a review to `max_length` tokens between its special tokens.

    Args:
        ids: of the whole review.
        max_length: tokens that are kept, special tokens included.
        truncation: which part is kept.
        before: special tokens in front.
        after: special tokens behind.
    """
    if len(ids) <= max_length:
        return ids
    room = max_length - before - after
    from_head = {"head": room, "tail": 0, "head+tail": int(room * HEAD_SHARE)}[truncation]
    head_end = before + from_head
    tail_start = len(ids) - after - (room - from_head)
    return np.concatenate([ids[:head_end], ids[tail_start:]])


def pad_batch(
    token_ids: Sequence[NDArray[np.int32]], pad_id: int
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Put reviews of unlike length into one tensor.

    Returns:
        (B, T) token ids, padded at the end, and the (B, T) mask of real tokens, or None where
        nothing is padded.
    """
    longest = max(map(len, token_ids))
    batch = np.full((len(token_ids), longest), pad_id, dtype=np.int64)
    for row, ids in zip(batch, token_ids, strict=True):
        row[: len(ids)] = ids
    lengths = np.fromiter(map(len, token_ids), np.int64, len(token_ids))
    if lengths.min() == longest:
        return torch.from_numpy(batch), None
    mask = np.arange(longest) < lengths[:, None]
    return torch.from_numpy(batch), torch.from_numpy(mask.astype(np.int64))


def iterate_training_steps(
    lengths: NDArray[np.int32], reviews_per_step: int, rng: np.random.Generator
) -> Iterator[NDArray[np.int64]]:
    """Yield the reviews of each step of one epoch: every review once, like lengths together.

    The reviews are shuffled, sorted by length within pools of `POOL` steps, and the steps
    shuffled again.

    Args:
        lengths: (N,), tokens of each review.
        reviews_per_step: the last step may have fewer.
        rng: decides the order.
    """
    order = rng.permutation(len(lengths))
    pool_size = POOL * reviews_per_step
    pools = [order[i : i + pool_size] for i in range(0, len(order), pool_size)]
    order = np.concatenate([pool[np.argsort(lengths[pool], kind="stable")] for pool in pools])
    steps = [order[i : i + reviews_per_step] for i in range(0, len(order), reviews_per_step)]
    for place in rng.permutation(len(steps)):
        yield steps[place]


def iterate_scoring_batches(
    lengths: NDArray[np.int32], batch_size: int
) -> Iterator[NDArray[np.int64]]:
    """Yield the reviews of each batch, longest first, so that memory runs out at once or never."""
    order = np.argsort(-lengths, kind="stable")
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]
