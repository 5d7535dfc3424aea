"""From texts to batches of token ids, with reviews of like length together.

Only what makes tensors imports torch, when it is called: exported models are read without it.

Shapes: B reviews of a batch, T tokens of the longest of them.
"""

import hashlib
import typing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from peft_sentiment.config import Truncation

if typing.TYPE_CHECKING:
    import torch

HEAD_SHARE = 0.25
"""Of a cut review, with `head+tail`: the share of the tokens that comes from its start."""

CHUNK = 1000
"""Reviews tokenized at a time; bounds the memory that Python's lists of numbers take."""

ATTENTION_MATTERS_FROM = 1000
"""Tokens of a review at which its attention takes as long as the rest of a layer."""

POOL = 50
"""Batches' worth of reviews that are sorted by length together. More would pad less, but leave
less to chance."""


@dataclass(frozen=True)
class TokenizedReviews:
    """Token ids of reviews, special tokens included, cut to length.

    Attributes:
        token_ids: one array of ids per review, in the reviews' order.
        is_cut: (N,), whether the review was longer than that.
        special_tokens: how many of each one's ids stand before its text and after it.
        window_length: most tokens that are scored at once; longer reviews are scored in windows
            (data/windows.py). 0 scores all at once.
    """

    token_ids: Sequence[NDArray[np.int32]]
    is_cut: NDArray[np.bool_]
    special_tokens: tuple[int, int] = (0, 0)
    window_length: int = 0

    def __len__(self) -> int:
        """Return the number of reviews."""
        return len(self.token_ids)

    @property
    def lengths(self) -> NDArray[np.int32]:
        """(N,), tokens of each review."""
        return np.fromiter(map(len, self.token_ids), np.int32, len(self))

    @property
    def sha256(self) -> str:
        """One hash of all token ids and lengths."""
        digest = hashlib.sha256(self.lengths.astype("<i4").tobytes())
        for ids in self.token_ids:
            digest.update(ids.astype("<i4").tobytes())
        return digest.hexdigest()

    def take(self, places: NDArray[np.int64]) -> "TokenizedReviews":
        """Return the reviews at these places, in this order."""
        token_ids = [self.token_ids[i] for i in places]
        return TokenizedReviews(
            token_ids, self.is_cut[places], self.special_tokens, self.window_length
        )


@dataclass(frozen=True)
class LabelledTokens:
    """Tokenized reviews with the number of each one's label.

    Attributes:
        reviews: N reviews.
        targets: (N,), place of each one's label in `label_names`.
        label_names: all labels.
        weights: (N,), how much each review counts in training; None where all count the same.
        shuffle_buffer: reviews among which the next one is drawn in training; None for all.
    """

    reviews: TokenizedReviews
    targets: NDArray[np.int64]
    label_names: tuple[str, ...]
    weights: NDArray[np.float32] | None = None
    shuffle_buffer: int | None = None

    def __len__(self) -> int:
        """Return the number of reviews."""
        return len(self.reviews)

    @property
    def labels(self) -> list[str]:
        """The label name of each review."""
        return [self.label_names[target] for target in self.targets]

    @classmethod
    def build(
        cls,
        reviews: TokenizedReviews,
        labels: Sequence[str],
        label_names: Sequence[str],
        weights: Sequence[float] | None = None,
    ) -> "LabelledTokens":
        """Look the labels up among their names."""
        numbers = {name: i for i, name in enumerate(label_names)}
        targets = np.array([numbers[label] for label in labels], dtype=np.int64)
        own = None if weights is None else np.array(weights, np.float32)
        return cls(reviews, targets, tuple(label_names), own)


