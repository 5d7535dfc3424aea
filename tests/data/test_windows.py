"""Windows hold every word of a review once, and every word counts the same in what they say."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_training import draw_tokens

from peft_sentiment.data.batching import TokenizedReviews
from peft_sentiment.data.windows import divide_reviews, divide_tokens

LENGTHS = [2, 3, 9, 10, 11, 40]


def build_reviews(window_length: int) -> TokenizedReviews:
    drawn = draw_tokens(np.random.default_rng(0), LENGTHS)
    return TokenizedReviews(drawn.token_ids, drawn.is_cut, (1, 1), window_length)


@given(
    words=st.integers(0, 200),
    window_length=st.integers(8, 60),
    before=st.integers(0, 2),
    after=st.integers(0, 2),
)
def test_windows_are_few_alike_and_hold_each_word_once_between_special_tokens(
    words: int, window_length: int, before: int, after: int
) -> None:
    ids = np.arange(before + words + after, dtype=np.int32)
    windows = divide_tokens(ids, window_length, before, after)
    lengths = list(map(len, windows))
    assert max(lengths) <= window_length
    assert max(lengths) - min(lengths) <= 1
    assert len(windows) == max(1, math.ceil(words / (window_length - before - after)))
    for window in windows:
        assert window[:before].tolist() == ids[:before].tolist()
        assert window[len(window) - after :].tolist() == ids[len(ids) - after :].tolist()
    inner = [window[before : len(window) - after] for window in windows]
    assert np.concatenate(inner).tolist() == ids[before : len(ids) - after].tolist()


def test_reviews_that_fit_are_left_as_they_are() -> None:
    reviews, logits = build_reviews(40), np.random.default_rng(0).random((6, 2), np.float32)
    windows = divide_reviews(reviews)
    assert all(a is b for a, b in zip(windows.reviews.token_ids, reviews.token_ids, strict=True))
    assert windows.combine(logits) is logits


@pytest.mark.parametrize("window_length", [8, 10, 0])
def test_shares_of_a_review_are_in_proportion_to_its_words(window_length: int) -> None:
    windows = divide_reviews(build_reviews(window_length))
    np.testing.assert_allclose(np.bincount(windows.owners, windows.shares), 1, atol=1e-6)
    assert windows.owners.tolist() == sorted(windows.owners)
    words = windows.reviews.lengths - 2
    whole = np.bincount(windows.owners, words)[windows.owners]
    np.testing.assert_allclose(windows.shares * whole, words * (whole > 0), atol=1e-5)
    is_cut = build_reviews(window_length).is_cut
    assert windows.reviews.is_cut.tolist() == is_cut[windows.owners].tolist()


def test_the_mean_of_windows_is_that_over_words() -> None:
    windows = divide_reviews(build_reviews(10))
    logits = np.random.default_rng(0).random((len(windows.reviews), 3)).astype(np.float32)
    together = windows.combine(logits)
    assert together.shape == (len(LENGTHS), 3)
    for place in range(len(LENGTHS)):
        own = windows.owners == place
        words = np.maximum(windows.reviews.lengths[own] - 2, 1)
        np.testing.assert_allclose(
            together[place], np.average(logits[own], axis=0, weights=words), atol=1e-6
        )


def test_windows_have_no_windows_of_their_own() -> None:
    assert divide_reviews(build_reviews(10)).reviews.window_length == 0


def test_no_review_has_no_window() -> None:
    windows = divide_reviews(TokenizedReviews([], np.zeros(0, np.bool_), (1, 1), 10))
    assert windows.combine(np.zeros((0, 2), np.float32)).shape == (0, 2)


def test_chosen_reviews_keep_their_windows() -> None:
    chosen = build_reviews(10).take(np.array([5, 0]))
    assert divide_reviews(chosen).owners.tolist() == [0, 0, 0, 0, 0, 1]
