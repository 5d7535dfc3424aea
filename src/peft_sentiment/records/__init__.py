"""What one part hands to the next: plain frozen records, torch-free and JSON ready.

Numbers live here; words are made from them once, in `reporting`.
"""

import json
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from peft_sentiment.errors import OutputError
from peft_sentiment.records.calibration import CalibrationRecord
from peft_sentiment.records.conversion import build_record as build_record
from peft_sentiment.records.conversion import render_json as render_json

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class DataRecord:
    """The data of a run, counted in reviews.

    Attributes:
        cut: reviews longer than `max_length`, in all three parts together.
        label_counts: label name -> training reviews with it.
        window_length: tokens of a review that are scored at once; 0 for all.
        near_duplicates: as in `reviews.Splits`; dropped if the settings say so.
        is_small: as in `reviews.Splits`.
        rows_skipped: rows of the files that were left out because they can't be used.
        unlabelled: reviews without a label that a first classifier has read.
        pseudo_labelled: those of them that the adapter has learned from.
    """

    name: str
    sha256: str | None
    train: int
    validation: int
    test: int
    duplicates_removed: int
    label_names: tuple[str, ...]
    label_counts: dict[str, int]
    max_length: int
    truncation: str
    cut: int
    near_duplicates: int = 0
    is_small: bool = False
    rows_skipped: int = 0
    unlabelled: int = 0
    pseudo_labelled: int = 0
    window_length: int = 0


@dataclass(frozen=True)
class Environment:
    """What a run was computed with.

    Attributes:
        versions: distribution name -> version.
        device: torch's name of the device.
        dtype: dtype of the matrix products.
        dtype_reason: why this one, in words.
        attention: forms of attention in use, in words.
        threads: threads of one operation on the CPU.
        commit: git commit of the source tree, when it is run from one.
    """

    versions: dict[str, str]
    device: str
    dtype: str
    dtype_reason: str
    attention: str
    threads: int
    commit: str | None


@dataclass(frozen=True)
class ParameterCounts:
    """Weights of the model, counted once each."""

    adapter: int
    head: int
    trainable: int
    total: int
    trainable_percent: float


@dataclass(frozen=True)
class StepRecord:
    """One optimizer step.

    Attributes:
        step: number of the step, from 1.
        steps: steps that the run is to have.
        epoch: passes over the training reviews so far.
        loss: mean (weighted) cross-entropy over the step's reviews, before the update.
        learning_rate: rate of this update.
        grad_norm: length of the gradient before clipping.
        reviews: reviews in this step.
        tokens: real tokens in this step, padding left out.
        seconds: wall time of this step.
    """

    step: int
    steps: int
    epoch: float
    loss: float
    learning_rate: float
    grad_norm: float
    reviews: int
    tokens: int
    seconds: float


@dataclass(frozen=True)
class ContrastRecord:
    """One optimizer step of the first stage on pairs of reviews.

    Attributes:
        step: as of any other, counted within the stage; its loss is that of the pairs.
    """

    step: StepRecord


@dataclass(frozen=True)
class ValidationRecord:
    """Scores on the validation reviews after a step; `seconds` is what they took."""

    step: int
    epoch: float
    accuracy: float
    f1: float
    log_loss: float
    is_best: bool
    seconds: float


@dataclass(frozen=True)
class TrainingRecord:
    """One training run; rates are over training time, validation left out.

    Attributes:
        seconds: wall time of training and validation.
        reviews: reviews trained on, counted once per pass.
        final_loss: mean loss of the last tenth of the steps.
        best_step: step whose weights were kept.
        stopped_early: whether validation ended the run before its last step.
        epochs: passes over the training reviews.
        learning_rate: highest rate of the steps; a head may have had another.
    """

    seconds: float
    reviews: int
    reviews_per_second: float
    tokens_per_second: float
    steps: int
    final_loss: float
    best_step: int
    stopped_early: bool
    validations: tuple[ValidationRecord, ...]
    epochs: float = 0.0
    learning_rate: float = 0.0


