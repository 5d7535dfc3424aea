"""The comparison is that of statsmodels and of a bootstrap that really resamples reviews."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray
from statsmodels.stats.contingency_tables import mcnemar

from peft_sentiment.config import EvaluationSettings
from peft_sentiment.evaluation.comparison import (
    compare_predictions,
    compute_bootstrap_interval,
    compute_mcnemar_p_value,
)
from peft_sentiment.evaluation.metrics import compute_scores
from peft_sentiment.records import Improvement, Predictions

LABELS = ("negative", "positive")
SETTINGS = EvaluationSettings(confidence_level=0.9, bootstrap_samples=2000)


def build_predictions(probabilities: NDArray[np.float32]) -> Predictions:
    n = len(probabilities)
    return Predictions(LABELS, probabilities, np.ones(n, np.int32), np.zeros(n, np.bool_), 1.0)


def draw_case(
    seed: int, n: int = 200, base_accuracy: float = 0.6, peft_accuracy: float = 0.8
) -> tuple[list[str], Predictions, Predictions]:
    """Return labels and the predictions of two models that are right with these chances."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 2, n)
    models = []
    for accuracy in (base_accuracy, peft_accuracy):
        said = np.where(rng.random(n) < accuracy, truth, 1 - truth)
        confidence = rng.uniform(0.5, 1, n)
        positive = np.where(said == 1, confidence, 1 - confidence)
        models.append(build_predictions(np.column_stack([1 - positive, positive]).astype("f4")))
    return [LABELS[i] for i in truth], *models


def compare(
    labels: Sequence[str], base: Predictions, peft: Predictions, seed: int = 0
) -> Improvement:
    return compare_predictions(labels, base, peft, SETTINGS, np.random.default_rng(seed))


def test_the_deltas_are_those_of_the_two_models_scores() -> None:
    labels, base, peft = draw_case(seed=1)
    before, after = (compute_scores(labels, model, 0.9) for model in (base, peft))
    improvement = compare(labels, base, peft)
    assert improvement.accuracy == after.accuracy - before.accuracy
    assert improvement.f1 == after.f1 - before.f1


def test_fixed_and_broken_reviews_explain_the_whole_difference_in_accuracy() -> None:
    labels, base, peft = draw_case(seed=2)
    improvement = compare(labels, base, peft)
    assert improvement.fixed > 0 < improvement.broken
    assert (improvement.fixed - improvement.broken) / len(labels) == pytest.approx(
        improvement.accuracy
    )


def test_swapping_the_models_mirrors_the_comparison() -> None:
    labels, base, peft = draw_case(seed=3)
    there, back = compare(labels, base, peft), compare(labels, peft, base)
    assert (back.fixed, back.broken) == (there.broken, there.fixed)
    assert back.accuracy == pytest.approx(-there.accuracy)
    assert back.p_value == pytest.approx(there.p_value)
    mirrored = [-end for end in reversed(back.accuracy_interval)]
    assert mirrored == pytest.approx(there.accuracy_interval, abs=0.02)


def test_a_model_compared_with_itself_shows_no_improvement() -> None:
    labels, base, _ = draw_case(seed=4)
    improvement = compare(labels, base, base)
    assert dataclasses.astuple(improvement) == (0.0, 0.0, (0.0, 0.0), 1.0, 0, 0)


def test_the_same_generator_gives_the_same_interval() -> None:
    case = draw_case(seed=5)
    assert compare(*case, seed=7) == compare(*case, seed=7)
    assert compare(*case, seed=7) != compare(*case, seed=8)


@pytest.mark.parametrize(
    ("fixed", "broken"), [(0, 0), (1, 0), (0, 9), (5, 5), (12, 3), (250, 23), (300, 290)]
)
def test_p_value_is_that_of_statsmodels(fixed: int, broken: int) -> None:
    table = [[40, broken], [fixed, 60]]
    # statsmodels leaves it undefined where the models never disagree.
    expected = mcnemar(table, exact=True).pvalue if fixed + broken else 1.0
    assert compute_mcnemar_p_value(fixed, broken) == pytest.approx(expected)


def test_equal_models_are_seldom_told_apart() -> None:
    rng = np.random.default_rng(6)
    p_values = [compute_mcnemar_p_value(int(k), 40 - int(k)) for k in rng.binomial(40, 0.5, 500)]
    # The exact test errs on the safe side: at most 5 %, sampling error aside.
    assert np.mean(np.array(p_values) < 0.05) < 0.07


def resample_reviews(
    fixed: int, broken: int, n: int, settings: EvaluationSettings, rng: np.random.Generator
) -> tuple[float, float]:
    """Return the interval by drawing the reviews themselves, one resample after the other."""
    changes = np.repeat([1, -1, 0], [fixed, broken, n - fixed - broken])
    means = [rng.choice(changes, n).mean() for _ in range(settings.bootstrap_samples)]
    tail = (1 - settings.confidence_level) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return low, high


@pytest.mark.parametrize(("fixed", "broken", "n"), [(60, 12, 300), (3, 5, 80), (40, 0, 40)])
def test_interval_is_that_of_resampling_the_reviews(fixed: int, broken: int, n: int) -> None:
    case = (fixed, broken, n, SETTINGS)
    expected = resample_reviews(*case, np.random.default_rng(8))
    assert compute_bootstrap_interval(*case, np.random.default_rng(9)) == pytest.approx(
        expected, abs=1.5 / n
    )


def test_interval_holds_the_true_difference_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(10)
    settings = EvaluationSettings(confidence_level=0.9, bootstrap_samples=400)
    draws = rng.multinomial(300, [0.3, 0.1, 0.6], size=300)
    intervals = [
        compute_bootstrap_interval(int(fixed), int(broken), 300, settings, rng)
        for fixed, broken, _ in draws
    ]
    coverage = np.mean([low <= 0.2 <= high for low, high in intervals])
    assert 0.84 < coverage < 0.95


def test_a_higher_confidence_level_gives_a_wider_interval() -> None:
    widths = []
    for level in (0.5, 0.9, 0.99):
        settings = EvaluationSettings(confidence_level=level, bootstrap_samples=2000)
        low, high = compute_bootstrap_interval(60, 12, 300, settings, np.random.default_rng(11))
        widths.append(high - low)
    assert widths == sorted(widths)
    assert widths[0] < widths[-1]
