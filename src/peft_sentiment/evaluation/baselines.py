"""What a user would have got for free: models to beat, on the same reviews and in the same form.

Shapes: N reviews, C labels.
"""

import time
from collections.abc import Callable, Sequence

import numpy as np

from peft_sentiment.evaluation.tfidf import fit_tfidf
from peft_sentiment.records import Predictions
from peft_sentiment.records.reviews import Reviews

Clock = Callable[[], float]


def predict_majority(
    train: Reviews,
    label_names: tuple[str, ...],
    texts: Sequence[str],
    clock: Clock = time.perf_counter,
) -> Predictions:
    """Say of every text what is most frequent among the training reviews, without reading it.

    Args:
        train: whose labels are counted; their shares are the probabilities.
        label_names: C labels.
        texts: N texts.
        clock: seconds, for the rate.
    """
    start = clock()
    counts = np.array([list(train.labels).count(name) for name in label_names], np.float64)
    probabilities = np.tile(counts / counts.sum(), (len(texts), 1)).astype(np.float32)
    tokens = np.zeros(len(texts), np.int32)
    return Predictions(label_names, probabilities, tokens, tokens > 0, clock() - start)


def predict_tfidf(
    train: Reviews,
    label_names: tuple[str, ...],
    texts: Sequence[str],
    class_weight: str | None = None,
    clock: Clock = time.perf_counter,
) -> Predictions:
    """Fit TF-IDF with logistic regression on the training reviews, and score texts with it.

    Args:
        train: each label has at least one.
        label_names: C labels.
        texts: N texts; they are read whole.
        class_weight: `balanced` lets rare labels count as much as frequent ones.
        clock: seconds, for the rate of scoring.
    """
    model = fit_tfidf(train, label_names, class_weight)
    words = model.count_words(texts)
    start = clock()
    probabilities = model.predict_proba(texts)
    is_cut = np.zeros(len(texts), np.bool_)
    return Predictions(label_names, probabilities, words, is_cut, clock() - start)