@dataclass(frozen=True)
class Scores:
    """How well one model labels the test reviews.

    `f1`, `precision` and `recall` are macro means over the labels. `roc_auc` is one-against-rest
    and macro for more than two labels, and None where the test reviews lack a label.

    Attributes:
        accuracy_interval: Wilson's score interval at the settings' confidence level.
        confusion: reviews by true label (row) and predicted label (column).
        intervals: score name -> interval at the same level, for f1, precision, recall, log_loss,
            and roc_auc where each label has two reviews.
    """

    accuracy: float
    f1: float
    precision: float
    recall: float
    roc_auc: float | None
    log_loss: float
    accuracy_interval: tuple[float, float]
    reviews_per_second: float
    confusion: tuple[tuple[int, ...], ...]
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Improvement:
    """The PEFT model against the base model on the same reviews, as differences of fractions.

    Attributes:
        accuracy_interval: paired bootstrap interval of the accuracy difference.
        p_value: exact McNemar test, two-sided.
        fixed: reviews that only the PEFT model gets right.
        broken: reviews that only the base model gets right.
    """

    accuracy: float
    f1: float
    accuracy_interval: tuple[float, float]
    p_value: float
    fixed: int
    broken: int


@dataclass(frozen=True)
class PairComparison:
    """Two models on the same reviews; differences are the second's score less the first's.

    Attributes:
        accuracy_interval: paired bootstrap interval of the accuracy difference.
        p_value: exact McNemar test, two-sided.
        adjusted_p_value: the same after Holm's correction for all the pairs compared with it.
        fixed: reviews that only the second model gets right.
        broken: reviews that only the first model gets right.
        detectable: the smallest true difference that the test would find in four of five such sets
            of reviews, at the level of Holm's first step; None if there are too few for any.
    """

    first: str
    second: str
    accuracy: float
    accuracy_interval: tuple[float, float]
    p_value: float
    adjusted_p_value: float
    fixed: int
    broken: int
    detectable: float | None


@dataclass(frozen=True)
class Results:
    """A finished run; the contents of results.json, which other programs read."""

    schema_version: int
    status: str
    seconds: float
    peak_rss_bytes: int
    settings: dict[str, dict[str, Any]]
    environment: Environment
    data: DataRecord
    parameters: ParameterCounts
    training: TrainingRecord
    models: dict[str, Scores]
    improvement: Improvement
    comparisons: tuple[PairComparison, ...] = ()
    calibration: CalibrationRecord | None = None


@dataclass(frozen=True)
class Predictions:
    """One model's probabilities, in the order of the reviews.

    Attributes:
        label_names: name of each column of `probabilities`.
        probabilities: (N, C), float32; rows sum to 1.
        tokens: (N,), tokens read of each review.
        is_cut: (N,), whether the review was longer than that.
        seconds: wall time of tokenizing and scoring.
        temperature: what the logits were divided by.
    """

    label_names: tuple[str, ...]
    probabilities: NDArray[np.float32]
    tokens: NDArray[np.int32]
    is_cut: NDArray[np.bool_]
    seconds: float
    temperature: float = 1.0

    @property
    def labels(self) -> list[str]:
        """The most probable label name of each review."""
        return [self.label_names[i] for i in self.probabilities.argmax(axis=1)]


def _require_sound(results: Results) -> None:
    """Check that what readers take for granted is there.

    Raises:
        KeyError: it is not.
    """
    for name in ("base", "peft"):
        _ = results.models[name]
    _ = results.settings["evaluation"]["confidence_level"]


def load_results(path: Path) -> Results:
    """Read a results.json.

    Raises:
        OutputError: the file is missing or not what this version writes.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise OutputError(
            f"{path}: no such file, so this folder holds no finished run. "
            "Make one with: peft-sentiment run --output-dir FOLDER."
        ) from None
    except (OSError, ValueError) as error:
        raise OutputError(f"{path}: the results can't be read ({error}). Run again.") from error
    try:
        if values["schema_version"] != SCHEMA_VERSION:
            raise ValueError(f"schema {values['schema_version']}")
        results = typing.cast("Results", build_record(Results, values))
        _require_sound(results)
        return results
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise OutputError(
            f"{path}: not the results of this version (schema {SCHEMA_VERSION}): {error!r}. "
            "Run again with this version."
        ) from error
