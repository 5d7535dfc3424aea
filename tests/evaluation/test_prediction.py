"""Predictions belong to the reviews, whatever the batching; scoring leaves no trace."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from tiny_models import MAX_POSITIONS, PADDING
from tiny_training import (
    BFLOAT16,
    FLOAT32,
    LABELS,
    build_clock,
    build_tiny_adapter,
    draw_tokens,
    load_tiny_encoder,
    tokenize_tiny,
)
from torch import nn

from peft_sentiment.data.batching import TokenizedReviews
from peft_sentiment.data.windows import divide_tokens
from peft_sentiment.evaluation.prediction import evaluation_mode, predict_logits, predict_reviews
from peft_sentiment.evaluation.probabilities import compute_probabilities
from peft_sentiment.records.reviews import Reviews


@pytest.fixture(scope="module")
def model(tiny_distilbert: Path) -> nn.Module:
    return build_tiny_adapter(tiny_distilbert)


@pytest.fixture(scope="module")
def tokens(tiny_distilbert: Path, tiny_reviews: Reviews) -> TokenizedReviews:
    return tokenize_tiny(tiny_distilbert, tiny_reviews.take(range(40))).reviews


def take(tokens: TokenizedReviews, places: np.ndarray) -> TokenizedReviews:
    return TokenizedReviews([tokens.token_ids[i] for i in places], tokens.is_cut[places])


@pytest.mark.parametrize("batch_size", [1, 7, 40, 1000])
def test_predictions_do_not_depend_on_batch_size_or_padding(
    model: nn.Module, tokens: TokenizedReviews, batch_size: int
) -> None:
    alone = np.concatenate(
        [predict_logits(model, take(tokens, np.array([i])), PADDING, 1, FLOAT32) for i in range(40)]
    )
    together = predict_logits(model, tokens, PADDING, batch_size, FLOAT32)
    np.testing.assert_allclose(together, alone, atol=1e-5)
    assert np.ptp(alone, axis=0).min() > 0.01


def test_predictions_come_back_in_the_order_of_the_reviews(
    model: nn.Module, tokens: TokenizedReviews
) -> None:
    order = np.random.default_rng(0).permutation(40)
    logits = predict_logits(model, tokens, PADDING, 8, FLOAT32)
    shuffled = predict_logits(model, take(tokens, order), PADDING, 8, FLOAT32)
    np.testing.assert_allclose(shuffled, logits[order], atol=1e-5)


def test_bfloat16_gives_nearly_the_same(model: nn.Module, tokens: TokenizedReviews) -> None:
    exact = predict_logits(model, tokens, PADDING, 8, FLOAT32)
    rounded = predict_logits(model, tokens, PADDING, 8, BFLOAT16)
    assert rounded.dtype == np.float32
    assert 0 < np.abs(rounded - exact).max() < 0.1


def test_scoring_leaves_every_modules_mode_as_it_was(
    model: nn.Module, tokens: TokenizedReviews
) -> None:
    model.eval()
    model.base_model.model.dropout.train()
    before = {name: module.training for name, module in model.named_modules()}
    first, second = (predict_logits(model, tokens, PADDING, 8, FLOAT32) for _ in range(2))
    assert {name: module.training for name, module in model.named_modules()} == before
    np.testing.assert_array_equal(first, second)


def test_the_mode_is_put_back_after_an_error(model: nn.Module) -> None:
    model.train()
    with evaluation_mode(model):
        assert not any(module.training for module in model.modules())
    with pytest.raises(RuntimeError, match="broken"), evaluation_mode(model):
        raise RuntimeError("broken")
    assert all(module.training for module in model.modules())


def test_scoring_leaves_no_gradient_and_no_random_draw(
    model: nn.Module, tokens: TokenizedReviews
) -> None:
    model.train()
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    predict_logits(model, tokens, PADDING, 8, FLOAT32)
    assert torch.equal(torch.rand(3), expected)
    assert all(weight.grad is None for weight in model.parameters())


def test_no_review_gives_no_prediction(model: nn.Module, tokens: TokenizedReviews) -> None:
    logits = predict_logits(model, take(tokens, np.arange(0)), PADDING, 8, FLOAT32)
    assert compute_probabilities(logits).shape == (0, 2)


def test_windows_are_scored_by_themselves_and_count_by_their_words(model: nn.Module) -> None:
    drawn = draw_tokens(np.random.default_rng(0), [5, 20, 47])
    reviews = TokenizedReviews(drawn.token_ids, drawn.is_cut, (1, 1), window_length=20)
    logits = predict_logits(model, reviews, PADDING, 8, FLOAT32)
    for ids, found in zip(reviews.token_ids, logits, strict=True):
        parts = divide_tokens(ids, 20, 1, 1)
        alone = TokenizedReviews(parts, np.zeros(len(parts), np.bool_), (1, 1))
        said = predict_logits(model, alone, PADDING, 8, FLOAT32)
        expected = np.average(said, axis=0, weights=alone.lengths - 2)
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_predictions_tell_what_was_read_and_how_long_it_took(tiny_distilbert: Path) -> None:
    encoder = load_tiny_encoder(tiny_distilbert)
    predictions = predict_reviews(
        encoder.model,
        encoder.tokenizer,
        ["good", "a good film " * MAX_POSITIONS],
        label_names=LABELS,
        max_length=32,
        truncation="head",
        batch_size=2,
        precision=FLOAT32,
        clock=build_clock(),
    )
    assert predictions.tokens.tolist() == [3, 32]
    assert predictions.is_cut.tolist() == [False, True]
    assert predictions.seconds == 1.0
    assert predictions.label_names == LABELS
    np.testing.assert_allclose(predictions.probabilities.sum(1), 1, atol=1e-6)


@given(
    arrays.arrays(
        np.float32,
        st.tuples(st.integers(1, 5), st.integers(2, 4)),
        elements=st.floats(-(2**99), 2**99, width=32),
    )
)
def test_probabilities_are_finite_sum_to_1_and_keep_the_order_of_the_logits(
    logits: np.ndarray,
) -> None:
    probabilities = compute_probabilities(logits)
    assert probabilities.dtype == np.float32
    assert ((probabilities >= 0) & (probabilities <= 1)).all()
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-6)
    rows = np.arange(len(logits))
    best = probabilities[rows, logits.argmax(1)]
    np.testing.assert_array_equal(best, probabilities.max(1))


def test_probabilities_are_those_of_torch() -> None:
    logits = torch.randn(20, 3) * 5
    expected = logits.softmax(-1).numpy()
    np.testing.assert_allclose(compute_probabilities(logits.numpy()), expected, atol=1e-6)
