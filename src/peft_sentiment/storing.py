"""What a run leaves on disk: its places, checked beforehand, and the order of writing."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import tomli_w

from peft_sentiment.config import Settings
from peft_sentiment.data.bad_rows import SKIPPED_FILE, write_skipped_rows
from peft_sentiment.data.checks import fingerprint_texts
from peft_sentiment.errors import OutputError, SettingsError
from peft_sentiment.evaluation.storage import PREDICTIONS_FOLDER, RESULTS_FILE, save_predictions
from peft_sentiment.files import require_writable_folder, write_text
from peft_sentiment.foundation import Foundation
from peft_sentiment.insight import store_insight
from peft_sentiment.model.saved_adapters import require_replaceable
from peft_sentiment.records import (
    ParameterCounts,
    Predictions,
    Results,
    TrainingRecord,
    render_json,
)
from peft_sentiment.reporting.run_files import REPORT_FILE, SETTINGS_FILE, STEPS_FILE
from peft_sentiment.streamed import hold_reviews
from peft_sentiment.training.checkpoints import render_events
from peft_sentiment.training.fit import Event
from peft_sentiment.unfinished import make_paths_absolute


@dataclass(frozen=True)
class Training:
    """A finished training."""

    parameters: ParameterCounts
    record: TrainingRecord
    events: list[Event] = field(repr=False)


def require_outputs(settings: Settings) -> None:
    """Check that the results can be stored, before time is spent on them.

    Raises:
        OutputError: a folder can't be written to, or holds something that is not ours.
        SettingsError: a threshold is asked for, and there is nothing to choose it on.
    """
    output, evaluation = settings.output, settings.evaluation
    has_threshold = evaluation.min_precision is not None or evaluation.undecided_share is not None
    if has_threshold and settings.data.validation_size == 0:
        raise SettingsError(
            "data.validation_size is 0, but a threshold for undecided reviews is chosen on "
            "validation reviews. Raise it, or leave out --min-precision and --undecided-share."
        )
    adapter_dir = Path(output.adapter_dir)
    require_replaceable(adapter_dir)
    if Path(output.output_dir).resolve().is_relative_to(adapter_dir.resolve()):
        raise OutputError(
            f"{adapter_dir}: the adapter would replace the results in {output.output_dir}. "
            "Name a folder of its own with --adapter-dir."
        )
    is_full = adapter_dir.is_dir() and any(adapter_dir.iterdir())
    if is_full and not output.overwrite_adapter_dir:
        raise OutputError(
            f"{adapter_dir}: there is an adapter already. Name another folder with "
            "--adapter-dir, or allow to replace it with --overwrite-adapter-dir."
        )
    require_writable_folder(adapter_dir.resolve().parent, "--adapter-dir")
    require_writable_folder(Path(output.output_dir), "--output-dir")


def store_run(
    settings: Settings,
    foundation: Foundation,
    training: Training,
    predictions: dict[str, Predictions],
    results: Results,
) -> None:
    """Store everything; results.json comes last, so all the other files belong to it."""
    folder = Path(settings.output.output_dir)
    store_training(settings, foundation, training)
    for name, of_model in predictions.items():
        path = folder / PREDICTIONS_FOLDER / f"{name}.parquet"
        save_predictions(path, foundation.splits.test, of_model)
    held = hold_reviews(foundation.splits, settings.training.seed)
    store_insight(folder, held, predictions, foundation.classifier, settings.evaluation)
    write_text(folder / RESULTS_FILE, render_json(results))


def store_training(settings: Settings, foundation: Foundation, training: Training) -> None:
    """Store the adapter, the settings, and a line for each step and validation.

    Earlier results and their report go as soon as the adapter that they speak of has been replaced.
    """
    folder = Path(settings.output.output_dir)
    parts = (foundation.lessons.reviews, foundation.splits.validation)
    seen = np.concatenate([fingerprint_texts(part.texts) for part in parts])
    anywhere = make_paths_absolute(settings)
    foundation.classifier.save(settings.output.adapter_dir, anywhere, seen)
    for name in (RESULTS_FILE, REPORT_FILE, SKIPPED_FILE):
        (folder / name).unlink(missing_ok=True)
    if foundation.splits.skipped:
        write_skipped_rows(folder / SKIPPED_FILE, foundation.splits.skipped)
    write_text(folder / SETTINGS_FILE, tomli_w.dumps(anywhere.as_tables()))
    write_text(folder / STEPS_FILE, render_events(training.events))
