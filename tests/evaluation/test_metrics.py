"""The scores are those of the textbook, whatever the order and number of the labels."""

import dataclasses
import itertools
import json

import numpy as np
import pytest
from numpy.typing import ArrayLike
from statsmodels.stats.proportion import proportion_confint

from peft_sentiment.errors import DataError
from peft_sentiment.evaluation.intervals import compute_wilson_interval
from peft_sentiment.evaluation.metrics import compute_scores
from peft_sentiment.records import Predictions, render_json

BINARY = ("negative", "positive")
STARS = ("good", "bad", "fair")  # not in the alphabet's order


def build_predictions(
    probabilities: ArrayLike, label_names: tuple[str, ...] = BINARY, seconds: float = 1.0
) -> Predictions:
    matrix = np.array(probabilities, np.float32).reshape(-1, len(label_names))
    n = len(matrix)
    return Predictions(
        label_names=label_names,
        probabilities=matrix,
        tokens=np.full(n, 9, np.int32),
        is_cut=np.zeros(n, np.bool_),
        seconds=seconds,
    )


def draw_predictions(rng: np.random.Generator, n: int, label_names: tuple[str, ...]) -> Predictions:
    return build_predictions(rng.dirichlet(np.ones(len(label_names)), n), label_names)


def test_a_small_case_worked_by_hand() -> None:
    # Said: positive, positive, negative, negative.
    predictions = build_predictions([(0.1, 0.9), (0.2, 0.8), (0.7, 0.3), (0.6, 0.4)], seconds=0.5)
    scores = compute_scores(["positive", "negative", "negative", "negative"], predictions, 0.95)
    assert scores.accuracy == 0.75
    assert scores.confusion == ((2, 1), (0, 1))
    assert scores.precision == pytest.approx((1 + 1 / 2) / 2)
    assert scores.recall == pytest.approx((2 / 3 + 1) / 2)
    assert scores.f1 == pytest.approx((4 / 5 + 2 / 3) / 2)
    assert scores.roc_auc == 1.0
    assert scores.log_loss == pytest.approx(-np.mean(np.log([0.9, 0.2, 0.7, 0.6])), rel=1e-6)
    assert scores.accuracy_interval == compute_wilson_interval(3, 4, 0.95)
    assert scores.reviews_per_second == 8.0


def test_roc_auc_is_the_chance_that_a_positive_review_outranks_a_negative_one() -> None:
    rng = np.random.default_rng(0)
    predictions = draw_predictions(rng, 60, BINARY)
    labels = rng.choice(BINARY, 60).tolist()
    chance = predictions.probabilities[:, 1]
    positive, negative = (chance[np.array(labels) == name] for name in reversed(BINARY))
    wins = [p > q for p, q in itertools.product(positive, negative)]
    scores = compute_scores(labels, predictions, 0.95)
    assert scores.roc_auc == pytest.approx(np.mean(wins))


def test_roc_auc_of_three_labels_is_the_mean_of_each_against_the_rest() -> None:
    rng = np.random.default_rng(1)
    predictions = draw_predictions(rng, 80, STARS)
    labels = rng.choice(STARS, 80).tolist()
    one_against_rest = [
        compute_scores(
            ["positive" if label == name else "negative" for label in labels],
            build_predictions(np.column_stack([1 - column, column])),
            0.95,
        ).roc_auc
        for name, column in zip(STARS, predictions.probabilities.T, strict=True)
    ]
    assert compute_scores(labels, predictions, 0.95).roc_auc == pytest.approx(
        np.mean(one_against_rest), abs=1e-6
    )


def test_scores_do_not_depend_on_the_order_of_the_labels() -> None:
    rng = np.random.default_rng(2)
    predictions = draw_predictions(rng, 80, STARS)
    labels = rng.choice(STARS, 80).tolist()
    scores = compute_scores(labels, predictions, 0.95)
    for order in itertools.permutations(range(3)):
        reordered = dataclasses.replace(
            predictions,
            label_names=tuple(STARS[i] for i in order),
            probabilities=predictions.probabilities[:, order],
        )
        others = compute_scores(labels, reordered, 0.95)
        for name in ("accuracy", "f1", "precision", "recall", "roc_auc", "log_loss"):
            assert getattr(others, name) == pytest.approx(getattr(scores, name))
        assert others.confusion == tuple(
            tuple(scores.confusion[i][j] for j in order) for i in order
        )


