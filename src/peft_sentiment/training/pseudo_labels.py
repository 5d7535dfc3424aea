"""Labels that a trained classifier gives to reviews without any, for another one to learn from.

A classifier of a hundred labels is right where it is sure, and what it is sure of are other
reviews than the hundred: a second one that learns from those knows more (self-training; Scudder,
1965; Lee, 2013, names the labels pseudo-labels).

Shapes: M reviews without labels, C labels.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from peft_sentiment.records.reviews import Reviews

LABELLED_WEIGHT = 4.0
"""How much a review that a person has labelled counts beside one that the classifier has."""


def choose_pseudo_labels(
    probabilities: NDArray[np.float32], shares: NDArray[np.float64], share: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Choose the reviews whose labels are surest, as many of each label as its share.

    By label and not over all, since a classifier that leans to one label is surest there.

    Args:
        probabilities: (M, C).
        shares: (C,), of the labels, which sum to 1.
        share: of the reviews that are chosen, from 0 to 1.

    Returns:
        Places of the chosen reviews, in their order, and the number of each one's label.
    """
    left = np.floor(shares * share * len(probabilities) + 0.5).astype(np.int64)
    chosen = np.full(len(probabilities), -1, np.int64)
    # Surest first; of equals the first review, so that the choice is the same each time.
    for flat in np.argsort(-probabilities, axis=None, kind="stable"):
        place, label = divmod(int(flat), probabilities.shape[1])
        if left[label] and chosen[place] < 0:
            chosen[place] = label
            left[label] -= 1
        elif not left.any():
            break
    places = np.flatnonzero(chosen >= 0)
    return places, chosen[places]


def measure_shares(labels: Sequence[str], label_names: Sequence[str]) -> NDArray[np.float64]:
    """Return (C,) the share of each label."""
    counts = np.array([list(labels).count(name) for name in label_names], np.float64)
    shares: NDArray[np.float64] = counts / counts.sum()
    return shares


def add_pseudo_labels(labelled: Reviews, texts: Sequence[str], labels: Sequence[str]) -> Reviews:
    """Return the labelled reviews, of more weight, and after them those with pseudo-labels."""
    own = [1.0] * len(labelled) if labelled.weights is None else list(labelled.weights)
    return Reviews(
        [*labelled.texts, *texts],
        [*labelled.labels, *labels],
        None,
        [*(LABELLED_WEIGHT * weight for weight in own), *[1.0] * len(texts)],
    )
