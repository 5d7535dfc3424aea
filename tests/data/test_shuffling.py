"""The order of streamed reviews: each once, and as far from its place as the buffer lets it be."""

import numpy as np
import pytest
from numpy.typing import NDArray

from peft_sentiment.data.batching import iterate_training_steps
from peft_sentiment.data.shuffling import iterate_buffered_order, iterate_shuffled_steps

LENGTHS = np.random.default_rng(0).integers(5, 60, 1003).astype(np.int32)


def list_steps(buffer_size: int | None, seed: int = 1) -> list[NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    return list(iterate_shuffled_steps(LENGTHS, 4, rng, buffer_size))


@pytest.mark.parametrize("buffer_size", [None, 1, 10, 1002, 1003, 5000])
def test_every_review_comes_once_and_only_the_last_step_may_be_short(
    buffer_size: int | None,
) -> None:
    steps = list_steps(buffer_size)
    assert sorted(np.concatenate(steps).tolist()) == list(range(1003))
    assert sorted(map(len, steps)) == [3] + [4] * 250


@pytest.mark.parametrize("buffer_size", [1, 10, 1002])
def test_the_short_step_of_a_buffered_epoch_is_the_last(buffer_size: int) -> None:
    assert len(list_steps(buffer_size)[-1]) == 3


def test_a_buffer_for_all_reviews_gives_the_order_of_reviews_in_memory() -> None:
    expected = list(iterate_training_steps(LENGTHS, 4, np.random.default_rng(1)))
    for size in (1003, 5000, None):
        found = list_steps(size)
        assert [step.tolist() for step in found] == [step.tolist() for step in expected]


def test_the_order_depends_on_the_seed_alone() -> None:
    orders = [np.concatenate(list_steps(10, seed)).tolist() for seed in (1, 1, 2)]
    assert orders[0] == orders[1] != orders[2]


@pytest.mark.parametrize("size", [1, 7, 100])
def test_no_place_comes_before_the_buffer_reaches_it(size: int) -> None:
    order = np.concatenate(list(iterate_buffered_order(1000, size, np.random.default_rng(0))))
    assert (order < np.arange(1000) + size).all()
    assert (size == 1) == (order == np.arange(1000)).all()


def test_a_larger_buffer_mixes_sorted_labels_better() -> None:
    labels = np.arange(1003) >= 500
    shares = [labels[np.concatenate(list_steps(size)[:50])].mean() for size in (10, 600, None)]
    assert shares[0] == 0.0 < shares[1] < shares[2]
    assert abs(shares[2] - 0.5) < 0.15
