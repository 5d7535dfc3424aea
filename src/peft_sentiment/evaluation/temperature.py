"""Predictions at another temperature; apart from its fitting, which takes more libraries.

Shapes: N reviews, C labels.
"""

import dataclasses

import numpy as np
from numpy.typing import NDArray

from peft_sentiment.evaluation.probabilities import compute_probabilities
from peft_sentiment.records import Predictions


def rescale(predictions: Predictions, temperature: float) -> Predictions:
    """Return the predictions as they are at another temperature; every label stays what it was."""
    if temperature == predictions.temperature:
        return predictions
    exact = compute_probabilities(restore_logits(predictions) / temperature)
    probabilities = _keep_winners(exact, predictions.probabilities.argmax(axis=1))
    return dataclasses.replace(predictions, probabilities=probabilities, temperature=temperature)


def restore_logits(predictions: Predictions) -> NDArray[np.float64]:
    """Return (N, C) logits at temperature 1, to a constant in each row."""
    smallest = float(np.finfo(np.float32).smallest_subnormal)
    exact = predictions.probabilities.astype(np.float64)
    logits: NDArray[np.float64] = np.log(np.maximum(exact, smallest)) * predictions.temperature
    return logits


def _keep_winners(
    probabilities: NDArray[np.float32], winners: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Let each row's winner win still, where rounding has made two labels equal."""
    lost = np.flatnonzero(probabilities.argmax(axis=1) != winners)
    probabilities[lost, winners[lost]] = np.nextafter(
        probabilities[lost].max(axis=1), np.float32(2)
    )
    return probabilities
