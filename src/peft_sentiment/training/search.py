"""A search for settings by Optuna: trials asked for, judged on validation reviews, kept in SQLite.

What a trial tries depends on the trials that have been finished and on the seed alone, not on the
process: a search that was killed and goes on tries what it would have tried without that.
"""

import contextlib
import dataclasses
import fcntl
import importlib.util
import json
import time
import typing
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from peft_sentiment.config import Settings
from peft_sentiment.errors import (
    DeviceMemoryError,
    DivergenceError,
    ModelError,
    OutputError,
    SettingsError,
    build_missing_error,
)
from peft_sentiment.records import ValidationRecord
from peft_sentiment.training.search_ranges import FLAG, SearchRange, build_tables
from peft_sentiment.training.trials import TrialRecord, TrialState

if typing.TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.trial import FrozenTrial

STUDY_NAME = "search"
QUESTION = "question"
"""Attribute of a study: what is searched, which must not change between its trials."""
RECORD = "record"
"""Attribute of a trial: what came out of it. One that was interrupted has none."""
FEWEST_FOR_IMPORTANCE = 4
"""Finished trials below which nothing is said of how much a setting matters."""

TRIAL_ERRORS = (DeviceMemoryError, DivergenceError, ModelError, SettingsError)
"""What settings can do to a single trial; the search goes on."""


@dataclass(frozen=True)
class Check:
    """What a validation of a trial said, and whether it is the last one."""

    record: ValidationRecord
    is_last: bool


ValidateTrial = Callable[[Settings], Generator[Check, None, None]]
"""Trains with some settings, and yields each validation."""


@dataclass(frozen=True)
class Search:
    """What is searched, and the study that keeps the trials.

    Attributes:
        ranges: what may vary.
        settings: what all trials share.
    """

    study: "Study"
    ranges: tuple[SearchRange, ...]
    settings: Settings


def require_optuna() -> None:
    """Check that the library is there.

    Raises:
        SettingsError: it is not; the message names the extra.
    """
    if importlib.util.find_spec("optuna") is None:
        raise build_missing_error("A search needs", "Optuna", "search")


@contextlib.contextmanager
def locked_study(path: Path) -> Iterator[None]:
    """Keep other searches away from a study for the block; the lock goes with the process.

    Args:
        path: of the study, in a folder that is there.

    Raises:
        OutputError: another search is at it.
    """
    with path.with_suffix(".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OutputError(
                f"{path}: another search is at work on this study. Wait for it, or name another "
                "folder with --output-dir."
            ) from None
        yield


def open_search(
    path: Path,
    ranges: Sequence[SearchRange],
    settings: Settings,
    conditions: Mapping[str, Any] | None = None,
) -> Search:
    """Open a study, or begin it; trials that a killed process left unfinished are marked failed.

    To be called within `locked_study`, so that no trial of another process is taken for one.

    Args:
        path: SQLite file.
        ranges: what may vary.
        settings: what all trials share.
        conditions: what else must not change between trials, by name.

    Raises:
        SettingsError: the study asks something else.
        OutputError: the file is no study.
    """
    import optuna
    from sqlalchemy.engine import URL
    from sqlalchemy.exc import DatabaseError

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    is_loss = settings.training.metric_for_best_model == "log_loss"
    try:
        study = optuna.create_study(
            storage=URL.create("sqlite", database=str(path.resolve())).render_as_string(),
            study_name=STUDY_NAME,
            direction="minimize" if is_loss else "maximize",
            pruner=optuna.pruners.MedianPruner(),
            load_if_exists=True,
        )
    except DatabaseError as error:
        raise OutputError(
            f"{path}: this is not a study that can be read ({error.orig}). Move it away, or name "
            "another folder with --output-dir."
        ) from error
    _require_same_question(study, path, _describe_question(ranges, settings, conditions or {}))
    for trial in study.get_trials(states=[optuna.trial.TrialState.RUNNING]):
        _tell(study, trial.number, _read_record(trial))
    return Search(study, tuple(ranges), settings)


def iterate_trials(
    search: Search,
    validate: ValidateTrial,
    trials: int,
    clock: Callable[[], float] = time.perf_counter,
) -> Iterator[TrialRecord]:
    """Try settings until a study has so many trials, and yield each one that is over.

    Args:
        search: what is searched.
        validate: trains and validates.
        trials: that the study is to have, those of earlier processes among them.
        clock: seconds, for the records.
    """
    study = search.study
    while (done := len(list_trials(study))) < trials:
        study.sampler = _build_sampler(search.settings.training.seed, done)
        yield _run_trial(search, done + 1, validate, clock)


def list_trials(study: "Study") -> list[TrialRecord]:
    """Return the trials that are over, in the order of trying; interrupted ones do not count."""
    records = [_read_record(trial) for trial in study.get_trials(deepcopy=False)]
    return [record for record in records if record is not None]


