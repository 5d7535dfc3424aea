"""The probe reads what the encoder says of every token, and nothing of the head."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_models import MODEL_TYPES, PADDING, build_tiny_encoder
from tiny_training import (
    BFLOAT16,
    FLOAT32,
    build_clock,
    draw_tokens,
    load_tiny_encoder,
    tokenize_tiny,
)
from transformers import AutoModel

from peft_sentiment.data.batching import TokenizedReviews
from peft_sentiment.evaluation import pooling
from peft_sentiment.evaluation.pooling import pool_reviews
from peft_sentiment.evaluation.probe import FrozenEncoder, choose_probe_reviews, predict_probe
from peft_sentiment.records.reviews import Reviews

LENGTHS = [5, 40, 17, 3, 64, 17]


@pytest.fixture(scope="module")
def reviews() -> TokenizedReviews:
    return draw_tokens(np.random.default_rng(0), LENGTHS)


def compute_means(folder: Path, reviews: TokenizedReviews) -> np.ndarray:
    """Return the means of plain transformers' hidden states, review by review."""
    model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        states = [model(torch.tensor(ids[None]).long()) for ids in reviews.token_ids]
    return np.stack([of_review.last_hidden_state[0].mean(0).numpy() for of_review in states])


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_states_are_means_over_the_real_tokens_in_the_callers_order(
    model_type: str, reviews: TokenizedReviews, tmp_path: Path
) -> None:
    folder = build_tiny_encoder(model_type, tmp_path / model_type)
    model = load_tiny_encoder(folder).model
    means = pool_reviews(model, reviews, PADDING, 4, FLOAT32)
    np.testing.assert_allclose(means, compute_means(folder, reviews), atol=2e-5)


def test_the_padded_path_says_the_same_and_leaves_the_model_as_it_was(
    tiny_distilbert: Path, reviews: TokenizedReviews, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_tiny_encoder(tiny_distilbert).model
    model.train()
    fast = pool_reviews(model, reviews, PADDING, 4, FLOAT32)
    monkeypatch.setattr(pooling, "can_score_packed", lambda _: False)
    padded = pool_reviews(model, reviews, PADDING, 4, FLOAT32)
    np.testing.assert_allclose(padded, fast, atol=2e-5)
    assert model.training
    # The last layer still computes the first token only.
    token = torch.tensor([[5, 6, 7]])
    assert model.base_model(token).last_hidden_state.shape == (1, 1, 32)


def test_states_in_bfloat16_are_those_in_float32_to_its_rounding(
    tiny_distilbert: Path, reviews: TokenizedReviews
) -> None:
    model = load_tiny_encoder(tiny_distilbert).model
    exact = pool_reviews(model, reviews, PADDING, 4, FLOAT32)
    rounded = pool_reviews(model, reviews, PADDING, 4, BFLOAT16)
    assert np.abs(rounded - exact).mean() < 0.02 * np.abs(exact).mean()


def build_frozen_encoder(folder: Path, head_seed: int = 0) -> FrozenEncoder:
    return FrozenEncoder(load_tiny_encoder(folder, head_seed).model, PADDING, 8, FLOAT32)


def test_the_probe_learns_labels_that_an_untrained_head_does_not_know(
    tiny_distilbert: Path, tiny_reviews: Reviews
) -> None:
    train = tokenize_tiny(tiny_distilbert, tiny_reviews.take(range(140)))
    test = tokenize_tiny(tiny_distilbert, tiny_reviews.take(range(140, 200)))
    encoder = build_frozen_encoder(tiny_distilbert)
    predictions = predict_probe(encoder, train, lambda: test.reviews)
    correct = np.equal(predictions.labels, tiny_reviews.labels[140:])
    assert correct.mean() > 0.7
    assert predictions.tokens.tolist() == test.reviews.lengths.tolist()
    assert predictions.is_cut.tolist() == test.reviews.is_cut.tolist()


def test_the_probe_does_not_depend_on_the_head(
    tiny_distilbert: Path, tiny_reviews: Reviews
) -> None:
    train = tokenize_tiny(tiny_distilbert, tiny_reviews)
    one, other = (
        predict_probe(build_frozen_encoder(tiny_distilbert, seed), train, lambda: train.reviews)
        for seed in (0, 1)
    )
    np.testing.assert_array_equal(one.probabilities, other.probabilities)


def test_the_probes_rate_is_that_of_scoring_alone(
    tiny_distilbert: Path, tiny_reviews: Reviews
) -> None:
    train = tokenize_tiny(tiny_distilbert, tiny_reviews.take(range(20)))
    encoder = build_frozen_encoder(tiny_distilbert)
    predictions = predict_probe(encoder, train, lambda: train.reviews, clock=build_clock())
    assert predictions.seconds == 1.0


@pytest.mark.parametrize("most", [1, 3, 10])
def test_the_probe_reads_the_first_reviews_and_one_of_every_label(most: int) -> None:
    targets = np.array([0, 0, 0, 1, 0, 0, 2])
    chosen = choose_probe_reviews(targets, most)
    assert set(range(min(most, 7))) <= set(chosen.tolist())
    assert set(targets[chosen].tolist()) == {0, 1, 2}
    assert len(chosen) <= max(most, 0) + 2
