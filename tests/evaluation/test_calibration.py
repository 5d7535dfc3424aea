"""A temperature makes probabilities honest and changes nothing else."""

import numpy as np
import pytest
from drawn_predictions import BINARY, STARS, build_predictions, draw_overconfident
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import brier_score_loss, log_loss

from peft_sentiment.errors import DataError
from peft_sentiment.evaluation.calibration import (
    compute_bin_errors,
    compute_calibration,
    fit_temperature,
)
from peft_sentiment.evaluation.probabilities import compute_probabilities
from peft_sentiment.evaluation.temperature import rescale
from peft_sentiment.records import Predictions

logit_rows = arrays(np.float32, (12, 3), elements=st.floats(-60, 60, width=32, allow_nan=False))


@pytest.mark.parametrize("label_names", [BINARY, STARS], ids=["two", "three"])
@pytest.mark.parametrize("true_temperature", [0.5, 1.0, 2.5])
def test_the_temperature_that_was_put_in_is_found(
    true_temperature: float, label_names: tuple[str, ...]
) -> None:
    labels, predictions = draw_overconfident(20_000, true_temperature, 1, label_names)
    assert fit_temperature(labels, predictions) == pytest.approx(true_temperature, rel=0.06)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
def test_the_temperature_found_does_not_depend_on_the_one_the_predictions_have(
    temperature: float,
) -> None:
    labels, predictions = draw_overconfident(500, 2)
    found = fit_temperature(labels, rescale(predictions, temperature))
    assert found == pytest.approx(fit_temperature(labels, predictions), rel=1e-2)


@settings(deadline=None)
@given(logit_rows, st.floats(0.01, 100))
def test_no_temperature_changes_a_label(logits: np.ndarray, temperature: float) -> None:
    predictions = build_predictions(compute_probabilities(logits), STARS)
    rescaled = rescale(predictions, temperature)
    assert rescaled.labels == predictions.labels
    np.testing.assert_allclose(rescaled.probabilities.sum(axis=1), 1, atol=1e-6)


def test_a_label_survives_where_rounding_would_make_it_a_tie() -> None:
    just_ahead = np.nextafter(np.float32(0.5), np.float32(1))
    predictions = build_predictions([[1 - just_ahead, just_ahead]])
    assert predictions.labels == rescale(predictions, 100).labels == ["positive"]


@settings(deadline=None, max_examples=50)
@given(st.integers(2, 40), st.integers(0, 1000), st.floats(0.2, 5))
def test_the_log_loss_on_validation_is_never_worse(n: int, seed: int, factor: float) -> None:
    labels, predictions = draw_overconfident(n, factor, seed)
    after = rescale(predictions, fit_temperature(labels, predictions))
    assert compute_log_loss(labels, after) <= compute_log_loss(labels, predictions) + 1e-6


def compute_log_loss(labels: list[str], predictions: Predictions) -> float:
    of_truth = predictions.probabilities[range(len(labels)), [BINARY.index(x) for x in labels]]
    return float(-np.log(of_truth).mean())


def test_a_few_reviews_that_are_all_right_do_not_make_it_sure_of_everything() -> None:
    predictions = build_predictions([[0.2, 0.8], [0.7, 0.3]] * 10)
    temperature = fit_temperature(["positive", "negative"] * 10, predictions)
    assert 0.5 < temperature < 1
    assert rescale(predictions, temperature).probabilities.max() < 0.999


def test_an_honest_model_is_left_nearly_as_it_is_by_500_reviews() -> None:
    found = [fit_temperature(*draw_overconfident(500, 1, seed)) for seed in range(20)]
    assert np.abs(np.log(found)).mean() < 0.045


def test_500_reviews_are_enough_to_see_that_a_model_is_far_too_sure() -> None:
    found = [fit_temperature(*draw_overconfident(500, 3, seed)) for seed in range(20)]
    assert np.mean(found) == pytest.approx(3, rel=0.1)


def test_there_and_back_gives_the_same_probabilities() -> None:
    _, predictions = draw_overconfident(50, 3)
    again = rescale(rescale(predictions, 2.5), 1.0)
    np.testing.assert_allclose(again.probabilities, predictions.probabilities, atol=1e-6)
    assert (again.temperature, rescale(predictions, 2.5).temperature) == (1.0, 2.5)


def test_at_temperature_2_the_log_odds_are_halved() -> None:
    halved = rescale(build_predictions([[0.2, 0.8]]), 2.0).probabilities[0]
    assert np.log(halved[1] / halved[0]) == pytest.approx(np.log(0.8 / 0.2) / 2, rel=1e-5)


def test_calibration_worked_by_hand() -> None:
    # Two reviews in the bin from 0.6 to 0.7, both right; two from 0.9 to 1, one of them.
    predictions = build_predictions([[0.35, 0.65], [0.35, 0.65], [0.95, 0.05], [0.05, 0.95]])
    labels = ["positive", "positive", "negative", "negative"]
    scores = compute_calibration(labels, predictions, np.random.default_rng(0))
    expected = (2 * (1 - 0.65) + 2 * (0.95 - 0.5)) / 4
    assert scores.expected_calibration_error == pytest.approx(expected, abs=1e-6)
    brier = (2 * 0.35**2 + 0.05**2 + 0.95**2) / 4
    assert scores.brier_score == pytest.approx(brier, abs=1e-6)
    filled = [(b.low, b.reviews, b.accuracy) for b in scores.bins if b.reviews]
    assert filled == [(pytest.approx(0.6), 2, 1.0), (pytest.approx(0.9), 2, 0.5)]
    assert sum(b.reviews for b in scores.bins) == 4


def test_scores_do_not_depend_on_the_order_of_the_label_names() -> None:
    labels, predictions = draw_overconfident(300, 2, label_names=STARS)
    scores = compute_calibration(labels, predictions, np.random.default_rng(0))
    codes = [STARS.index(label) for label in labels]
    exact = predictions.probabilities.astype(np.float64)
    exact /= exact.sum(axis=1, keepdims=True)
    assert scores.brier_score == pytest.approx(brier_score_loss(codes, exact, labels=[0, 1, 2]))
    assert scores.log_loss == pytest.approx(log_loss(codes, exact, labels=[0, 1, 2]))


def test_an_honest_model_errs_by_chance_only_and_an_overconfident_one_by_more() -> None:
    errors = []
    for factor in (1.0, 3.0):
        labels, predictions = draw_overconfident(2000, factor)
        scores = compute_calibration(labels, predictions, np.random.default_rng(0))
        errors.append((scores.expected_calibration_error, scores.error_by_chance))
    (honest, by_chance), (overconfident, by_chance_too) = errors
    assert honest < 2 * by_chance < 0.04
    assert overconfident > 5 * by_chance_too


def test_confidences_on_an_edge_belong_to_the_bin_below() -> None:
    confidence = np.array([0.5, 0.51, 1.0])
    wrong = np.zeros((1, 3), np.bool_)
    assert compute_bin_errors(confidence, wrong)[0] == pytest.approx((0.5 + 0.51 + 1) / 3)


def test_a_label_that_the_model_does_not_know_is_refused() -> None:
    _, predictions = draw_overconfident(3, 1)
    with pytest.raises(DataError, match="'neutral'"):
        fit_temperature(["neutral"] * 3, predictions)
