"""Predictions drawn by chance from a model whose calibration is known."""

import numpy as np

from peft_sentiment.evaluation.probabilities import compute_probabilities
from peft_sentiment.records import Predictions

BINARY = ("negative", "positive")
STARS = ("good", "bad", "fair")  # not in the alphabet's order


def build_predictions(
    probabilities: object, label_names: tuple[str, ...] = BINARY, seconds: float = 1.0
) -> Predictions:
    """Return predictions with these rows of probabilities."""
    matrix = np.array(probabilities, np.float32).reshape(-1, len(label_names))
    n = len(matrix)
    lengths, cut = np.full(n, 9, np.int32), np.zeros(n, np.bool_)
    return Predictions(label_names, matrix, lengths, cut, seconds)


def draw_overconfident(
    n: int, temperature: float, seed: int = 0, label_names: tuple[str, ...] = BINARY
) -> tuple[list[str], Predictions]:
    """Draw labels and predictions whose logits are this many times too large."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1.5, (n, len(label_names)))
    honest = compute_probabilities(logits.astype(np.float32))
    draws = rng.random((n, 1))
    codes = (draws > honest.cumsum(axis=1)[:, :-1]).sum(axis=1)
    probabilities = compute_probabilities((logits * temperature).astype(np.float32))
    return [label_names[code] for code in codes], build_predictions(probabilities, label_names)
