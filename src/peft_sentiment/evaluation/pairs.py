"""Every pair of several models on the same reviews, tested together."""

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

from peft_sentiment.config import EvaluationSettings
from peft_sentiment.evaluation.comparison import (
    compute_bootstrap_interval,
    compute_mcnemar_p_value,
    count_changes,
)
from peft_sentiment.records import PairComparison, Predictions

POWER = 0.8
"""Share of test sets in which the detectable difference would be found."""

_PRECISION = 1e-5
"""How exactly the detectable difference is found, as a share of the reviews."""

_TAIL_DEVIATIONS = 6.0
"""Standard deviations around the mean within which counts of disagreements are summed."""


def compare_pairs(
    labels: Sequence[str],
    models: Mapping[str, Predictions],
    settings: EvaluationSettings,
    rng: np.random.Generator,
) -> tuple[PairComparison, ...]:
    """Compare each model with each one after it, and correct for there being several pairs.

    Args:
        labels: (N,), the true label name of each review.
        models: name -> predictions for these reviews, in their order.
        settings: how sure the intervals are to be; 1 less that is the level of the tests.
        rng: draws the bootstrap's resamples.
    """
    pairs = list(itertools.combinations(models, 2))
    changes = [count_changes(labels, models[one], models[two]) for one, two in pairs]
    p_values = [compute_mcnemar_p_value(*counts) for counts in changes]
    adjusted = adjust_by_holm(p_values)
    level, n = (1 - settings.confidence_level) / max(1, len(pairs)), len(labels)
    return tuple(
        PairComparison(
            first=first,
            second=second,
            accuracy=(fixed - broken) / n,
            accuracy_interval=compute_bootstrap_interval(fixed, broken, n, settings, rng),
            p_value=p_value,
            adjusted_p_value=adjusted_p_value,
            fixed=fixed,
            broken=broken,
            detectable=compute_detectable_difference(fixed + broken, n, level),
        )
        for (first, second), (fixed, broken), p_value, adjusted_p_value in zip(
            pairs, changes, p_values, adjusted, strict=True
        )
    )


def adjust_by_holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values that may each be held against the level of all the tests together.

    Source: S. Holm, "A simple sequentially rejective multiple test procedure", Scandinavian
    Journal of Statistics 6 (1979).
    """
    order = np.argsort(p_values, kind="stable")
    factors = np.arange(len(p_values), 0, -1)
    stepwise = np.maximum.accumulate(np.asarray(p_values, dtype=np.float64)[order] * factors)
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.minimum(stepwise, 1)
    return [float(value) for value in adjusted]


def compute_detectable_difference(disagreements: int, n: int, level: float) -> float | None:
    """Return the smallest true accuracy difference that the exact test finds with a power of 80 %.

    The models are taken to disagree as often as they did here or, where the difference itself
    needs more, as often as that. Source of the question: R. J. Connor, "Sample size for testing
    differences in proportions for the paired-sample design", Biometrics 43 (1987); the power is
    that of the exact test instead of the normal approximation.

    Args:
        disagreements: reviews that only one of the two models gets right.
        n: all reviews.
        level: of the test, two-sided.

    Returns:
        A fraction of the reviews, or None where not even models that always disagree could be told
        apart.
    """
    # One added on each side of the count, so that no disagreement is not taken for none ever.
    share = (disagreements + 1) / (n + 2)
    low, high = 0.0, 1.0
    if _compute_power(high, share, n, level) < POWER:
        return None
    while high - low > _PRECISION:
        middle = (low + high) / 2
        if _compute_power(middle, share, n, level) < POWER:
            low = middle
        else:
            high = middle
    return high


def _compute_power(difference: float, share: float, n: int, level: float) -> float:
    """Return the chance that the exact test rejects at a true difference."""
    share = max(share, difference)
    counts = _list_likely_counts(n, share)
    win = (1 + difference / share) / 2
    limits = _compute_critical_counts(counts, level)
    rejects = binom.cdf(limits, counts, win) + binom.cdf(limits, counts, 1 - win)
    return float((binom.pmf(counts, n, share) * rejects).sum())


def _list_likely_counts(n: int, share: float) -> NDArray[np.int64]:
    """Return the numbers of disagreements that have a chance worth counting."""
    width = _TAIL_DEVIATIONS * np.sqrt(n * share * (1 - share)) + 1
    low, high = max(0, int(n * share - width)), min(n, int(n * share + width) + 1)
    return np.arange(low, high + 1)


def _compute_critical_counts(counts: NDArray[np.int64], level: float) -> NDArray[np.int64]:
    """Return, for each number of disagreements, the most wins of the lesser that still reject."""
    limits: NDArray[np.int64] = binom.ppf(level / 2, counts, 0.5).astype(np.int64)
    # ppf gives the first count whose tail reaches the level; it rejects only if it is not above.
    above = binom.cdf(limits, counts, 0.5) > level / 2
    limits[above] -= 1
    return limits
