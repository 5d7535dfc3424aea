"""A companion to an adapter: logistic regression on what the adapter and word counts say.

It is fitted on validation reviews, which neither of the two has learnt from, and kept beside the
adapter as JSON and safetensors. On reviews of the training's own kind it is more accurate than the
adapter alone; on reviews that say the opposite with almost the same words it is less
(docs/quality.md).

Shapes: N reviews, C labels, F features: C of each of the two, or 1 where there are two labels.
"""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from sklearn.linear_model import LogisticRegression

from peft_sentiment.errors import AdapterError, DataError
from peft_sentiment.evaluation.tfidf import PATTERNS, TfidfModel, convert_scores, fit_tfidf
from peft_sentiment.model.metadata import COMPANION_FILES
from peft_sentiment.records import Predictions
from peft_sentiment.records.reviews import Reviews

WORDS_FILE, NUMBERS_FILE = COMPANION_FILES
FORMAT_VERSION = 1

LEAST_PROBABILITY = 1e-30
"""float32 rounds smaller ones to 0, which has no logarithm."""

MOST_ITERATIONS = 1000


@dataclass(frozen=True)
class Companion:
    """What an adapter and TF-IDF say, weighed.

    Attributes:
        tfidf: fitted on the training reviews.
        weights: (C, F), of the features; (1, F) for two labels.
        bias: (C,), or (1,).
    """

    tfidf: TfidfModel
    weights: NDArray[np.float64]
    bias: NDArray[np.float64]

    def join(
        self,
        texts: Sequence[str],
        adapter: Predictions,
        clock: Callable[[], float] = time.perf_counter,
    ) -> Predictions:
        """Return what both say together.

        Args:
            texts: N texts.
            adapter: what the adapter says of them, not calibrated.
            clock: seconds; those that this takes are added to the adapter's.
        """
        if not texts:
            return adapter
        start = clock()
        features = build_features(adapter.probabilities, self.tfidf.score(texts))
        probabilities = convert_scores(features @ self.weights.T + self.bias)
        return replace(
            adapter, probabilities=probabilities, seconds=adapter.seconds + clock() - start
        )


@dataclass(frozen=True)
class CompanionDraft:
    """A companion before the adapter is trained: only the word counts have been learnt.

    Attributes:
        tfidf: fitted on the training reviews.
        validation: N reviews to weigh both on.
    """

    tfidf: TfidfModel
    validation: Reviews

    @classmethod
    def build(
        cls,
        train: Reviews,
        validation: Reviews,
        label_names: Sequence[str],
        class_weight: str | None,
    ) -> "CompanionDraft":
        """Learn the word counts.

        Args:
            train: the adapter's training reviews.
            validation: to weigh both on later; each label has one.
            label_names: C labels.
            class_weight: `balanced` lets rare labels count as much as frequent ones.

        Raises:
            DataError: a label has no validation review.
        """
        require_every_label(validation.labels, label_names)
        return cls(fit_tfidf(train, label_names, class_weight), validation)

    def finish(self, adapter: Predictions) -> Companion:
        """Weigh what the adapter and the word counts say of the validation reviews.

        Args:
            adapter: what the trained adapter says of them, not calibrated.
        """
        numbers = {name: number for number, name in enumerate(adapter.label_names)}
        targets = np.array([numbers[label] for label in self.validation.labels])
        features = build_features(adapter.probabilities, self.tfidf.score(self.validation.texts))
        regression = LogisticRegression(max_iter=MOST_ITERATIONS).fit(features, targets)
        return Companion(self.tfidf, regression.coef_, regression.intercept_)


def require_every_label(labels: Sequence[str], label_names: Sequence[str]) -> None:
    """Check that a companion can be fitted on validation reviews with these labels.

    Raises:
        DataError: a label has none.
    """
    missing = [name for name in label_names if name not in set(labels)]
    if missing:
        raise DataError(
            f"--companion is fitted on the validation reviews, and none of the {len(labels):,} has "
            f"the label {missing[0]}. Raise --validation-size, or leave --companion out."
        )


def build_features(
    probabilities: NDArray[np.float32], scores: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return (N, F) log odds of both.

    Args:
        probabilities: (N, C), of the adapter.
        scores: (N, C) of TF-IDF, or (N, 1) for two labels.
    """
    logs = np.log(np.maximum(probabilities.astype(np.float64), LEAST_PROBABILITY))
    if scores.shape[1] == 1:
        return np.column_stack([logs[:, 1] - logs[:, 0], scores[:, 0]])
    return np.column_stack([part - part.mean(axis=1, keepdims=True) for part in (logs, scores)])


def save_companion(companion: Companion, folder: Path) -> None:
    """Write a companion into an adapter's folder."""
    tfidf = companion.tfidf
    words = {
        "format_version": FORMAT_VERSION,
        "token_pattern": tfidf.token_pattern,
        "vocabulary": tfidf.vocabulary,
    }
    text = json.dumps(words, ensure_ascii=False) + "\n"
    (folder / WORDS_FILE).write_text(text, encoding="utf-8")
    numbers = {
        "tfidf.idf": tfidf.idf,
        "tfidf.weights": tfidf.weights,
        "tfidf.bias": tfidf.bias,
        "weights": companion.weights,
        "bias": companion.bias,
    }
    # safetensors writes the memory of an array as it lies, whatever its strides.
    contiguous = {name: np.ascontiguousarray(array) for name, array in numbers.items()}
    save_file(contiguous, folder / NUMBERS_FILE)


def load_companion(folder: Path, labels: int) -> Companion | None:
    """Read the companion in an adapter's folder, or return None if there is none.

    Args:
        folder: of the adapter.
        labels: C of the adapter.

    Raises:
        AdapterError: one of its files is missing, damaged or belongs to something else.
    """
    if not any((folder / name).exists() for name in (WORDS_FILE, NUMBERS_FILE)):
        return None
    with _companion_errors(folder):
        words = json.loads((folder / WORDS_FILE).read_text(encoding="utf-8"))
        if words["format_version"] != FORMAT_VERSION:
            raise ValueError(f"format {words['format_version']}, needed is {FORMAT_VERSION}")
        if words["token_pattern"] not in PATTERNS:
            raise ValueError(f"words are {words['token_pattern']!r}, which is none of ours")
        numbers = load_file(folder / NUMBERS_FILE)
        tfidf = TfidfModel(
            words["token_pattern"],
            tuple(words["vocabulary"]),
            numbers["tfidf.idf"],
            numbers["tfidf.weights"],
            numbers["tfidf.bias"],
        )
        companion = Companion(tfidf, numbers["weights"], numbers["bias"])
        _require_shapes(companion, 1 if labels == 2 else labels)
    return companion


def _require_shapes(companion: Companion, rows: int) -> None:
    tfidf, size = companion.tfidf, len(set(companion.tfidf.vocabulary))
    needed = {
        "idf": (tfidf.idf, (size,)),
        "TF-IDF weights": (tfidf.weights, (rows, size)),
        "TF-IDF bias": (tfidf.bias, (rows,)),
        "weights": (companion.weights, (rows, 2 * rows)),
        "bias": (companion.bias, (rows,)),
    }
    for name, (array, shape) in needed.items():
        if array.shape != shape or not np.isfinite(array).all():
            raise ValueError(f"{name} of shape {array.shape}, needed are numbers of {shape}")


@contextmanager
def _companion_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise AdapterError(
            f"{folder}: the adapter's companion is not whole ({error}). Copy the folder again with "
            f"{WORDS_FILE} and {NUMBERS_FILE}, or remove both to use the adapter alone."
        ) from error
