"""The reviews themselves, as a source gives them and as they are split."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from peft_sentiment.records.conversion import build_record as build_record
from peft_sentiment.records.conversion import render_json as render_json
from peft_sentiment.records.skipped import SkippedRow


@dataclass(frozen=True)
class Reviews:
    """Labelled reviews, in the data's order.

    Attributes:
        texts: the reviews.
        labels: the label name of each review.
        groups: the group of each, which no split divides; None where there are no groups.
        weights: how much each counts in training; None where all count the same.
    """

    texts: Sequence[str]
    labels: Sequence[str]
    groups: Sequence[str] | None = None
    weights: Sequence[float] | None = None

    def __len__(self) -> int:
        """Return the number of reviews."""
        return len(self.texts)

    def take(self, indices: Sequence[int] | NDArray[np.int64]) -> "Reviews":
        """Return the reviews at these places, in this order."""
        groups, weights = self.groups, self.weights
        return Reviews(
            [self.texts[i] for i in indices],
            [self.labels[i] for i in indices],
            None if groups is None else [groups[i] for i in indices],
            None if weights is None else [weights[i] for i in indices],
        )


@dataclass(frozen=True)
class SourceData:
    """Reviews as a source gives them: checked and cleaned, not yet split to size.

    Attributes:
        name: data set name or file path, as it was asked for.
        sha256: of the file or files read, where there are any.
        label_names: all labels, in the order in which they are reported.
        train: reviews to train on; validation and test are split off where they are None.
        validation: the source's own validation reviews.
        test: the source's own test reviews.
        duplicates_removed: reviews dropped because their text occurs elsewhere.
        skipped: rows left out because they can't be used.
    """

    name: str
    sha256: str | None
    label_names: tuple[str, ...]
    train: Reviews
    validation: Reviews | None
    test: Reviews | None
    duplicates_removed: int
    skipped: tuple[SkippedRow, ...] = ()


@dataclass(frozen=True)
class Splits:
    """Train, validation and test reviews that share no text.

    Attributes: as in `SourceData`; `validation` is empty where none was asked for.
        near_duplicates: training and validation reviews that were found to be nearly the same as a
            review of a part that comes before: test, then validation.
        is_small: whether there were too few reviews for the usual sizes, so that all are used.
    """

    name: str
    sha256: str | None
    label_names: tuple[str, ...]
    train: Reviews
    validation: Reviews
    test: Reviews
    duplicates_removed: int
    near_duplicates: int = 0
    is_small: bool = False
    skipped: tuple[SkippedRow, ...] = ()
