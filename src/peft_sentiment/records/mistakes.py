"""Where a model errs, and on what."""

from dataclasses import dataclass


@dataclass(frozen=True)
class GroupScore:
    """Accuracy on the reviews of one kind.

    Attributes:
        name: what kind, in words.
        accuracy_interval: Wilson's score interval.
    """

    name: str
    reviews: int
    accuracy: float
    accuracy_interval: tuple[float, float]


@dataclass(frozen=True)
class Neighbour:
    """A training review that has words in common with another review.

    Attributes:
        similarity: cosine of their TF-IDF vectors, from 0 to 1.
    """

    text: str
    label: str
    similarity: float


@dataclass(frozen=True)
class Mistake:
    """A review, what it is labelled, and what the model says.

    Attributes:
        index: place among the test reviews, from 0.
        confidence: probability of the predicted label.
        neighbours: nearest training reviews, nearest first; empty where they were not looked for.
    """

    index: int
    text: str
    label: str
    predicted: str
    confidence: float
    is_cut: bool
    neighbours: tuple[Neighbour, ...] = ()


@dataclass(frozen=True)
class LabelDoubts:
    """Test reviews whose given label is probably wrong, and the score without them.

    The model itself is the judge, so the score without them flatters it: it is an upper bound, to
    be read beside the plain one.

    Attributes:
        indices: their places among the test reviews, the most doubtful first.
        examples: the first of them.
        accuracy: on the other reviews.
        accuracy_interval: Wilson's score interval of it.
    """

    indices: tuple[int, ...]
    examples: tuple[Mistake, ...]
    accuracy: float
    accuracy_interval: tuple[float, float]


@dataclass(frozen=True)
class ErrorAnalysis:
    """Where the PEFT model errs on the test reviews.

    Attributes:
        groups: what the reviews are divided by (length, cut, label, confidence) -> its groups.
        confidently_wrong: wrong labels, the most confident first.
        least_sure: right or wrong, the least confident first.
        fixed: right now and wrong before tuning, the most confident first; with the base an
            untrained head, these are half of all reviews.
        broken: wrong now and right before, the most confident first.
        label_doubts: None where they were not looked for.
    """

    reviews: int
    wrong: int
    accuracy: float
    accuracy_interval: tuple[float, float]
    groups: dict[str, tuple[GroupScore, ...]]
    confidently_wrong: tuple[Mistake, ...]
    least_sure: tuple[Mistake, ...]
    fixed: tuple[Mistake, ...]
    broken: tuple[Mistake, ...]
    label_doubts: LabelDoubts | None
