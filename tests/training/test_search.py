"""A study tries what it would have tried without interruptions, and judges by validations alone."""

import contextlib
import itertools
import tempfile
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest

from peft_sentiment.config import Settings, load_settings
from peft_sentiment.errors import DivergenceError, OutputError, SettingsError
from peft_sentiment.records import ValidationRecord
from peft_sentiment.training.search import (
    Check,
    Search,
    compute_importances,
    iterate_trials,
    list_trials,
    locked_study,
    open_search,
)
from peft_sentiment.training.search_ranges import parse_ranges
from peft_sentiment.training.trials import TrialRecord, find_best, rank_trials

RANGES = ("training.learning_rate=1e-4..1e-2:log", "adapter.r=4,8,16", "adapter.lora_alpha=8..64")
CHECKS = 3


TRIALS = 12
"""More than the ten that are drawn by chance before the trials so far decide."""


@pytest.fixture(scope="module")
def memory() -> Iterator[Path]:
    """A folder in memory, where there is one: SQLite waits for the disk at every step."""
    place = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108
    with tempfile.TemporaryDirectory(dir=place) as folder:
        yield Path(folder)


@pytest.fixture
def study_folder(memory: Path) -> Path:
    """A new folder for the study of one test."""
    return Path(tempfile.mkdtemp(dir=memory))


@pytest.fixture(scope="module")
def whole(memory: Path) -> list[TrialRecord]:
    """The trials of a search that nothing has interrupted."""
    return run(open_here(Path(tempfile.mkdtemp(dir=memory))), TRIALS)


def open_here(folder: Path, *ranges: str, metric: str = "accuracy", **conditions: int) -> Search:
    settings = load_settings(overrides={"training": {"metric_for_best_model": metric}})
    parsed = parse_ranges(ranges or RANGES, settings)
    return open_search(folder / "study.db", parsed, settings, conditions)


def build_check(check: int, accuracy: float, is_best: bool = True) -> Check:
    record = ValidationRecord(check, check, accuracy, accuracy, 1 - accuracy, is_best, 0.1)
    return Check(record, is_last=check == CHECKS)


def validate(settings: Settings) -> Generator[Check, None, None]:
    """Say that a rank of 16 and a learning rate of 3e-3 are best, more clearly at each check."""
    rate = settings.training.learning_rate
    accuracy = 0.9 - abs(rate - 3e-3) * 20 - (0.1 if settings.adapter.r < 16 else 0.0)
    for check in range(1, CHECKS + 1):
        yield build_check(check, accuracy - 0.01 * (CHECKS - check))


def interrupt_after(checks: int) -> Callable[[Settings], Generator[Check, None, None]]:
    """Return a `validate` that ends like Ctrl-C or a kill after so many checks of all trials."""
    left = itertools.count(checks, -1)

    def stop(settings: Settings) -> Generator[Check, None, None]:
        for check in validate(settings):
            if next(left) == 0:
                raise KeyboardInterrupt
            yield check

    return stop


def run(search: Search, trials: int) -> list[TrialRecord]:
    ticks = itertools.count()
    return list(iterate_trials(search, validate, trials, lambda: float(next(ticks))))


def describe(trials: Iterator[TrialRecord] | list[TrialRecord]) -> list[object]:
    return [(t.number, t.state, t.values, t.score, t.log_loss, t.validations) for t in trials]


def test_a_study_has_as_many_trials_as_asked_for_and_no_more(study_folder: Path) -> None:
    search = open_here(study_folder)
    assert [trial.number for trial in run(search, 4)] == [1, 2, 3, 4]
    assert run(search, 4) == []
    assert [trial.number for trial in run(search, 6)] == [5, 6]


@pytest.mark.parametrize("checks", [1, 22])
def test_a_study_that_was_interrupted_tries_what_it_would_have_tried(
    checks: int, study_folder: Path, whole: list[TrialRecord]
) -> None:
    with contextlib.suppress(KeyboardInterrupt):
        list(iterate_trials(open_here(study_folder), interrupt_after(checks), TRIALS))
    resumed = open_here(study_folder)
    assert len(list_trials(resumed.study)) < TRIALS
    run(resumed, TRIALS)
    assert describe(list_trials(resumed.study)) == describe(whole)


def test_a_trial_that_was_interrupted_is_marked_failed(study_folder: Path) -> None:
    with contextlib.suppress(KeyboardInterrupt):
        list(iterate_trials(open_here(study_folder), interrupt_after(4), 3))
    states = [trial.state.name for trial in open_here(study_folder).study.trials]
    assert states == ["COMPLETE", "FAIL"]