def compute_importances(study: "Study") -> dict[str, float]:
    """Return how much of the differences between finished trials each setting explains, sum 1.

    Empty while there are too few trials or all are equal. Source: S. Watanabe et al., "PED-ANOVA:
    Efficiently Quantifying Hyperparameter Importance in Arbitrary Subspaces", IJCAI 2023.
    """
    import optuna

    finished = study.get_trials(states=[optuna.trial.TrialState.COMPLETE])
    values = {trial.value for trial in finished}
    if len(finished) < FEWEST_FOR_IMPORTANCE or len(values) == 1:
        return {}
    return dict(optuna.importance.get_param_importances(study))


def _describe_question(
    ranges: Sequence[SearchRange], settings: Settings, conditions: Mapping[str, Any]
) -> dict[str, Any]:
    tables: dict[str, Any] = settings.as_tables()
    del tables["output"]
    return {"ranges": sorted(item.text for item in ranges), **tables, "search": dict(conditions)}


def _require_same_question(study: "Study", path: Path, asked: dict[str, Any]) -> None:
    found = study.user_attrs.get(QUESTION)
    if found is None:
        study.set_user_attr(QUESTION, json.dumps(asked))
    elif json.loads(found) != json.loads(json.dumps(asked)):
        raise SettingsError(
            f"{path}: this study asks something else: {_describe_other(json.loads(found), asked)}. "
            "Give the same to go on with it, or name another folder with --output-dir."
        )


def _describe_other(found: dict[str, Any], asked: dict[str, Any]) -> str:
    if found["ranges"] != asked["ranges"]:
        return "its ranges are " + " ".join(f"{FLAG} {text}" for text in found["ranges"])
    differing = [
        f"{section}.{name} {found[section].get(name)!r}"
        for section in sorted(asked.keys() - {"ranges"})
        for name in sorted(asked[section].keys() | found[section].keys())
        if asked[section].get(name) != found[section].get(name)
    ]
    return "it has " + ", ".join(differing)


def _build_sampler(seed: int, done: int) -> Any:  # noqa: ANN401 - Optuna is imported late
    import optuna

    state = np.random.SeedSequence([seed, done]).generate_state(1)[0]
    return optuna.samplers.TPESampler(seed=int(state))


def _suggest(trial: "Trial", item: SearchRange) -> object:
    """Return the value to try, as JSON has it."""
    if item.choices:
        value = item.convert(trial.suggest_categorical(item.name, item.choices))
        return list(value) if isinstance(value, tuple) else value
    if isinstance(item.low, int) and isinstance(item.high, int):
        return trial.suggest_int(item.name, item.low, item.high, log=item.is_log)
    low, high = typing.cast("tuple[float, float]", (item.low, item.high))
    return trial.suggest_float(item.name, low, high, log=item.is_log)


def _run_trial(
    search: Search, number: int, validate: ValidateTrial, clock: Callable[[], float]
) -> TrialRecord:
    """Train one trial, and tell the study what came out."""
    start, trial = clock(), search.study.ask()
    values = {item.name: _suggest(trial, item) for item in search.ranges}
    said: list[ValidationRecord] = []
    reason, is_pruned = None, False
    try:
        tried = search.settings.updated(build_tables(values), f"trial {number}")
        with contextlib.closing(validate(tried)) as checks:
            for check in checks:
                said.append(check.record)
                trial.report(_get_score(said, search.settings), len(said))
                if is_pruned := not check.is_last and trial.should_prune():
                    break
    except TRIAL_ERRORS as error:
        reason = str(error)
    state: TrialState = "failed" if reason else "pruned" if is_pruned else "finished"
    result = TrialRecord(
        number=number,
        state=state,
        values=values,
        score=_get_score(said, search.settings) if said else None,
        log_loss=_find_counting(said, search.settings).log_loss if said else None,
        validations=len(said),
        seconds=clock() - start,
        reason=reason,
    )
    trial.set_user_attr(RECORD, json.dumps(dataclasses.asdict(result)))
    _tell(search.study, trial.number, result)
    return result


def _tell(study: "Study", number: int, record: TrialRecord | None) -> None:
    """End a trial by what came out, or as failed where nothing did."""
    import optuna

    states = {"finished": "COMPLETE", "pruned": "PRUNED", "failed": "FAIL"}
    state = optuna.trial.TrialState[states[record.state if record else "failed"]]
    score = record.score if record and record.state == "finished" else None
    study.tell(number, score, state)


def _find_counting(said: Sequence[ValidationRecord], settings: Settings) -> ValidationRecord:
    """Return the validation of the weights that a training would end with."""
    if not settings.training.load_best_model_at_end:
        return said[-1]
    return [record for record in said if record.is_best][-1]


def _get_score(said: Sequence[ValidationRecord], settings: Settings) -> float:
    record = _find_counting(said, settings)
    return float(getattr(record, settings.training.metric_for_best_model))


def _read_record(trial: "FrozenTrial") -> TrialRecord | None:
    """Return what came out of a trial, or None for one that is not over or was interrupted."""
    text = trial.user_attrs.get(RECORD)
    return None if text is None else TrialRecord(**json.loads(text))
