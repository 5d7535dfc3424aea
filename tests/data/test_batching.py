"""Cutting, padding and ordering lose no token and no review."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import END, PADDING, START, build_tiny_tokenizer

from peft_sentiment.data.batching import (
    CHUNK,
    POOL,
    LabelledTokens,
    Truncation,
    balance_batches,
    count_special_tokens,
    cut_tokens,
    iterate_scoring_batches,
    iterate_training_steps,
    pad_batch,
    tokenize_reviews,
)
from peft_sentiment.records.reviews import Reviews

TRUNCATIONS: tuple[Truncation, ...] = ("head", "tail", "head+tail")

lengths_of_reviews = st.lists(st.integers(2, 40), min_size=1, max_size=150).map(
    lambda lengths: np.array(lengths, np.int32)
)


@given(
    words=st.integers(0, 60),
    max_length=st.integers(8, 50),
    truncation=st.sampled_from(TRUNCATIONS),
    before=st.integers(0, 2),
    after=st.integers(0, 2),
)
def test_a_cut_keeps_special_tokens_order_and_exact_length(
    words: int, max_length: int, truncation: Truncation, before: int, after: int
) -> None:
    ids = np.arange(before + words + after, dtype=np.int32)
    cut = cut_tokens(ids, max_length, truncation, before, after)
    assert len(cut) == min(len(ids), max_length)
    assert (np.diff(cut) > 0).all()
    kept = set(cut.tolist())
    assert kept >= {*ids[:before].tolist(), *ids[len(ids) - after :].tolist()}


@given(words=st.integers(7, 60), max_length=st.integers(8, 50))
def test_a_cut_keeps_the_part_it_is_named_for(words: int, max_length: int) -> None:
    room = max_length - 2
    text = np.arange(1, words + 1, dtype=np.int32)
    ids = np.concatenate([[0], text, [99]]).astype(np.int32)
    head, tail, both = (cut_tokens(ids, max_length, t, 1, 1)[1:-1].tolist() for t in TRUNCATIONS)
    assert head == text[:room].tolist()
    assert tail == text[-room:].tolist()
    if words > room:
        quarter = room // 4
        assert both == [*text[:quarter].tolist(), *text[quarter - room :].tolist()]
    else:
        assert both == text.tolist()


@pytest.mark.parametrize("truncation", TRUNCATIONS)
def test_tokenized_reviews_are_those_of_the_tokenizer_cut_to_length(truncation: Truncation) -> None:
    tokenizer = build_tiny_tokenizer()
    texts = ["good", "a good film " * 30, "", "the worst " * 4]
    reviews = tokenize_reviews(texts, tokenizer, 16, truncation)
    whole = [tokenizer(text)["input_ids"] for text in texts]
    assert reviews.is_cut.tolist() == [False, True, False, False]
    assert reviews.lengths.tolist() == [min(len(ids), 16) for ids in whole]
    for ids, cut in zip(whole, reviews.token_ids, strict=True):
        assert (cut[0], cut[-1]) == (START, END)
        assert len(ids) > 16 or cut.tolist() == ids


def test_more_reviews_than_are_tokenized_at_once_keep_their_order() -> None:
    texts = ["good " * (1 + place % 7) for place in range(2 * CHUNK + 1)]
    reviews = tokenize_reviews(texts, build_tiny_tokenizer(), 32, "head")
    assert reviews.lengths.tolist() == [3 + place % 7 for place in range(len(texts))]


def test_a_tokenizers_own_limit_says_nothing_and_cuts_nothing() -> None:
    # A warning would fail this test; the tokenizer's model_max_length is 128.
    reviews = tokenize_reviews(["good " * 500], build_tiny_tokenizer(), 400, "tail")
    assert reviews.lengths.tolist() == [400]


@pytest.mark.parametrize("model_type", ["distilbert", "bert"])
def test_special_tokens_are_counted(model_type: str) -> None:
    assert count_special_tokens(build_tiny_tokenizer(model_type)) == (1, 1)


def test_targets_are_the_places_of_the_labels(tiny_reviews: Reviews) -> None:
    tokens = tokenize_reviews(tiny_reviews.texts[:4], build_tiny_tokenizer(), 16, "head")
    names = ("positive", "negative")
    labelled = LabelledTokens.build(tokens, tiny_reviews.labels[:4], names)
    assert [names[target] for target in labelled.targets] == list(tiny_reviews.labels[:4])


@given(lengths_of_reviews)
def test_padding_adds_padding_and_nothing_else(lengths: np.ndarray) -> None:
    token_ids = [np.arange(5, 5 + length, dtype=np.int32) for length in lengths]
    ids, mask = pad_batch(token_ids, PADDING)
    assert ids.shape == (len(lengths), lengths.max())
    assert ids.dtype == torch.int64
    assert (mask is None) == (lengths.min() == lengths.max())
    for row, real in zip(ids.numpy(), token_ids, strict=True):
        np.testing.assert_array_equal(row[: len(real)], real)
        assert (row[len(real) :] == PADDING).all()
    if mask is not None:
        np.testing.assert_array_equal(mask.sum(1).numpy(), lengths)
        assert (mask.diff(dim=1) <= 0).all()


@given(lengths_of_reviews, st.integers(1, 40), st.integers(0, 3))
def test_an_epoch_has_every_review_once_in_full_steps(
    lengths: np.ndarray, reviews_per_step: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    steps = list(iterate_training_steps(lengths, reviews_per_step, rng))
    assert sorted(np.concatenate(steps).tolist()) == list(range(len(lengths)))
    sizes = sorted(map(len, steps))
    assert all(size == reviews_per_step for size in sizes[1:])
    assert 1 <= sizes[0] <= reviews_per_step


def test_like_lengths_are_together_but_in_no_order_of_length() -> None:
    lengths = np.random.default_rng(0).integers(10, 256, 16 * POOL * 2).astype(np.int32)
    steps = list(iterate_training_steps(lengths, 16, np.random.default_rng(0)))
    padded = sum(len(step) * lengths[step].max() for step in steps)
    assert padded < 1.05 * lengths.sum()
    longest = [int(lengths[step].max()) for step in steps]
    assert abs(np.corrcoef(longest, np.arange(len(longest)))[0, 1]) < 0.3


def test_the_generator_decides_the_order() -> None:
    lengths = np.full(200, 10, np.int32)
    first, again, other = (
        np.concatenate(list(iterate_training_steps(lengths, 8, np.random.default_rng(seed))))
        for seed in (0, 0, 1)
    )
    assert first.tolist() == again.tolist()
    assert first.tolist() != other.tolist()


@given(lengths_of_reviews, st.integers(1, 40))
def test_scoring_takes_every_review_once_the_longest_first(
    lengths: np.ndarray, batch_size: int
) -> None:
    batches = list(iterate_scoring_batches(lengths, batch_size))
    order = np.concatenate(batches)
    assert sorted(order.tolist()) == list(range(len(lengths)))
    assert (np.diff(lengths[order]) <= 0).all()
    assert {len(batch) for batch in batches[:-1]} <= {batch_size}


@given(
    lengths=st.lists(st.integers(1, 512), min_size=1, max_size=40),
    streams=st.integers(1, 4),
    most_tokens=st.integers(1, 3000),
    most=st.integers(1, 20),
)
def test_balanced_batches_hold_every_review_once(
    lengths: list[int], streams: int, most_tokens: int, most: int
) -> None:
    of_all, chosen = np.array([9, *lengths], np.int32), np.arange(1, len(lengths) + 1)
    batches = balance_batches(chosen, of_all, streams, most_tokens, most)
    assert sorted(np.concatenate(batches).tolist()) == chosen.tolist()
    assert all(len(batch) for batch in batches)
    assert np.mean([len(batch) for batch in batches]) <= max(1, most)
    means = np.mean([of_all[batch].sum() for batch in batches])
    assert means <= most_tokens or len(batches) == len(lengths)


def test_balanced_batches_take_about_the_same_time() -> None:
    lengths = np.array([512, 512, 256, 256, 128, 128, 64, 64], np.int32)
    batches = balance_batches(np.arange(8), lengths, 2, 10_000, 16)
    assert len(batches) == 2
    assert lengths[batches[0]].sum() == lengths[batches[1]].sum()


def test_scoring_batches_are_limited_in_tokens() -> None:
    lengths = np.array([5, 900, 30, 20, 20, 10], np.int32)
    batches = list(iterate_scoring_batches(lengths, 3, most_tokens=50))
    assert [batch.tolist() for batch in batches] == [[1], [2, 3], [4, 5, 0]]
