"""What is kept beside an exported model: all that scoring needs, and how it was checked."""

from dataclasses import dataclass
from typing import Any

from peft_sentiment.records.calibration import Calibration


@dataclass(frozen=True)
class ScoredForm:
    """One form of a model on the reviews of a check.

    Attributes:
        accuracy: share of the reviews that is labelled right; None where their labels are unknown.
        reviews_per_second: tokenizing included.
        bytes: of the weights: of an adapter with its base, or of the exported model.
    """

    accuracy: float | None
    reviews_per_second: float
    bytes: int


@dataclass(frozen=True)
class ExportCheck:
    """An export against the adapter it was made from, on the same reviews.

    Labels and logits of the original are those in float32; its speed is that of its usual dtype.

    Attributes:
        data: where the reviews come from.
        reviews: how many there are.
        largest_logit_difference: over all reviews and labels.
        flipped: reviews whose label is another one.
        dtype: in which the original was timed.
    """

    data: str
    reviews: int
    largest_logit_difference: float
    flipped: int
    dtype: str
    original: ScoredForm
    exported: ScoredForm

    @property
    def accuracy_loss(self) -> float | None:
        """Accuracy of the original less that of the export; None where it is not known."""
        before, after = self.original.accuracy, self.exported.accuracy
        return None if before is None or after is None else before - after


@dataclass(frozen=True)
class ExportRecord:
    """What is needed to score text with an exported model, and where it comes from.

    Attributes:
        form: merged, onnx or onnx-int8.
        architecture: model type of the base.
        files: every file that is read -> sha256 of it.
        label_names: label of each logit.
        label_type: `str`, or `int` where the labels were whole numbers.
        max_length: tokens read of a review.
        truncation: which part of a longer review they are.
        window_length: tokens that are scored at once; 0 for all.
        calibration: what validation says of the probabilities, where there was one.
        method: how the adapter was trained.
        base_name: the base as it was asked for when training.
        base_revision: its revision, of a model on the hub.
        base_sha256: fingerprint of the base's weights.
        versions: of the libraries that made the export.
        trained_with: settings of the run that trained the adapter, section -> name -> value.
        check: what came out on real reviews; None only while the check is under way.
    """

    format_version: int
    form: str
    architecture: str
    files: dict[str, str]
    label_names: tuple[str, ...]
    label_type: str
    max_length: int
    truncation: str
    calibration: Calibration | None
    method: str
    base_name: str
    base_revision: str | None
    base_sha256: str
    versions: dict[str, str]
    trained_with: dict[str, dict[str, Any]] | None
    check: ExportCheck | None
    window_length: int = 0