def test_what_came_out_of_a_trial_survives_the_moment_before_it_is_told(study_folder: Path) -> None:
    search = open_here(study_folder)
    search.study.tell = lambda *_: (_ for _ in ()).throw(KeyboardInterrupt)  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        run(search, 1)
    again = open_here(study_folder)
    assert [trial.state.name for trial in again.study.trials] == ["COMPLETE"]
    assert len(list_trials(again.study)) == 1


def test_a_trial_that_is_worse_than_most_is_given_up_before_its_last_check(
    whole: list[TrialRecord],
) -> None:
    pruned = [trial for trial in whole if trial.state == "pruned"]
    assert pruned
    assert all(trial.validations < CHECKS for trial in pruned)
    best = find_best(whole, "accuracy")
    assert best is not None
    assert best.values["adapter.r"] == 16


def test_settings_that_can_t_be_trained_fail_alone_and_count_as_tried(study_folder: Path) -> None:
    def diverge(settings: Settings) -> Generator[Check, None, None]:
        if settings.adapter.r == 8:
            raise DivergenceError("the loss is nan")
        yield from validate(settings)

    trials = list(iterate_trials(open_here(study_folder), diverge, 8))
    failed = [trial for trial in trials if trial.state == "failed"]
    assert len(trials) == 8
    assert {trial.values["adapter.r"] for trial in failed} == {8}
    assert {trial.reason for trial in failed} == {"the loss is nan"}


def test_a_trial_is_worth_its_best_validation(study_folder: Path) -> None:
    def rise_and_fall(_: Settings) -> Generator[Check, None, None]:
        yield build_check(1, 0.5)
        yield build_check(2, 0.8)
        yield build_check(3, 0.6, is_best=False)

    (trial,) = iterate_trials(open_here(study_folder), rise_and_fall, 1)
    assert trial.score == 0.8
    assert trial.log_loss == pytest.approx(0.2)


def test_a_smaller_loss_is_better(study_folder: Path) -> None:
    trials = run(open_here(study_folder, metric="log_loss"), 5)
    best = find_best(trials, "log_loss")
    scores = [trial.score for trial in trials if trial.state == "finished"]
    assert best is not None
    assert best.score == min(score for score in scores if score is not None)


def test_equal_scores_are_told_apart_by_log_loss_and_states_come_first() -> None:
    def build(number: int, state: str, log_loss: float | None) -> TrialRecord:
        score = None if log_loss is None else 0.9
        return TrialRecord(number, state, {}, score, log_loss, 1, 1.0, None)  # type: ignore[arg-type]

    trials = [build(1, "failed", None), build(2, "pruned", 0.1), build(3, "finished", 0.3),
              build(4, "finished", 0.2)]  # fmt: skip
    assert [trial.number for trial in rank_trials(trials, "accuracy")] == [4, 3, 2, 1]
    assert find_best(trials[:2], "accuracy") is None


def test_the_setting_that_matters_explains_most(study_folder: Path) -> None:
    search = open_here(
        study_folder, "training.learning_rate=1e-4..1e-2:log", "adapter.lora_alpha=8..9"
    )
    assert compute_importances(search.study) == {}
    run(search, 6)
    shares = compute_importances(search.study)
    assert next(iter(shares)) == "training.learning_rate"
    assert sum(shares.values()) == pytest.approx(1)


def test_lists_come_back_from_the_study_as_they_were_tried(study_folder: Path) -> None:
    search = open_here(study_folder, "adapter.target_modules=q_lin,v_lin|k_lin")
    tried = run(search, 3)
    assert describe(list_trials(search.study)) == describe(tried)


def test_a_study_does_not_mix_trials_that_answer_other_questions(study_folder: Path) -> None:
    run(open_here(study_folder, validations=3), 1)
    with pytest.raises(SettingsError, match=r"its ranges are --range adapter.lora_alpha=8\.\.64"):
        open_here(study_folder, "adapter.r=4,8", validations=3)
    with pytest.raises(SettingsError, match=r"it has training.metric_for_best_model 'accuracy'"):
        open_here(study_folder, metric="f1", validations=3)
    with pytest.raises(SettingsError, match=r"it has search.validations 3"):
        open_here(study_folder, validations=4)


def test_a_file_that_is_no_study_is_refused_and_kept(study_folder: Path) -> None:
    (study_folder / "study.db").write_text("my notes " * 100, encoding="utf-8")
    with pytest.raises(OutputError, match=r"not a study that can be read"):
        open_here(study_folder)
    assert (study_folder / "study.db").read_text(encoding="utf-8").startswith("my notes")


def test_a_second_search_on_the_same_study_is_refused(study_folder: Path) -> None:
    path = study_folder / "study.db"
    with (
        locked_study(path),
        pytest.raises(OutputError, match="another search is at work"),
        locked_study(path),
    ):
        pass
    with locked_study(path):
        pass
