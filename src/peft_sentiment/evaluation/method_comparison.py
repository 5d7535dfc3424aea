"""Methods side by side: several seeds of each, trained and scored on the same reviews; torch-free.

Shapes: S seeds of a method, N test reviews.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from peft_sentiment.records import (
    DataRecord,
    Environment,
    ParameterCounts,
    Scores,
    TrainingRecord,
)

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class ReloadRecord:
    """A saved adapter, loaded again, against the model in memory that it was saved from.

    Attributes:
        scores: after loading.
        flipped: reviews that it labels otherwise.
        largest_difference: of a probability.
    """

    scores: Scores
    flipped: int
    largest_difference: float


@dataclass(frozen=True)
class CellRecord:
    """One method trained with one seed, in a process of its own; a cell's results.json.

    Attributes:
        key: fingerprint of all that its figures depend on.
        split_seed: of the reviews, the same for all cells.
        settings: with the seed of the training.
        adapter_bytes: of the weights on disk; tokenizer and metadata are the same for all.
        seconds: of training and validation.
        peak_rss_bytes: most main memory that the process held, up to the scores.
        peak_device_bytes: most memory of the GPU, or None on a CPU.
    """

    schema_version: int
    status: str
    name: str
    seed: int
    split_seed: int
    key: str
    settings: dict[str, dict[str, Any]]
    environment: Environment
    data: DataRecord
    parameters: ParameterCounts
    training: TrainingRecord
    scores: Scores
    reload: ReloadRecord
    adapter_bytes: int
    seconds: float
    peak_rss_bytes: int
    peak_device_bytes: int | None


@dataclass(frozen=True)
class CellFailure:
    """A cell that has no figures; `kind` is the name of the error, `reason` its message."""

    name: str
    seed: int
    kind: str
    reason: str


@dataclass(frozen=True)
class MethodRecord:
    """One method over its seeds; means, where nothing else is said.

    Attributes:
        accuracy_interval: of the mean, for other reviews and other seeds.
        accuracy_range: lowest and highest seed.
        behind: accuracy of the best method minus this one's.
        behind_interval: paired over the reviews.
        reloaded_accuracy: after saving and loading.
        flipped: reviews that any seed labels otherwise after that.
        peak_rss_bytes: highest of the seeds; `peak_device_bytes` as well.
        is_on_front: whether no method with as few trainable weights or fewer is more accurate.
    """

    name: str
    seeds: tuple[int, ...]
    accuracy: float
    accuracy_interval: tuple[float, float]
    accuracy_range: tuple[float, float]
    f1: float
    behind: float
    behind_interval: tuple[float, float]
    reloaded_accuracy: float
    flipped: int
    trainable: int
    adapter_bytes: int
    seconds: float
    peak_rss_bytes: int
    peak_device_bytes: int | None
    is_on_front: bool


@dataclass(frozen=True)
class MethodsRecord:
    """A comparison of methods; the contents of methods.json.

    Attributes:
        settings: what all cells share.
        confidence_level: of the intervals.
        methods: from the most to the least accurate; those without any figures are not there.
        cells: that are finished.
        failures: that are not.
    """

    schema_version: int
    settings: dict[str, dict[str, Any]]
    confidence_level: float
    methods: tuple[MethodRecord, ...]
    cells: tuple[CellRecord, ...]
    failures: tuple[CellFailure, ...]


def compare_methods(
    cells: Sequence[CellRecord],
    correct: Mapping[tuple[str, int], NDArray[np.bool_]],
    confidence_level: float,
) -> tuple[MethodRecord, ...]:
    """Summarise cells by method, from the most to the least accurate.

    Args:
        cells: finished ones.
        correct: name and seed of each cell -> (N,), whether each test review is labelled right.
        confidence_level: of the intervals.
    """
    groups: dict[str, list[CellRecord]] = {}
    for cell in cells:
        groups.setdefault(cell.name, []).append(cell)
    hits = {
        name: np.stack([correct[name, cell.seed] for cell in group])
        for name, group in groups.items()
    }
    ranked = sorted(groups, key=lambda name: -float(hits[name].mean()))
    front = find_front({name: (_count_weights(groups[name]), hits[name].mean()) for name in groups})
    return tuple(
        _summarise(groups[name], hits[name], hits[ranked[0]], name in front, confidence_level)
        for name in ranked
    )


def find_front(methods: Mapping[str, tuple[int, float]]) -> list[str]:
    """Return the methods that no other one beats with as few weights, from few weights to many.

    Args:
        methods: name -> trainable weights and accuracy.
    """
    front: list[str] = []
    best = -math.inf
    for name, (_, accuracy) in sorted(methods.items(), key=lambda m: (m[1][0], -m[1][1])):
        if accuracy > best:
            front.append(name)
            best = accuracy
    return front


def compute_mean_interval(
    correct: NDArray[np.bool_], confidence_level: float
) -> tuple[float, float]:
    """Return the interval of a method's accuracy, for other reviews and other seeds.

    It is Wilson's, for as many reviews as would be needed to know a single model's accuracy as
    well: models of several seeds err on the same reviews, so that three of them are worth a little
    more than one, and not three times as much; and where the seeds differ by more than chance,
    they are worth less. With one model it is Wilson's own interval. Source of the effective number:
    L. Kish, "Survey Sampling" (1965), section 8.2.

    Args:
        correct: (S, N), whether the model of each seed labels each review right.
        confidence_level: between 0 and 1.
    """
    share = float(correct.mean())
    variance = float(correct.mean(axis=0).var()) / correct.shape[1] + _compute_seed_part(correct)
    n = share * (1 - share) / variance if variance else correct.shape[1]
    z = float(norm.ppf((1 + confidence_level) / 2))
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return max(0.0, centre - half), min(1.0, centre + half)


def compute_difference_interval(
    better: NDArray[np.bool_], other: NDArray[np.bool_], confidence_level: float
) -> tuple[float, float]:
    """Return the interval of a difference of accuracies, paired review by review.

    Args:
        better: (S, N), whether the model of each seed labels each review right.
        other: the same of another method, with seeds of its own.
        confidence_level: between 0 and 1.
    """
    difference = better.mean(axis=0) - other.mean(axis=0)  # (N,)
    seeds = _compute_seed_part(better) + _compute_seed_part(other)
    error = math.sqrt(float(difference.var()) / len(difference) + seeds)
    half = float(norm.ppf((1 + confidence_level) / 2)) * error
    return float(difference.mean()) - half, float(difference.mean()) + half


def _compute_seed_part(correct: NDArray[np.bool_]) -> float:
    """Return what the choice of seeds adds to the variance of their (S, N) mean accuracy.

    It is the variance between seeds beyond what errors on other reviews explain, divided by S: the
    component of a two-way analysis of variance with random effects. 0 where there is one seed.
    """
    seeds, reviews = correct.shape
    if seeds == 1 or reviews == 1:
        return 0.0
    by_seed, by_review = correct.mean(axis=1, keepdims=True), correct.mean(axis=0, keepdims=True)
    rest = correct - by_seed - by_review + correct.mean()  # (S, N)
    by_chance = float((rest**2).sum()) / ((seeds - 1) * (reviews - 1)) / reviews
    beyond = float(by_seed.var(ddof=1)) - by_chance
    return float(max(0.0, beyond) / seeds)


def _summarise(
    cells: Sequence[CellRecord],
    correct: NDArray[np.bool_],
    best: NDArray[np.bool_],
    is_on_front: bool,
    confidence_level: float,
) -> MethodRecord:
    by_seed = correct.mean(axis=1)
    device = [cell.peak_device_bytes for cell in cells if cell.peak_device_bytes is not None]
    return MethodRecord(
        name=cells[0].name,
        seeds=tuple(cell.seed for cell in cells),
        accuracy=float(correct.mean()),
        accuracy_interval=compute_mean_interval(correct, confidence_level),
        accuracy_range=(float(by_seed.min()), float(by_seed.max())),
        f1=fmean(cell.scores.f1 for cell in cells),
        behind=float(best.mean() - correct.mean()),
        behind_interval=(0.0, 0.0)
        if correct is best
        else compute_difference_interval(best, correct, confidence_level),
        reloaded_accuracy=fmean(cell.reload.scores.accuracy for cell in cells),
        flipped=sum(cell.reload.flipped for cell in cells),
        trainable=_count_weights(cells),
        adapter_bytes=round(fmean(cell.adapter_bytes for cell in cells)),
        seconds=fmean(cell.seconds for cell in cells),
        peak_rss_bytes=max(cell.peak_rss_bytes for cell in cells),
        peak_device_bytes=max(device, default=None),
        is_on_front=is_on_front,
    )


def _count_weights(cells: Sequence[CellRecord]) -> int:
    return round(fmean(cell.parameters.trainable for cell in cells))
