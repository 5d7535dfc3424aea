"""Test reviews worth reading: where the model is sure and wrong, and what tuning changed."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from peft_sentiment.records import Predictions
from peft_sentiment.records.reviews import Reviews


@dataclass(frozen=True)
class Example:
    """One test review and what a model says of it.

    Attributes:
        place: its number among the test reviews, from 0.
        label: the true label name.
        said: the model's label name.
        confidence: the model's probability of it.
    """

    place: int
    text: str
    label: str
    said: str
    confidence: float


@dataclass(frozen=True)
class Examples:
    """The surest of each kind, the surest first.

    Attributes:
        wrong: reviews that the adapted model gets wrong.
        fixed: reviews that the adapted model gets right and the other does not.
        broken: reviews that the other gets right and the adapted one does not; none of `wrong`.
    """

    wrong: tuple[Example, ...]
    fixed: tuple[Example, ...]
    broken: tuple[Example, ...]


def select_examples(
    reviews: Reviews, other: Predictions, peft: Predictions, per_kind: int
) -> Examples:
    """Select the reviews of each kind of which the adapted model is most sure.

    Args:
        reviews: N test reviews.
        other: predictions for them of a model to compare with.
        peft: the adapted model's.
        per_kind: how many of each kind at most.
    """
    before, after = (np.equal(model.labels, reviews.labels) for model in (other, peft))
    wrong = _take_surest(~after, reviews, peft, per_kind)
    broken = before & ~after
    broken[[example.place for example in wrong]] = False
    return Examples(
        wrong=wrong,
        fixed=_take_surest(after & ~before, reviews, peft, per_kind),
        broken=_take_surest(broken, reviews, peft, per_kind),
    )


def _take_surest(
    mask: NDArray[np.bool_], reviews: Reviews, model: Predictions, count: int
) -> tuple[Example, ...]:
    confidence, labels = model.probabilities.max(axis=1), model.labels
    places = np.flatnonzero(mask)
    surest = places[np.argsort(-confidence[places], kind="stable")][:count]
    return tuple(
        Example(
            place=int(place),
            text=reviews.texts[place],
            label=reviews.labels[place],
            said=labels[place],
            confidence=float(confidence[place]),
        )
        for place in surest
    )