def test_scores_do_not_depend_on_the_order_of_the_reviews() -> None:
    rng = np.random.default_rng(3)
    predictions = draw_predictions(rng, 50, STARS)
    labels = rng.choice(STARS, 50)
    order = rng.permutation(50)
    shuffled = dataclasses.replace(predictions, probabilities=predictions.probabilities[order])
    scores = compute_scores(labels.tolist(), predictions, 0.95)
    others = compute_scores(labels[order].tolist(), shuffled, 0.95)
    assert others.log_loss == pytest.approx(scores.log_loss)
    assert dataclasses.replace(others, log_loss=0.0) == dataclasses.replace(scores, log_loss=0.0)


def test_a_label_that_no_review_has_counts_in_the_macro_means_and_leaves_no_roc_auc() -> None:
    predictions = build_predictions([(0.8, 0.1, 0.1), (0.1, 0.8, 0.1)], STARS)
    scores = compute_scores(["good", "bad"], predictions, 0.95)
    assert scores.accuracy == 1.0
    assert scores.f1 == scores.precision == scores.recall == pytest.approx(2 / 3)
    assert scores.roc_auc is None
    assert scores.confusion == ((1, 0, 0), (0, 1, 0), (0, 0, 0))


def test_reviews_of_one_label_have_no_roc_auc() -> None:
    scores = compute_scores(["positive"] * 3, build_predictions([(0.4, 0.6)] * 3), 0.95)
    assert scores.roc_auc is None
    assert scores.log_loss == pytest.approx(-np.log(0.6), rel=1e-6)


def test_log_loss_of_a_model_that_is_sure_and_wrong_is_not_cut() -> None:
    predictions = build_predictions([(1.0, 1e-12)])
    scores = compute_scores(["positive"], predictions, 0.95)
    assert scores.log_loss == pytest.approx(-np.log(1e-12), rel=1e-5)


def test_scores_are_plain_numbers_that_json_can_hold() -> None:
    scores = compute_scores(["negative", "positive"], build_predictions(np.eye(2)), 0.95)
    assert json.loads(render_json(scores))["confusion"] == [[1, 0], [0, 1]]


def test_a_label_that_the_model_does_not_know_is_named() -> None:
    with pytest.raises(DataError, match=r"label 'neutral'.*negative, positive"):
        compute_scores(["neutral"], build_predictions([(0.5, 0.5)]), 0.95)


@pytest.mark.parametrize("n", [0, 2])
def test_as_many_labels_as_predictions_are_needed(n: int) -> None:
    with pytest.raises(ValueError, match="labels for"):
        compute_scores(["positive"] * n, build_predictions([(0.5, 0.5)] * (n // 2)), 0.95)


@pytest.mark.parametrize("level", [0.8, 0.95, 0.99])
@pytest.mark.parametrize(("successes", "n"), [(0, 1), (1, 1), (0, 600), (528, 600), (600, 600)])
def test_wilson_interval_is_that_of_statsmodels(successes: int, n: int, level: float) -> None:
    expected = proportion_confint(successes, n, alpha=1 - level, method="wilson")
    assert compute_wilson_interval(successes, n, level) == pytest.approx(expected, abs=1e-12)


def test_wilson_interval_holds_the_true_share_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(4)
    intervals = [compute_wilson_interval(int(k), 200, 0.9) for k in rng.binomial(200, 0.9, 400)]
    coverage = np.mean([low <= 0.9 <= high for low, high in intervals])
    assert 0.85 < coverage < 0.95


def test_an_interval_needs_a_trial() -> None:
    with pytest.raises(ValueError, match="at least one"):
        compute_wilson_interval(0, 0, 0.95)
