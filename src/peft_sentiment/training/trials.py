"""What a search has tried: records of its trials, and which of them is the best; torch-free."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

SCHEMA_VERSION = 1
TrialState = Literal["finished", "pruned", "failed"]
STATES: tuple[TrialState, ...] = ("finished", "pruned", "failed")
"""From best to worst."""


@dataclass(frozen=True)
class TrialRecord:
    """One trial.

    Attributes:
        number: from 1, in the order of trying.
        state: `pruned` if it was given up half-way, `failed` if it could not be trained.
        values: setting -> value that was tried.
        score: the metric at its best validation, which is the last one where the best weights are
            not kept.
        log_loss: there.
        validations: that it had.
        seconds: wall time.
        reason: why it failed.
    """

    number: int
    state: TrialState
    values: dict[str, Any]
    score: float | None
    log_loss: float | None
    validations: int
    seconds: float
    reason: str | None


@dataclass(frozen=True)
class SearchRecord:
    """A search as it stands; the contents of search.json.

    Attributes:
        metric: what the trials are judged by, on the validation reviews.
        ranges: as they were given.
        settings: what all trials share.
        trials: in the order of trying.
        best: number of the best finished trial, if one is finished.
        importances: setting -> share of the differences between trials that it explains, if
            enough trials are finished.
    """

    schema_version: int
    metric: str
    ranges: tuple[str, ...]
    settings: dict[str, dict[str, Any]]
    trials: tuple[TrialRecord, ...]
    best: int | None
    importances: dict[str, float]


def find_best(trials: Sequence[TrialRecord], metric: str) -> TrialRecord | None:
    """Return the best finished trial; of equal ones that with the smaller log loss."""
    ranked = rank_trials(trials, metric)
    return ranked[0] if ranked and ranked[0].state == "finished" else None


def rank_trials(trials: Sequence[TrialRecord], metric: str) -> list[TrialRecord]:
    """Return trials from best to worst: finished ones, pruned ones, failed ones."""
    sign = 1 if metric == "log_loss" else -1

    def rank(trial: TrialRecord) -> tuple[int, float, float]:
        score = 0.0 if trial.score is None else sign * trial.score
        return STATES.index(trial.state), score, trial.log_loss or 0.0

    return sorted(trials, key=rank)
