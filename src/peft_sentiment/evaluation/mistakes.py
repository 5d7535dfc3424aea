"""Where a model errs: by kind of review, and the reviews themselves.

Shapes: N reviews, C labels.
"""

import dataclasses
import warnings
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from peft_sentiment.evaluation.intervals import compute_wilson_interval
from peft_sentiment.evaluation.metrics import encode_labels, normalise
from peft_sentiment.evaluation.tfidf import fit_words
from peft_sentiment.records import Predictions
from peft_sentiment.records.mistakes import (
    ErrorAnalysis,
    GroupScore,
    LabelDoubts,
    Mistake,
    Neighbour,
)
from peft_sentiment.records.reviews import Reviews

EXAMPLES = 10
"""Reviews of a kind that are named."""

NEIGHBOURS = 3
"""Training reviews named for a mistake."""

LENGTH_GROUPS = 4
"""Groups of about as many reviews each."""

CONFIDENCE_EDGES = (0.0, 0.6, 0.8, 0.9, 0.95, 0.99)
"""Lower edges of the groups by confidence."""


def analyse_errors(
    reviews: Reviews,
    peft: Predictions,
    base: Predictions | None,
    train: Reviews | None,
    confidence_level: float,
) -> ErrorAnalysis:
    """Find out where a model errs.

    Args:
        reviews: N test reviews.
        peft: the model's predictions for them, in their order.
        base: those before tuning, where there are any.
        train: reviews to look for the nearest ones in, where they can be had.
        confidence_level: of the intervals.

    Raises:
        DataError: a label is none of the model's.
    """
    is_right = np.equal(peft.labels, reviews.labels)
    was_right = is_right if base is None else np.equal(base.labels, reviews.labels)
    confidence = peft.probabilities.max(axis=1)
    right = int(is_right.sum())

    def name_first(chosen: NDArray[np.bool_], order: NDArray[np.float32]) -> tuple[Mistake, ...]:
        places = np.flatnonzero(chosen)
        ranked = places[np.argsort(order[places], kind="stable")]
        return tuple(describe_review(place, reviews, peft) for place in ranked[:EXAMPLES].tolist())

    return ErrorAnalysis(
        reviews=len(reviews),
        wrong=len(reviews) - right,
        accuracy=right / len(reviews),
        accuracy_interval=compute_wilson_interval(right, len(reviews), confidence_level),
        groups=group_scores(reviews, peft, is_right, confidence_level),
        confidently_wrong=add_neighbours(name_first(~is_right, -confidence), train),
        least_sure=name_first(np.ones_like(is_right), confidence),
        fixed=name_first(is_right & ~was_right, -confidence),
        broken=name_first(~is_right & was_right, -confidence),
        label_doubts=find_label_doubts(reviews, peft, confidence_level),
    )


def describe_review(place: int, reviews: Reviews, predictions: Predictions) -> Mistake:
    """Make the record of one review."""
    row = predictions.probabilities[place]
    return Mistake(
        index=place,
        text=reviews.texts[place],
        label=reviews.labels[place],
        predicted=predictions.label_names[row.argmax()],
        confidence=float(row.max()),
        is_cut=bool(predictions.is_cut[place]),
    )


def group_scores(
    reviews: Reviews,
    predictions: Predictions,
    is_right: NDArray[np.bool_],
    confidence_level: float,
) -> dict[str, tuple[GroupScore, ...]]:
    """Return the accuracy by length, by whether the review was cut, by label and by confidence."""

    def score(groups: Iterator[tuple[str, NDArray[np.bool_]]]) -> tuple[GroupScore, ...]:
        return tuple(
            _score_group(name, is_right[chosen], confidence_level)
            for name, chosen in groups
            if chosen.any()
        )

    labels = np.array(reviews.labels)
    return {
        "length": score(_divide_by_length(reviews.texts)),
        "cut": score(iter((("read whole", ~predictions.is_cut), ("cut", predictions.is_cut)))),
        "label": score((name, labels == name) for name in predictions.label_names),
        "confidence": score(_divide_by_confidence(predictions.probabilities.max(axis=1))),
    }


def add_neighbours(mistakes: tuple[Mistake, ...], train: Reviews | None) -> tuple[Mistake, ...]:
    """Name the training reviews nearest to each mistake, by the cosine of TF-IDF vectors."""
    if train is None or not len(train) or not mistakes:
        return mistakes
    vectorizer, of_train = fit_words(train.texts)
    similarities = (vectorizer.transform([m.text for m in mistakes]) @ of_train.T).toarray()
    found = []
    for mistake, row in zip(mistakes, similarities, strict=True):
        nearest = np.argsort(-row, kind="stable")[:NEIGHBOURS].tolist()
        neighbours = tuple(
            Neighbour(train.texts[i], train.labels[i], float(row[i])) for i in nearest
        )
        found.append(dataclasses.replace(mistake, neighbours=neighbours))
    return tuple(found)


def find_label_doubts(
    reviews: Reviews, predictions: Predictions, confidence_level: float
) -> LabelDoubts | None:
    """Return the reviews whose label is probably wrong, or None where cleanlab is not installed.

    With a single label there is nothing to doubt it for, and None as well.

    Source: C. Northcutt and others, "Confident learning: estimating uncertainty in dataset
    labels", Journal of Artificial Intelligence Research 70 (2021).
    """
    try:
        from cleanlab.filter import find_label_issues
    except ImportError:
        return None
    truth, exact = encode_labels(reviews.labels, predictions), normalise(predictions.probabilities)
    if len(set(truth.tolist())) < 2:
        return None
    with warnings.catch_warnings():
        # It warns of labels with few reviews, whose errors it then may miss.
        warnings.simplefilter("ignore", UserWarning)
        ranked = find_label_issues(
            truth, exact, return_indices_ranked_by="self_confidence", n_jobs=1
        ).tolist()
    is_kept = np.ones(len(reviews), np.bool_)
    is_kept[ranked] = False
    right = int(np.equal(predictions.labels, reviews.labels)[is_kept].sum())
    kept = int(is_kept.sum())
    return LabelDoubts(
        indices=tuple(ranked),
        examples=tuple(describe_review(place, reviews, predictions) for place in ranked[:EXAMPLES]),
        accuracy=right / kept,
        accuracy_interval=compute_wilson_interval(right, kept, confidence_level),
    )


def _score_group(name: str, is_right: NDArray[np.bool_], confidence_level: float) -> GroupScore:
    right, n = int(is_right.sum()), len(is_right)
    return GroupScore(name, n, right / n, compute_wilson_interval(right, n, confidence_level))


def _divide_by_length(texts: Sequence[str]) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    words = np.array([len(text.split()) for text in texts])
    quantiles = np.linspace(0, 1, LENGTH_GROUPS + 1)[1:]
    highest = np.unique(np.quantile(words, quantiles, method="nearest")).tolist()
    low = int(words.min())
    for high in highest:
        yield f"{low:,} to {high:,} words", (low <= words) & (words <= high)
        low = high + 1


def _divide_by_confidence(
    confidence: NDArray[np.float32],
) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    for low, high in zip(CONFIDENCE_EDGES, [*CONFIDENCE_EDGES[1:], np.inf], strict=True):
        name = f"{low:g} to {high:g}" if high < 1 else f"{low:g} and above"
        yield name, (low <= confidence) & (confidence < high)
