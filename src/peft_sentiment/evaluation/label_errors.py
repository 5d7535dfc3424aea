"""Labels that are probably wrong, by what a model says that was not trained on them.

Source of the method: C. Northcutt, L. Jiang and I. Chuang, "Confident learning: estimating
uncertainty in dataset labels", Journal of Artificial Intelligence Research 70 (2021); computed by
cleanlab.

Shapes: N reviews, C labels.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict

from peft_sentiment.errors import DataError, build_missing_error

FOLDS = 5
WORDS_AND_SIGNS = r"\w+|[^\w\s]"
LARGE = 1000
"""Reviews from which words that only one of them has are left out."""


@dataclass(frozen=True)
class LabelError:
    """A review whose label is probably wrong.

    Attributes:
        index: place of the review.
        suggested: the label that the model gives it.
        score: how likely its own label is, from 0 to 1.
    """

    index: int
    suggested: str
    score: float


def find_label_errors(texts: Sequence[str], labels: Sequence[str], seed: int) -> list[LabelError]:
    """Return the reviews whose labels are probably wrong, the least likely label first.

    Args:
        texts: N reviews, no text twice.
        labels: (N,), the label of each.
        seed: divides the reviews into the parts that are predicted in turn.

    Raises:
        DataError: a label has fewer than two reviews, or there is only one label.
        SettingsError: cleanlab is not installed.
    """
    try:
        from cleanlab.filter import find_label_issues
    except ImportError as error:
        raise build_missing_error("Finding label errors needs", "cleanlab", "labels") from error
    names, targets = np.unique(np.array(labels), return_inverse=True)
    probabilities = predict_held_out(texts, targets, names, seed)
    order = find_label_issues(
        targets, probabilities, return_indices_ranked_by="self_confidence", n_jobs=1
    )
    return [
        LabelError(
            int(i), str(names[probabilities[i].argmax()]), float(probabilities[i, targets[i]])
        )
        for i in order
    ]


def predict_held_out(
    texts: Sequence[str], targets: NDArray[np.int64], names: NDArray[np.str_], seed: int
) -> NDArray[np.float64]:
    """Return (N, C) probabilities of each review by a model trained on others.

    Args:
        texts: N reviews.
        targets: (N,), the place of each one's label in `names`.
        names: (C,), all labels.
        seed: divides the reviews.

    Raises:
        DataError: a label has fewer than two reviews, or there is only one label.
    """
    counts = np.bincount(targets)
    if len(names) < 2 or counts.min() < 2:
        rare = ", ".join(f"{names[i]} ({counts[i]})" for i in np.flatnonzero(counts < 2))
        found = f"too few of: {rare}" if rare else f"only {', '.join(names) or 'none'}"
        raise DataError(
            "Probable label errors can be found among reviews of two labels or more, each with "
            f"two reviews or more, but there are {found}. Add reviews, or leave --labels out."
        )
    folds = StratifiedKFold(min(FOLDS, int(counts.min())), shuffle=True, random_state=seed)
    # The vocabulary may come from all texts: it knows nothing of their labels.
    model, vectors = LogisticRegression(C=10.0, max_iter=300), weigh_words(texts)
    return np.asarray(cross_val_predict(model, vectors, targets, cv=folds, method="predict_proba"))


def weigh_words(texts: Sequence[str]) -> csr_matrix:
    """Return (N, words and word pairs), by TF-IDF; every sign that is no word is one too."""
    fewest = 2 if len(texts) >= LARGE else 1
    return TfidfVectorizer(
        ngram_range=(1, 2),
        token_pattern=WORDS_AND_SIGNS,
        min_df=fewest,
        sublinear_tf=True,
        dtype=np.float32,
    ).fit_transform(texts)
