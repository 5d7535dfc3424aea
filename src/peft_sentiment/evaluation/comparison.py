"""The PEFT model against the base model, on the same reviews."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from peft_sentiment.config import EvaluationSettings
from peft_sentiment.evaluation.metrics import compute_scores
from peft_sentiment.records import Improvement, Predictions


def compare_predictions(
    labels: Sequence[str],
    base: Predictions,
    peft: Predictions,
    settings: EvaluationSettings,
    rng: np.random.Generator,
) -> Improvement:
    """Compare two models review by review.

    Args:
        labels: (N,), the true label name of each review.
        base: predictions of the base model, in the same order.
        peft: predictions of the PEFT model, in the same order.
        settings: how sure the interval is to be.
        rng: draws the bootstrap's resamples.

    Raises:
        DataError: a true label is none of the models' labels.
        ValueError: there are no reviews, or not as many labels as predictions.
    """
    level = settings.confidence_level
    before, after = (compute_scores(labels, model, level) for model in (base, peft))
    fixed, broken = count_changes(labels, base, peft)
    return Improvement(
        accuracy=after.accuracy - before.accuracy,
        f1=after.f1 - before.f1,
        accuracy_interval=compute_bootstrap_interval(fixed, broken, len(labels), settings, rng),
        p_value=compute_mcnemar_p_value(fixed, broken),
        fixed=fixed,
        broken=broken,
    )


def count_changes(
    labels: Sequence[str], first: Predictions, second: Predictions
) -> tuple[int, int]:
    """Return how many reviews only the second model gets right, and how many only the first.

    Args:
        labels: (N,), the true label name of each review.
        first: predictions of a model, in the same order.
        second: those of another.
    """
    before, after = (_mark_correct(labels, model) for model in (first, second))
    return int((after & ~before).sum()), int((before & ~after).sum())


def compute_bootstrap_interval(
    fixed: int, broken: int, n: int, settings: EvaluationSettings, rng: np.random.Generator
) -> tuple[float, float]:
    """Return the paired bootstrap percentile interval of an accuracy difference, as fractions.

    Source: B. Efron and R. J. Tibshirani, "An Introduction to the Bootstrap" (1993), chapter 13.

    Args:
        fixed: reviews that only the second model gets right.
        broken: reviews that only the first model gets right.
        n: all reviews.
        settings: number of resamples, and how sure the interval is to be.
        rng: draws the resamples.
    """
    # A review moves the difference by +1, -1 or 0. Drawing n of n reviews with replacement hence
    # matters only through how many of each kind are drawn, and those counts are multinomial: the
    # same distribution as resampling the reviews themselves, in a thousandth of the time.
    shares = np.array([fixed, broken, n - fixed - broken]) / n
    counts = rng.multinomial(n, shares, size=settings.bootstrap_samples)  # (resamples, 3)
    differences = (counts[:, 0] - counts[:, 1]) / n
    tail = (1 - settings.confidence_level) / 2
    low, high = np.quantile(differences, [tail, 1 - tail])
    return float(low), float(high)


def compute_mcnemar_p_value(fixed: int, broken: int) -> float:
    """Return the two-sided p-value of the exact McNemar test.

    It is the chance of a split at least as uneven as fixed to broken if either model were equally
    likely to win a review they disagree on; 1 where they never disagree. Source: Q. McNemar, "Note
    on the sampling error of the difference between correlated proportions or percentages",
    Psychometrika 12 (1947).
    """
    disagreements = fixed + broken
    return float(binomtest(fixed, disagreements).pvalue) if disagreements else 1.0


def _mark_correct(labels: Sequence[str], predictions: Predictions) -> NDArray[np.bool_]:
    """Return (N,), whether each review's label is predicted right."""
    return np.equal(predictions.labels, labels)
