"""Pairs of models are tested as statsmodels does, and false alarms and power are as promised."""

import functools

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import norm
from statsmodels.stats.multitest import multipletests

from peft_sentiment.config import EvaluationSettings
from peft_sentiment.evaluation.comparison import (
    compute_bootstrap_interval,
    compute_mcnemar_p_value,
)
from peft_sentiment.evaluation.pairs import (
    adjust_by_holm,
    compare_pairs,
    compute_detectable_difference,
)
from peft_sentiment.records import PairComparison, Predictions

SETTINGS = EvaluationSettings(bootstrap_samples=1000)
DRAWS = 2000

find_p_value = functools.cache(compute_mcnemar_p_value)


def build_model(is_right: NDArray[np.bool_]) -> Predictions:
    """Return predictions for reviews that are all of the label `yes`."""
    probabilities = np.column_stack([np.where(is_right, 0.1, 0.9), np.where(is_right, 0.9, 0.1)])
    n = len(is_right)
    return Predictions(
        ("no", "yes"), probabilities.astype("f4"), np.ones(n, "i4"), np.zeros(n, "?"), 1.0
    )


def compare(**accuracies: float) -> tuple[PairComparison, ...]:
    rng = np.random.default_rng(0)
    models = {name: build_model(rng.random(300) < share) for name, share in accuracies.items()}
    return compare_pairs(["yes"] * 300, models, SETTINGS, rng)


@pytest.mark.parametrize("n", [1, 2, 6, 15])
def test_holms_correction_is_that_of_statsmodels(n: int) -> None:
    p_values = np.random.default_rng(n).random(n) ** 4
    expected = multipletests(p_values, method="holm")[1]
    assert adjust_by_holm(list(p_values)) == pytest.approx(list(expected))


def test_equal_p_values_are_corrected_alike() -> None:
    assert adjust_by_holm([0.01, 0.01, 0.5]) == pytest.approx([0.03, 0.03, 0.5])
    assert adjust_by_holm([]) == []


def test_every_pair_is_compared_once_and_corrected_for_the_others() -> None:
    pairs = compare(base=0.5, probe=0.8, tfidf=0.82, peft=0.9)
    assert [(pair.first, pair.second) for pair in pairs] == [
        ("base", "probe"),
        ("base", "tfidf"),
        ("base", "peft"),
        ("probe", "tfidf"),
        ("probe", "peft"),
        ("tfidf", "peft"),
    ]
    expected = multipletests([pair.p_value for pair in pairs], method="holm")[1]
    assert [pair.adjusted_p_value for pair in pairs] == pytest.approx(list(expected))
    for pair in pairs:
        assert pair.p_value == compute_mcnemar_p_value(pair.fixed, pair.broken)
        assert pair.accuracy == pytest.approx((pair.fixed - pair.broken) / 300)
        assert pair.accuracy_interval[0] <= pair.accuracy <= pair.accuracy_interval[1]


def test_two_models_alone_need_no_correction() -> None:
    (pair,) = compare(base=0.5, peft=0.8)
    assert pair.adjusted_p_value == pair.p_value


def test_one_model_alone_has_no_pairs() -> None:
    assert compare(base=0.5) == ()


def test_mcnemar_tells_equal_models_apart_in_at_most_5_of_100_draws() -> None:
    rng = np.random.default_rng(1)
    draws = rng.multinomial(400, [0.12, 0.12, 0.76], size=DRAWS)
    alarms = [find_p_value(int(a), int(b)) < 0.05 for a, b, _ in draws]
    assert np.mean(alarms) <= 0.05


def test_the_interval_of_a_difference_holds_it_in_93_to_97_of_100_draws() -> None:
    rng = np.random.default_rng(2)
    draws = rng.multinomial(600, [0.14, 0.06, 0.8], size=DRAWS)
    intervals = [
        compute_bootstrap_interval(int(fixed), int(broken), 600, SETTINGS, rng)
        for fixed, broken, _ in draws
    ]
    assert 0.93 <= np.mean([low <= 0.08 <= high for low, high in intervals]) <= 0.97


@pytest.mark.parametrize(("disagreements", "n"), [(96, 600), (12, 200), (0, 600), (3, 40)])
def test_the_detectable_difference_is_found_in_four_of_five_draws(
    disagreements: int, n: int
) -> None:
    difference = compute_detectable_difference(disagreements, n, 0.05)
    assert difference is not None
    share = max((disagreements + 1) / (n + 2), difference)
    fixed = (share + difference) / 2
    rng = np.random.default_rng(3)
    draws = rng.multinomial(n, [fixed, share - fixed, 1 - share], size=DRAWS)
    found = [find_p_value(int(a), int(b)) < 0.05 for a, b, _ in draws]
    assert np.mean(found) == pytest.approx(0.8, abs=0.03)


def test_the_detectable_difference_is_about_that_of_connors_formula() -> None:
    difference = compute_detectable_difference(2000, 10_000, 0.05)
    assert difference is not None
    share = 2001 / 10_002
    z_level, z_power = norm.ppf(0.975), norm.ppf(0.8)
    needed = z_level * np.sqrt(share) + z_power * np.sqrt(share - difference**2)
    assert (needed / difference) ** 2 == pytest.approx(10_000, rel=0.03)


def test_more_reviews_show_smaller_differences_and_a_stricter_level_larger_ones() -> None:
    found = [compute_detectable_difference(n // 6, n, 0.05) for n in (60, 600, 6000)]
    strict = compute_detectable_difference(100, 600, 0.05 / 6)
    assert None not in (*found, strict)
    assert found[0] > found[1] > found[2]  # type: ignore[operator]
    assert strict > found[1]  # type: ignore[operator]


def test_five_reviews_can_show_no_difference_at_all() -> None:
    assert compute_detectable_difference(5, 5, 0.05) is None
