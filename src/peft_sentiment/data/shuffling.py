"""The order in which training reads reviews: by chance among all, or among those of a buffer.

A buffer keeps the places read near each other, so that a slow disk is read nearly in order. It
mixes only what lies near: of rows that are sorted by label, the first steps see one label.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from peft_sentiment.data.batching import POOL, iterate_training_steps

_DRAWN_AT_ONCE = 1 << 16


def iterate_shuffled_steps(
    lengths: NDArray[np.int32],
    reviews_per_step: int,
    rng: np.random.Generator,
    buffer_size: int | None = None,
) -> Iterator[NDArray[np.int64]]:
    """Yield the reviews of each step of one epoch: every review once, like lengths together.

    With a buffer, reviews are sorted by length within pools of `POOL` steps and the steps of a pool
    shuffled. Without one, or with one for all reviews, it is `iterate_training_steps`.

    Args:
        lengths: (N,), tokens of each review.
        reviews_per_step: the last step may have fewer.
        rng: decides the order.
        buffer_size: reviews among which the next one is drawn; None for all.
    """
    if buffer_size is None or buffer_size >= len(lengths):
        yield from iterate_training_steps(lengths, reviews_per_step, rng)
        return
    drawn = iterate_buffered_order(len(lengths), buffer_size, rng)
    for pool in _gather(drawn, POOL * reviews_per_step):
        ordered = pool[np.argsort(lengths[pool], kind="stable")]
        # Only the last step of an epoch may be short, so it stays the last.
        full = len(ordered) // reviews_per_step
        for step in rng.permutation(full):
            yield ordered[step * reviews_per_step : (step + 1) * reviews_per_step]
        if len(ordered) > full * reviews_per_step:
            yield ordered[full * reviews_per_step :]


def iterate_buffered_order(
    count: int, buffer_size: int, rng: np.random.Generator
) -> Iterator[NDArray[np.int64]]:
    """Yield the places 0 to count - 1, some at a time, as a shuffle buffer lets them out.

    The buffer begins with the first places. One of it is drawn and the next place put there, as in
    the shuffle of `datasets`.
    """
    size = min(buffer_size, count)
    buffer = list(range(size))
    for start in range(size, count, _DRAWN_AT_ONCE):
        coming = range(start, min(start + _DRAWN_AT_ONCE, count))
        drawn = []
        for place, slot in zip(coming, rng.integers(size, size=len(coming)).tolist(), strict=True):
            drawn.append(buffer[slot])
            buffer[slot] = place
        yield np.array(drawn, np.int64)
    yield np.array(buffer, np.int64)[rng.permutation(size)]


def _gather(parts: Iterator[NDArray[np.int64]], size: int) -> Iterator[NDArray[np.int64]]:
    """Yield what the parts hold, in their order, in pieces of one size; the last may be short."""
    left = np.zeros(0, np.int64)
    for part in parts:
        left = np.concatenate([left, part])
        full = len(left) // size * size
        yield from (left[start : start + size] for start in range(0, full, size))
        left = left[full:]
    if len(left):
        yield left
