"""Temperature scaling: probabilities that can be taken at their word, and how far they can.

One number, fitted on validation reviews, divides all logits. It moves probabilities towards or
away from each other and changes no label. Source: C. Guo and others, "On calibration of modern
neural networks", ICML 2017.

Shapes: N reviews, C labels, K bins.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from sklearn import metrics

from peft_sentiment.evaluation.metrics import encode_labels, normalise
from peft_sentiment.evaluation.temperature import restore_logits
from peft_sentiment.records import Predictions
from peft_sentiment.records.calibration import CalibrationScores, ReliabilityBin

BINS = 10
"""Bins of equal width between 0 and 1. With two labels no confidence is below a half, so that five
of them are filled; more would mostly measure chance on a few hundred reviews."""

SIMULATIONS = 200
"""Draws behind the error that chance alone makes."""

LOWEST_TEMPERATURE, HIGHEST_TEMPERATURE = 0.01, 100.0
GRID = 81
"""Temperatures tried before the best of them is refined."""

PRIOR_SCALE, PRIOR_FREEDOM = 0.1, 3
"""Student's t of the temperature's logarithm: most temperatures are within a tenth of 1, and a few
are far from it."""


def fit_temperature(labels: Sequence[str], predictions: Predictions) -> float:
    """Return the temperature that validation reviews speak for.

    It minimises their log loss and, beside it, a prior around 1. Without the prior, 500 reviews
    would move an honest model's temperature by a tenth by chance alone, and a few that are all
    right would move it to 0. Its tails are long, so that it gives way to clear evidence. As the
    prior is least at 1, the log loss is never above that at temperature 1.

    Args:
        labels: (N,), the true label names.
        predictions: the model's, at any temperature.

    Raises:
        DataError: a true label is none of the model's labels.
        ValueError: there are no reviews, or not as many labels as predictions.
    """
    truth, logits = encode_labels(labels, predictions), restore_logits(predictions)
    rows = np.arange(len(truth))

    def compute_cost(log_temperature: float) -> float:
        loss = -log_softmax(logits / math.exp(log_temperature), axis=1)[rows, truth].sum()
        distance = (log_temperature / PRIOR_SCALE) ** 2 / PRIOR_FREEDOM
        return float(loss) + (PRIOR_FREEDOM + 1) / 2 * math.log1p(distance)

    ends = math.log(LOWEST_TEMPERATURE), math.log(HIGHEST_TEMPERATURE)
    grid = np.linspace(*ends, GRID)
    best = int(np.argmin([compute_cost(place) for place in grid]))
    around = grid[max(best - 1, 0)], grid[min(best + 1, GRID - 1)]
    found = minimize_scalar(compute_cost, bounds=around, method="bounded")
    return math.exp(found.x) if found.fun < compute_cost(0.0) else 1.0


def compute_calibration(
    labels: Sequence[str], predictions: Predictions, rng: np.random.Generator
) -> CalibrationScores:
    """Measure how far probabilities can be taken at their word.

    The expected calibration error is that of M. P. Naeini and others, "Obtaining well calibrated
    probabilities using Bayesian binning", AAAI 2015, with `BINS` bins of equal width over the
    confidence.

    Args:
        labels: (N,), the true label names.
        predictions: the model's.
        rng: draws the labels of a perfectly calibrated model, for the error by chance.

    Raises:
        DataError: a true label is none of the model's labels.
        ValueError: there are no reviews, or not as many labels as predictions.
    """
    truth, exact = encode_labels(labels, predictions), normalise(predictions.probabilities)
    confidence = exact.max(axis=1)
    is_right = predictions.probabilities.argmax(axis=1) == truth
    codes = np.arange(exact.shape[1])
    return CalibrationScores(
        expected_calibration_error=float(compute_bin_errors(confidence, is_right[None])[0]),
        error_by_chance=_simulate_error(confidence, rng),
        brier_score=float(metrics.brier_score_loss(truth, exact, labels=codes)),
        log_loss=float(metrics.log_loss(truth, exact, labels=codes)),
        bins=_build_bins(confidence, is_right),
    )


def compute_bin_errors(
    confidence: NDArray[np.float64], is_right: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Return the expected calibration errors of some outcomes, as fractions.

    Args:
        confidence: (N,), probabilities of the predicted labels.
        is_right: (M, N), M outcomes of the same predictions.

    Returns:
        (M,) errors.
    """
    membership = np.eye(BINS)[_find_bins(confidence)]  # (N, K)
    gaps = (is_right - confidence) @ membership  # (M, K), sums over the reviews of a bin
    errors: NDArray[np.float64] = np.abs(gaps).sum(axis=1) / len(confidence)
    return errors


def _simulate_error(confidence: NDArray[np.float64], rng: np.random.Generator) -> float:
    errors = [
        compute_bin_errors(confidence, (rng.random(len(confidence)) < confidence)[None])[0]
        for _ in range(SIMULATIONS)
    ]
    return float(np.mean(errors))


def _build_bins(
    confidence: NDArray[np.float64], is_right: NDArray[np.bool_]
) -> tuple[ReliabilityBin, ...]:
    places, edges = _find_bins(confidence), np.linspace(0, 1, BINS + 1)
    bins = []
    for place in range(BINS):
        chosen = places == place
        low, high = edges[place : place + 2].tolist()
        bins.append(
            ReliabilityBin(
                low=low,
                high=high,
                reviews=int(chosen.sum()),
                confidence=float(confidence[chosen].mean()) if chosen.any() else (low + high) / 2,
                accuracy=float(is_right[chosen].mean()) if chosen.any() else None,
            )
        )
    return tuple(bins)


def _find_bins(confidence: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return (N,), the bin of each confidence; an upper edge is part of its bin."""
    places = np.ceil(confidence * BINS).astype(np.int64) - 1
    return np.clip(places, 0, BINS - 1)