def tokenize_reviews(
    texts: Sequence[str],
    tokenizer: Any,  # noqa: ANN401 - any callable tokenizer of transformers
    max_length: int,
    truncation: Truncation,
    window_length: int = 0,
) -> TokenizedReviews:
    """Tokenize reviews and cut the long ones.

    Args:
        texts: the reviews.
        tokenizer: a tokenizer of `transformers`.
        max_length: tokens that are kept, special tokens included.
        truncation: which part of a longer review is kept.
        window_length: most tokens that are scored at once; 0 for all.
    """
    before, after = count_special_tokens(tokenizer)
    token_ids: list[NDArray[np.int32]] = []
    for start in range(0, len(texts), CHUNK):
        encoded = tokenizer(list(texts[start : start + CHUNK]), verbose=False)["input_ids"]
        token_ids += [np.asarray(ids, dtype=np.int32) for ids in encoded]
    is_cut = np.fromiter((len(ids) > max_length for ids in token_ids), np.bool_, len(token_ids))
    cut_ids = [cut_tokens(ids, max_length, truncation, before, after) for ids in token_ids]
    return TokenizedReviews(cut_ids, is_cut, (before, after), window_length)


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
) -> "tuple[torch.Tensor, torch.Tensor | None]":
    """Put reviews of unlike length into one tensor.

    Returns:
        (B, T) token ids, padded at the end, and the (B, T) mask of real tokens, or None where
        nothing is padded.
    """
    import torch

    longest = max(map(len, token_ids))
    batch = np.full((len(token_ids), longest), pad_id, dtype=np.int64)
    for row, ids in zip(batch, token_ids, strict=True):
        row[: len(ids)] = ids
    lengths = np.fromiter(map(len, token_ids), np.int64, len(token_ids))
    if lengths.min() == longest:
        return torch.from_numpy(batch), None
    mask = np.arange(longest) < lengths[:, None]
    return torch.from_numpy(batch), torch.from_numpy(mask.astype(np.int64))


def iterate_padded_scoring_batches(
    reviews: TokenizedReviews, batch_size: int, pad_id: int, device: "torch.device"
) -> "Iterator[tuple[NDArray[np.int64], torch.Tensor, torch.Tensor | None]]":
    """Yield the places of each batch's reviews, and ids and mask of `pad_batch` on a device."""
    for places in iterate_scoring_batches(reviews.lengths, batch_size):
        ids, mask = pad_batch([reviews.token_ids[place] for place in places], pad_id)
        yield places, ids.to(device), None if mask is None else mask.to(device)


def iterate_padded_batches(
    reviews: TokenizedReviews, size: int, pad_id: int, rng: np.random.Generator
) -> "Iterator[dict[str, torch.Tensor]]":
    """Yield the reviews in an order by chance, in batches as a model takes them: ids and mask."""
    import torch

    order = rng.permutation(len(reviews))
    for start in range(0, len(order), size):
        ids, mask = pad_batch([reviews.token_ids[i] for i in order[start : start + size]], pad_id)
        yield {"input_ids": ids, "attention_mask": torch.ones_like(ids) if mask is None else mask}


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
    lengths: NDArray[np.int32], batch_size: int, most_tokens: int | None = None
) -> Iterator[NDArray[np.int64]]:
    """Yield the reviews of each batch, longest first, so that memory runs out at once or never.

    Args:
        lengths: (N,), tokens of each review.
        batch_size: most reviews of a batch.
        most_tokens: of a batch, if they are limited; a longer review is a batch of its own.
    """
    order, start = np.argsort(-lengths, kind="stable"), 0
    totals = np.concatenate([[0], np.cumsum(lengths[order], dtype=np.int64)])
    while start < len(order):
        end = min(start + batch_size, len(order))
        if most_tokens is not None:
            fitting = int(np.searchsorted(totals, totals[start] + most_tokens, side="right")) - 1
            end = min(end, max(fitting, start + 1))
        yield order[start:end]
        start = end


def balance_batches(
    chosen: NDArray[np.int64], lengths: NDArray[np.int32], streams: int, most_tokens: int, most: int
) -> list[NDArray[np.int64]]:
    """Divide a step's reviews into batches that take about the same time.

    The longest review left goes to the batch with the least to do (the LPT rule of Graham, 1969).

    Args:
        chosen: places of the step's reviews.
        lengths: (N,), tokens of each review of the data.
        streams: batches computed at once; there is a multiple of them where there are enough
            reviews.
        most_tokens: that a batch has on average, at most.
        most: reviews that a batch has on average, at most.

    Returns:
        Batches, each with its longest review first.
    """
    tokens = lengths[chosen].astype(np.int64)
    rounds = max(
        -(-int(tokens.sum()) // (most_tokens * streams)), -(-len(chosen) // (most * streams))
    )
    batches: list[list[int]] = [[] for _ in range(min(rounds * streams, len(chosen)))]
    work = np.zeros(len(batches))
    for place in np.argsort(-tokens, kind="stable"):
        lightest = int(work.argmin())
        batches[lightest].append(int(chosen[place]))
        work[lightest] += tokens[place] * (1 + tokens[place] / ATTENTION_MATTERS_FROM)
    return [np.array(batch, dtype=np.int64) for batch in batches]
