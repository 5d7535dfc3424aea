"""Scores of one model on labelled reviews, by scikit-learn's metrics.

Shapes: N reviews, C labels.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn import metrics

from peft_sentiment.errors import DataError
from peft_sentiment.evaluation.intervals import compute_score_intervals, compute_wilson_interval
from peft_sentiment.records import Predictions, Scores


def compute_scores(
    labels: Sequence[str], predictions: Predictions, confidence_level: float
) -> Scores:
    """Score a model's predictions against the true labels.

    Every label of the model counts in the macro means, also one that no review has.

    Args:
        labels: (N,), the true label name of each review, in the order of the predictions.
        predictions: what the model says.
        confidence_level: of the intervals, between 0 and 1.

    Raises:
        DataError: a true label is none of the model's labels.
        ValueError: there are no reviews, or not as many labels as predictions.
    """
    truth = encode_labels(labels, predictions)
    predicted = predictions.probabilities.argmax(axis=1)
    probabilities = normalise(predictions.probabilities)
    codes = np.arange(len(predictions.label_names))
    precision, recall, f1, _ = metrics.precision_recall_fscore_support(
        truth, predicted, labels=codes, average="macro", zero_division=0
    )
    correct = int((predicted == truth).sum())
    confusion = metrics.confusion_matrix(truth, predicted, labels=codes)
    return Scores(
        accuracy=correct / len(truth),
        f1=float(f1),
        precision=float(precision),
        recall=float(recall),
        roc_auc=_compute_roc_auc(truth, probabilities),
        log_loss=float(metrics.log_loss(truth, probabilities, labels=codes)),
        accuracy_interval=compute_wilson_interval(correct, len(truth), confidence_level),
        reviews_per_second=len(truth) / predictions.seconds,
        confusion=tuple(map(tuple, confusion.tolist())),
        intervals=compute_score_intervals(truth, probabilities, confusion, confidence_level),
    )


def encode_labels(labels: Sequence[str], predictions: Predictions) -> NDArray[np.int64]:
    """Return (N,), the column of each true label; scikit-learn would sort names by alphabet.

    Raises:
        DataError: a label is none of the model's.
        ValueError: there are no reviews, or not as many labels as predictions.
    """
    if not len(labels) == len(predictions.probabilities) > 0:
        raise ValueError(f"{len(labels)} labels for {len(predictions.probabilities)} predictions")
    codes = {name: code for code, name in enumerate(predictions.label_names)}
    unknown = sorted(set(labels) - codes.keys())
    if unknown:
        raise DataError(
            f"The reviews to score have the label {unknown[0]!r}, but the model knows only "
            f"{', '.join(codes)}. Correct the labels, or choose a model trained on them."
        )
    return np.array([codes[label] for label in labels])


def normalise(probabilities: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return (N, C) rows that sum to 1 in float64.

    scikit-learn cuts float32 probabilities at 1e-7, which would flatter a model that is sure and
    wrong, and warns about float64 rows that sum to 1 to seven digits only.
    """
    exact = probabilities.astype(np.float64)
    exact /= exact.sum(axis=1, keepdims=True)
    return exact


def _compute_roc_auc(truth: NDArray[np.int64], probabilities: NDArray[np.float64]) -> float | None:
    codes = np.arange(probabilities.shape[1])
    if not np.isin(codes, truth).all():
        return None
    if len(codes) == 2:
        return float(metrics.roc_auc_score(truth, probabilities[:, 1]))
    return float(
        metrics.roc_auc_score(
            truth, probabilities, multi_class="ovr", average="macro", labels=codes
        )
    )
