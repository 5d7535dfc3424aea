"""What a finished run has left on disk, read back as records."""

import json
from dataclasses import dataclass
from pathlib import Path

from peft_sentiment.errors import OutputError
from peft_sentiment.evaluation.storage import PREDICTIONS_FOLDER, RESULTS_FILE, load_predictions
from peft_sentiment.records import Predictions, Results, StepRecord, build_record, load_results
from peft_sentiment.records.explanation import Explanation, ExplanationsRecord
from peft_sentiment.records.reviews import Reviews

STEPS_FILE = "steps.jsonl"
SETTINGS_FILE = "settings.toml"
REPORT_FILE = "report.html"
EXPLANATIONS_FILE = "explanations.json"


@dataclass(frozen=True)
class StoredRun:
    """A finished run.

    Attributes:
        folder: where it is stored.
        steps: every optimizer step; empty where they are not stored.
        reviews: the test reviews, or None where no predictions are stored.
        predictions: name of a model in the results -> its predictions, those that are stored.
        settings_toml: the settings as they can be given to a run.
        explanations: of some test reviews, where the run has made any.
    """

    folder: Path
    results: Results
    steps: tuple[StepRecord, ...]
    reviews: Reviews | None
    predictions: dict[str, Predictions]
    settings_toml: str
    explanations: tuple[Explanation, ...] = ()


def load_run(folder: Path) -> StoredRun:
    """Read a run's folder; what is missing beside its results is left out.

    Raises:
        OutputError: there are no results, or a file is damaged.
    """
    results = load_results(folder / RESULTS_FILE)
    paths = {name: folder / PREDICTIONS_FOLDER / f"{name}.parquet" for name in results.models}
    stored = {name: load_predictions(path) for name, path in paths.items() if path.exists()}
    texts = [(reviews.texts, reviews.labels) for reviews, _ in stored.values()]
    if any(other != texts[0] for other in texts[1:]):
        raise OutputError(
            f"{folder / PREDICTIONS_FOLDER}: the files are of different reviews, so of more than "
            "one run. Run again."
        )
    return StoredRun(
        folder=folder,
        results=results,
        steps=_load_steps(folder / STEPS_FILE),
        reviews=next((reviews for reviews, _ in stored.values()), None),
        predictions={name: predictions for name, (_, predictions) in stored.items()},
        settings_toml=_read(folder / SETTINGS_FILE),
        explanations=_load_explanations(folder / EXPLANATIONS_FILE),
    )


def _load_steps(path: Path) -> tuple[StepRecord, ...]:
    try:
        # Not splitlines, which takes signs inside a JSON text for line ends.
        rows = [json.loads(line) for line in _read(path).split("\n") if line]
        return tuple(
            build_record(StepRecord, row) for row in rows if row["kind"] == StepRecord.__name__
        )
    except (ValueError, KeyError, TypeError) as error:
        raise OutputError(
            f"{path}: not the steps that this version wrote ({error!r}). Run again."
        ) from error


def _load_explanations(path: Path) -> tuple[Explanation, ...]:
    text = _read(path)
    try:
        record = build_record(ExplanationsRecord, json.loads(text)) if text else None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise OutputError(
            f"{path}: not the explanations that this version wrote ({error!r}). Run again."
        ) from error
    return () if record is None else tuple(record.explanations)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8") if path.exists() else ""
    except (OSError, UnicodeDecodeError) as error:
        raise OutputError(f"{path}: can't be read ({error}). Run again.") from error
