"""Probabilities from logits.

Shapes: N reviews, C labels.
"""

import numpy as np
from numpy.typing import NDArray


def compute_probabilities(logits: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return (N, C), the softmax over the last axis; rows sum to 1."""
    shifted = logits.astype(np.float64)
    shifted -= shifted.max(axis=-1, keepdims=True, initial=-np.inf)
    odds = np.exp(shifted)
    probabilities: NDArray[np.float64] = odds / odds.sum(axis=-1, keepdims=True)
    return probabilities.astype(np.float32)
