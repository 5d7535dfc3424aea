"""Leaving the doubtful reviews undecided: thresholds on the confidence, chosen on validation.

The confidence of a review is the calibrated probability of its most probable label.

Shapes: N reviews.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from peft_sentiment.config import EvaluationSettings
from peft_sentiment.errors import SettingsError
from peft_sentiment.evaluation.calibration import compute_calibration, fit_temperature
from peft_sentiment.evaluation.decisions import mark_decided
from peft_sentiment.evaluation.intervals import compute_wilson_interval
from peft_sentiment.evaluation.temperature import rescale
from peft_sentiment.records import Predictions
from peft_sentiment.records.calibration import (
    Calibration,
    CalibrationRecord,
    OperatingPoint,
    ThresholdRecord,
)

POINTS = 100
"""Thresholds that are kept, a hundredth of the validation reviews apart."""

PRECISION_LEVEL = 0.95
"""Of the interval whose lower end must reach the wanted precision."""


def build_calibration(labels: Sequence[str], predictions: Predictions) -> Calibration:
    """Fit a temperature on validation reviews, and note what thresholds do with them.

    Args:
        labels: (N,), the true label names.
        predictions: the model's, at any temperature.

    Raises:
        DataError: a true label is none of the model's labels.
        ValueError: there are no reviews, or not as many labels as predictions.
    """
    temperature = fit_temperature(labels, predictions)
    confidence = rescale(predictions, temperature).probabilities.max(axis=1)
    is_right = np.equal(predictions.labels, labels)
    points = tuple(_list_points(confidence, is_right))
    return Calibration(temperature, len(labels), points, threshold=None)


def choose_threshold(calibration: Calibration, settings: EvaluationSettings) -> Calibration:
    """Return the calibration with the threshold that the settings ask for, if they ask for one.

    A wanted precision counts as met where the lower end of its interval meets it: the threshold is
    chosen on a few hundred reviews, and must hold for others.

    Raises:
        SettingsError: no threshold has the wanted precision.
    """
    wanted, share = settings.min_precision, settings.undecided_share
    if wanted is not None:
        return dataclasses.replace(calibration, threshold=_find_precision(calibration, wanted))
    if share is not None:
        shares = [point.undecided_share for point in calibration.points]
        confidences = [point.confidence for point in calibration.points]
        threshold = float(np.interp(share, shares, confidences))
        return dataclasses.replace(calibration, threshold=threshold)
    return calibration


def measure_calibration(
    labels: Sequence[str],
    predictions: Predictions,
    calibration: Calibration | None,
    settings: EvaluationSettings,
    rng: np.random.Generator,
) -> CalibrationRecord | None:
    """Measure probabilities before and after temperature scaling on test reviews.

    Args:
        labels: (N,), the true label names.
        predictions: the model's, at any temperature.
        calibration: from validation; without one there is nothing to measure.
        settings: how sure the interval is to be.
        rng: draws what chance alone does.

    Raises:
        DataError: a true label is none of the model's labels.
    """
    if calibration is None:
        return None
    before, after = (rescale(predictions, t) for t in (1.0, calibration.temperature))
    return CalibrationRecord(
        temperature=calibration.temperature,
        validation_reviews=calibration.reviews,
        before=compute_calibration(labels, before, rng),
        after=compute_calibration(labels, after, rng),
        threshold=measure_threshold(labels, after, calibration, settings.confidence_level),
    )


def measure_threshold(
    labels: Sequence[str],
    predictions: Predictions,
    calibration: Calibration,
    confidence_level: float,
) -> ThresholdRecord | None:
    """Return what the chosen threshold does with reviews, or None where none is chosen."""
    if calibration.threshold is None:
        return None
    is_decided = mark_decided(predictions, calibration)
    right = int(np.equal(predictions.labels, labels)[is_decided].sum())
    decided = int(is_decided.sum())
    interval = compute_wilson_interval(right, decided, confidence_level) if decided else None
    return ThresholdRecord(
        confidence=calibration.threshold,
        decided=decided,
        undecided_share=1 - decided / len(labels),
        precision=right / decided if decided else None,
        precision_interval=interval,
    )


def _find_precision(calibration: Calibration, wanted: float) -> float:
    for point in calibration.points:
        if point.precision_low >= wanted:
            return point.confidence
    best = max(point.precision_low for point in calibration.points)
    raise SettingsError(
        f"evaluation.min_precision is {wanted:g}, but {calibration.reviews} validation reviews can "
        f"vouch for {best:.3f} at most, with any threshold. Lower it, or train with a larger "
        "--validation-size."
    )


def _list_points(
    confidence: NDArray[np.float32], is_right: NDArray[np.bool_]
) -> list[OperatingPoint]:
    """Return a point per hundredth of the reviews, the first of which leaves none undecided."""
    ranked = np.sort(confidence)
    places = np.unique(np.arange(POINTS) * len(ranked) // POINTS)
    thresholds = [0.0, *ranked[places[1:]].tolist()]
    return [
        _build_point(threshold, confidence, is_right) for threshold in dict.fromkeys(thresholds)
    ]


def _build_point(
    threshold: float, confidence: NDArray[np.float32], is_right: NDArray[np.bool_]
) -> OperatingPoint:
    is_decided = confidence >= np.float32(threshold)
    right, decided = int(is_right[is_decided].sum()), int(is_decided.sum())
    low, _ = compute_wilson_interval(right, decided, PRECISION_LEVEL)
    return OperatingPoint(threshold, 1 - decided / len(confidence), right / decided, low)
