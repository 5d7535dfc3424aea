"""What is known of how far a model's probabilities can be trusted."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ReliabilityBin:
    """The reviews whose confidence, the probability of the predicted label, lies in one bin.

    Attributes:
        low: lower edge of the bin, left out of it.
        high: upper edge, part of it.
        reviews: how many there are.
        confidence: mean confidence, or the bin's middle where there are none.
        accuracy: share that is right, or None where there are none.
    """

    low: float
    high: float
    reviews: int
    confidence: float
    accuracy: float | None


@dataclass(frozen=True)
class CalibrationScores:
    """How far probabilities can be taken at their word, on test reviews.

    Attributes:
        expected_calibration_error: mean gap between confidence and share of right labels over the
            bins, weighted by their reviews; 0 is best.
        error_by_chance: what it would be on average for a model that is perfectly calibrated, as
            so many reviews never hit their shares exactly.
        brier_score: mean squared error of the probabilities, from 0 (best) to 1; for more than
            two labels the sum over them, from 0 to 2.
        bins: of the expected calibration error, from low to high confidence.
    """

    expected_calibration_error: float
    error_by_chance: float
    brier_score: float
    log_loss: float
    bins: tuple[ReliabilityBin, ...]


@dataclass(frozen=True)
class ThresholdRecord:
    """What a confidence threshold does with test reviews.

    Attributes:
        confidence: reviews below it are undecided.
        decided: reviews at or above it.
        undecided_share: share of the reviews that is below it.
        precision: share of the decided reviews that is labelled right; None where there are none.
        precision_interval: Wilson's interval of it.
    """

    confidence: float
    decided: int
    undecided_share: float
    precision: float | None
    precision_interval: tuple[float, float] | None


@dataclass(frozen=True)
class CalibrationRecord:
    """The PEFT model's probabilities before and after temperature scaling, on the test reviews.

    Attributes:
        temperature: what logits are divided by; above 1 it makes the model less sure.
        validation_reviews: how many it was fitted on.
        threshold: what is labelled and what is left undecided, where that was asked for.
    """

    temperature: float
    validation_reviews: int
    before: CalibrationScores
    after: CalibrationScores
    threshold: ThresholdRecord | None


@dataclass(frozen=True)
class OperatingPoint:
    """A confidence threshold and what it does with the validation reviews.

    Attributes:
        confidence: reviews below it are undecided.
        undecided_share: share of the reviews that is below it.
        precision: share of the decided reviews that is labelled right.
        precision_low: lower end of Wilson's 95 % interval of it.
    """

    confidence: float
    undecided_share: float
    precision: float
    precision_low: float


@dataclass(frozen=True)
class Calibration:
    """What validation says of a model's probabilities; kept beside the adapter.

    Attributes:
        temperature: what logits are divided by.
        reviews: validation reviews that it was fitted on.
        points: thresholds to choose among, from the lowest up.
        threshold: the chosen one's confidence, where one was asked for.
    """

    temperature: float
    reviews: int
    points: tuple[OperatingPoint, ...]
    threshold: float | None
