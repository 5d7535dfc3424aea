"""What a report draws: curves and shares, each computed once, as points.

Shapes: N reviews, C labels.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn import metrics

from peft_sentiment.evaluation.intervals import compute_wilson_interval
from peft_sentiment.records import Predictions

CURVE_POINTS = 200
"""Points of a curve that are kept: more than a screen can tell apart."""

GROUPS = 8
"""Groups of equally many reviews into which lengths and confidences are divided."""


@dataclass(frozen=True)
class Curve:
    """Points of a line, from left to right or as the line goes."""

    x: tuple[float, ...]
    y: tuple[float, ...]


@dataclass(frozen=True)
class ShareRight:
    """Share of the reviews of one group that is labelled right.

    Attributes:
        low: the smallest length or confidence in the group.
        high: the largest.
        mean: the mean.
        reviews: how many there are.
        interval: Wilson's, of the share.
    """

    low: float
    high: float
    mean: float
    reviews: int
    share: float
    interval: tuple[float, float]


def compute_roc_curve(is_positive: NDArray[np.bool_], scores: NDArray[np.float64]) -> Curve:
    """Return false positive rate and true positive rate as the threshold falls.

    Args:
        is_positive: (N,), both values occur.
        scores: (N,), higher for positives.
    """
    x, y, _ = metrics.roc_curve(is_positive, scores)
    return _thin(x, y)


def compute_precision_recall_curve(
    is_positive: NDArray[np.bool_], scores: NDArray[np.float64]
) -> Curve:
    """Return recall and precision as the threshold falls.

    Args:
        is_positive: (N,), both values occur.
        scores: (N,), higher for positives.
    """
    precision, recall, _ = metrics.precision_recall_curve(is_positive, scores)
    return _thin(recall[::-1], precision[::-1])


def compute_reliability(
    labels: Sequence[str], predictions: Predictions, confidence_level: float
) -> tuple[ShareRight, ...]:
    """Return how often a model is right where it is how sure, in groups of equally many reviews.

    Args:
        labels: (N,), true label names.
        predictions: for the same reviews.
        confidence_level: of the intervals.
    """
    confidence = predictions.probabilities.max(axis=1).astype(np.float64)
    return _share_by_group(confidence, _mark_right(labels, predictions), confidence_level)


def compute_accuracy_by_length(
    labels: Sequence[str],
    predictions: Predictions,
    texts: Sequence[str],
    confidence_level: float,
) -> tuple[ShareRight, ...]:
    """Return how often a model is right for reviews of how many words, in equal groups.

    Words of the whole review are counted, not the tokens that are left after cutting.

    Args:
        labels: (N,), true label names.
        predictions: for the same reviews.
        texts: (N,), the reviews.
        confidence_level: of the intervals.
    """
    words = np.array([len(text.split()) for text in texts], dtype=np.float64)
    return _share_by_group(words, _mark_right(labels, predictions), confidence_level)


def compute_running_mean(values: Sequence[float], width: int) -> tuple[float, ...]:
    """Return for each value the mean of it and those before it, `width` at most."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(0, ends - width)
    return tuple(((sums[ends] - sums[starts]) / (ends - starts)).tolist())


def thin_curve(curve: Curve) -> Curve:
    """Return a curve with no more points than can be seen."""
    return _thin(np.array(curve.x), np.array(curve.y))


def _share_by_group(
    values: NDArray[np.float64], is_right: NDArray[np.bool_], confidence_level: float
) -> tuple[ShareRight, ...]:
    order = np.argsort(values, kind="stable")
    groups = np.array_split(order, min(GROUPS, max(1, len(order) // GROUPS)))
    return tuple(
        ShareRight(
            low=float(values[group].min()),
            high=float(values[group].max()),
            mean=float(values[group].mean()),
            reviews=len(group),
            share=float(is_right[group].mean()),
            interval=compute_wilson_interval(
                int(is_right[group].sum()), len(group), confidence_level
            ),
        )
        for group in groups
    )


def _mark_right(labels: Sequence[str], predictions: Predictions) -> NDArray[np.bool_]:
    return np.equal(predictions.labels, labels)


def _thin(x: NDArray[np.float64], y: NDArray[np.float64]) -> Curve:
    kept = np.unique(np.linspace(0, len(x) - 1, CURVE_POINTS).round().astype(int))
    return Curve(tuple(x[kept].tolist()), tuple(y[kept].tolist()))
