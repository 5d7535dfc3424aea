"""`search`: try settings within ranges, and write down the best as a settings file."""

from collections.abc import Sequence
from pathlib import Path

import tomli_w
from rich.console import Console

from peft_sentiment.config import Settings
from peft_sentiment.errors import InterruptionError, SettingsError
from peft_sentiment.experiments.workbench import Workbench, load_workbench
from peft_sentiment.files import require_writable_folder, write_text
from peft_sentiment.records import render_json
from peft_sentiment.reporting.experiment_pictures import save_search_picture
from peft_sentiment.reporting.experiments import show_search, show_search_start, show_trial
from peft_sentiment.training.search import (
    Search,
    compute_importances,
    iterate_trials,
    list_trials,
    locked_study,
    open_search,
    require_optuna,
)
from peft_sentiment.training.search_ranges import SearchRange, build_tables
from peft_sentiment.training.trials import SCHEMA_VERSION, SearchRecord, TrialRecord, find_best
from peft_sentiment.unfinished import make_paths_absolute

SEARCH_FOLDER = "search"
STUDY_FILE = "study.db"
RECORD_FILE = "search.json"
BEST_FILE = "best.toml"
PICTURE = "search"


def run_search(
    settings: Settings,
    ranges: Sequence[SearchRange],
    trials: int,
    validations: int,
    console: Console,
) -> SearchRecord:
    """Search until the study has so many trials; show the best and store all.

    Args:
        settings: what all trials share; the study lies in its output folder.
        ranges: what may vary.
        trials: that the study is to have, those of earlier searches in this folder among them.
        validations: of each trial, after each of which it may be given up.
        console: where to show it.

    Raises:
        SettingsError: Optuna is missing, the study asks something else, or no trial succeeded.
        InterruptionError: by Ctrl-C; what is finished is kept.
    """
    require_optuna()
    folder = Path(settings.output.output_dir) / SEARCH_FOLDER
    require_writable_folder(folder, "--output-dir")
    with locked_study(folder / STUDY_FILE):
        workbench = load_workbench(settings, validations)
        conditions = {"validations": validations, "data": workbench.source.sha256}
        search = open_search(folder / STUDY_FILE, ranges, settings, conditions)
        try_settings(search, workbench, trials, console)
        return report_search(search, workbench, folder, console)


def try_settings(search: Search, workbench: Workbench, trials: int, console: Console) -> None:
    """Run the trials that a study lacks, and show each.

    Raises:
        InterruptionError: by Ctrl-C.
    """
    metric = search.settings.training.metric_for_best_model
    tried = list_trials(search.study)
    train, validation = workbench.split(search.settings.data)
    show_search_start(console, len(tried), trials, len(train), len(validation))
    try:
        with console.status(f"Trial {len(tried) + 1} of {trials}") as status:
            for trial in iterate_trials(search, workbench.validate, trials):
                tried.append(trial)
                show_trial(console, trial, trials, metric, find_best(tried, metric))
                status.update(f"Trial {trial.number + 1} of {trials}")
    except KeyboardInterrupt:
        raise InterruptionError(
            f"Stopped; {len(tried)} of {trials} trials are kept. The same command goes on with "
            "the others."
        ) from None


def report_search(
    search: Search, workbench: Workbench, folder: Path, console: Console
) -> SearchRecord:
    """Store a search as record, settings file and picture, and show it.

    Raises:
        SettingsError: no trial succeeded.
    """
    record = build_search_record(search)
    write_text(folder / RECORD_FILE, render_json(record))
    if record.best is None:
        reasons = [trial.reason for trial in record.trials if trial.reason]
        why = f"the last one says: {reasons[-1]}" if reasons else "all were given up"
        raise SettingsError(f"None of the {len(record.trials)} trials was finished; {why}")
    best = record.trials[record.best - 1]
    write_text(folder / BEST_FILE, render_best(search.settings, best, workbench, record))
    pictures = save_search_picture(record, folder / PICTURE)
    show_search(console, record, [folder / BEST_FILE, folder / RECORD_FILE, *pictures])
    return record


def build_search_record(search: Search) -> SearchRecord:
    """Make the record of a search as it stands."""
    metric = search.settings.training.metric_for_best_model
    trials = tuple(list_trials(search.study))
    best = find_best(trials, metric)
    return SearchRecord(
        schema_version=SCHEMA_VERSION,
        metric=metric,
        ranges=tuple(item.text for item in search.ranges),
        settings=search.settings.as_tables(),
        trials=trials,
        best=None if best is None else best.number,
        importances=compute_importances(search.study),
    )


def render_best(
    settings: Settings, best: TrialRecord, workbench: Workbench, record: SearchRecord
) -> str:
    """Return the best settings as a file for `run --config`, which gives the same model."""
    chosen = workbench.complete(settings.updated(build_tables(best.values), "search"))
    tables = make_paths_absolute(chosen).as_tables()
    del tables["output"]
    _, validation = workbench.split(settings.data)
    found = (
        f"# The best of {len(record.trials)} trials of a search: number {best.number}, with "
        f"{record.metric} {best.score:.4f}\n# on {len(validation):,} validation reviews, which "
        "flatters it: it was chosen by them. The test reviews are untouched.\n"
    )
    return found + tomli_w.dumps(tables)
