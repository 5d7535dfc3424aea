"""Which reviews a model is sure enough of, by a threshold that was chosen before.

Shapes: N reviews.
"""

import numpy as np
from numpy.typing import NDArray

from peft_sentiment.evaluation.temperature import rescale
from peft_sentiment.records import Predictions
from peft_sentiment.records.calibration import Calibration

UNDECIDED = "undecided"
"""What stands for the label of a review that the model is not sure enough of."""


def mark_decided(predictions: Predictions, calibration: Calibration | None) -> NDArray[np.bool_]:
    """Return (N,), whether each review is sure enough for a label; all are without a threshold."""
    if calibration is None or calibration.threshold is None:
        return np.ones(len(predictions.probabilities), np.bool_)
    # The threshold is one of calibrated probabilities, also where others are asked for.
    confidence = rescale(predictions, calibration.temperature).probabilities.max(axis=1)
    decided: NDArray[np.bool_] = confidence >= calibration.threshold
    return decided


def decide_labels(predictions: Predictions, calibration: Calibration | None) -> list[str]:
    """Return (N,), the most probable label of each review, or `UNDECIDED`."""
    is_decided = mark_decided(predictions, calibration)
    return [
        label if is_sure else UNDECIDED
        for label, is_sure in zip(predictions.labels, is_decided, strict=True)
    ]
