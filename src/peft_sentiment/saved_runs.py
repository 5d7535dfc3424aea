"""What is done with what runs have saved: evaluate an adapter, compare runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from peft_sentiment.config import EvaluationSettings, Settings
from peft_sentiment.data.bad_rows import BadRows
from peft_sentiment.data.checks import find_seen_texts
from peft_sentiment.data.columns import shorten
from peft_sentiment.data.sources import load_labelled_file, load_reviews
from peft_sentiment.data.split import draw_unseen_reviews
from peft_sentiment.errors import DataError, SettingsError
from peft_sentiment.evaluation.comparison import compare_predictions
from peft_sentiment.evaluation.metrics import compute_scores
from peft_sentiment.evaluation.pairs import compare_pairs
from peft_sentiment.evaluation.storage import (
    PREDICTIONS_FOLDER,
    RESULTS_FILE,
    load_predictions,
    save_predictions,
)
from peft_sentiment.evaluation.thresholds import measure_calibration
from peft_sentiment.inference.loading import load_classifier
from peft_sentiment.model.metadata import load_metadata
from peft_sentiment.model.saved_adapters import load_seen
from peft_sentiment.records import Predictions, Results, Scores, load_results
from peft_sentiment.records.reviews import Reviews
from peft_sentiment.reporting.calibration import show_calibration
from peft_sentiment.reporting.comparison import show_comparison, show_confusion, show_models
from peft_sentiment.reporting.console import show_scores
from peft_sentiment.reporting.pairs import show_pairs
from peft_sentiment.reporting.skipped import show_dropped
from peft_sentiment.skipping import report_skipped


def evaluate_adapter(
    folder: Path,
    overrides: Mapping[str, Mapping[str, Any]],
    console: Console,
    output: Path | None,
) -> Scores:
    """Score a saved adapter on reviews it has not been trained on, and show how well.

    Args:
        folder: of the adapter.
        overrides: settings that differ from those of its training: other data or a test file,
            another number of reviews, another device.
        console: where to show the scores.
        output: Parquet file for the predictions, if any.

    Raises:
        DataError: the reviews are missing or malformed, or the adapter has seen them.
        AdapterError: the adapter can't be loaded.
    """
    classifier = load_classifier(folder, overrides)
    bad = BadRows(overrides.get("data", {}).get("skip_bad_rows", False))
    reviews, dropped = choose_test_reviews(
        load_past(folder), overrides, classifier.label_names, bad
    )
    report_skipped(console, bad.found, output)
    show_dropped(console, dropped)
    with console.status(f"Scoring {len(reviews):,} reviews"):
        predictions = classifier.predict_reviews(reviews.texts)
    settings = EvaluationSettings(**overrides.get("evaluation", {}))
    scores = compute_scores(reviews.labels, predictions, settings.confidence_level)
    who = f"{folder} with its companion" if classifier.has_companion else str(folder)
    show_scores(console, f"{who} on {len(reviews):,} reviews", scores)
    show_confusion(console, scores, classifier.label_names)
    calibration, rng = classifier.calibration_, np.random.default_rng(0)
    show_calibration(
        console, measure_calibration(reviews.labels, predictions, calibration, settings, rng)
    )
    if output is not None:
        save_predictions(output, reviews, predictions)
    return scores


@dataclass(frozen=True)
class Past:
    """What a saved adapter knows of its training.

    Attributes:
        settings: of the run.
        seen: fingerprints of the reviews it was trained and validated on.
    """

    settings: Settings
    seen: NDArray[np.uint64]


def load_past(folder: Path) -> Past | None:
    """Read what an adapter knows of its training; one from `SentimentClassifier.fit` knows nothing.

    Raises:
        AdapterError: the adapter is not whole.
    """
    trained_with, seen = load_metadata(folder).trained_with, load_seen(folder)
    if trained_with is None or seen is None:
        return None
    return Past(Settings().updated(trained_with, str(folder)), seen)


def choose_test_reviews(
    past: Past | None,
    overrides: Mapping[str, Mapping[str, Any]],
    label_names: Sequence[str],
    bad: BadRows | None = None,
) -> tuple[Reviews, int]:
    """Return reviews that a training has not seen, and how many were left out as duplicates.

    They come from the test file or data set named in the overrides or, by default, from what the
    training left of its own data. `bad` meets the rows of a test file that can't be used.

    Raises:
        DataError: the adapter was trained on some of them, or they are malformed.
        SettingsError: nothing is known of the training, and no data are named.
    """
    given = overrides.get("data", {})
    asked = Settings().updated({"data": given}, "command line").data
    if asked.test_file is not None:
        name = asked.test_file
        file = load_labelled_file(Path(name), asked, label_names, bad)
        reviews, dropped = file.reviews, file.duplicates_removed
    elif "dataset_name" in given and not _is_own_data(past, asked.dataset_name):
        source = load_reviews(asked)
        name, reviews = source.name, source.train if source.test is None else source.test
        dropped = source.duplicates_removed
    else:
        return _draw_unseen(past, given.get("test_size")), 0
    seed = Settings().training.seed if past is None else past.settings.training.seed
    chosen = _draw(reviews, given.get("test_size", "full"), seed)
    if past is not None:
        _require_unseen(chosen, past, name)
    return chosen, dropped


def _is_own_data(past: Past | None, dataset_name: str) -> bool:
    """Tell whether an adapter was trained on this data set."""
    if past is None or past.settings.data.train_file is not None:
        return False
    return past.settings.data.dataset_name == dataset_name


def _draw_unseen(past: Past | None, size: int | str | None) -> Reviews:
    if past is None:
        raise SettingsError(
            "This adapter does not say what it was trained on. "
            "Name reviews to score with --test-file or --dataset-name."
        )
    data = past.settings.data
    wanted = data.test_size if size is None else size
    return draw_unseen_reviews(load_reviews(data), past.settings, past.seen, wanted)


def _draw(reviews: Reviews, size: int | str, seed: int) -> Reviews:
    """Return so many of the reviews, by chance: a file may be sorted by label."""
    if size in ("full", "auto"):
        return reviews
    if int(size) > len(reviews):
        raise DataError(
            f"{int(size):,} test reviews are asked for, but there are {len(reviews):,}. "
            "Lower --test-size, or leave it out to take all."
        )
    return reviews.take(np.random.default_rng(seed).permutation(len(reviews))[: int(size)])


def _require_unseen(reviews: Reviews, past: Past, name: str) -> None:
    places = find_seen_texts(reviews.texts, past.seen)
    if len(places):
        first = shorten(reviews.texts[int(places[0])])
        raise DataError(
            f"{name}: {len(places)} of the {len(reviews)} reviews to score were used to train this "
            f"adapter, {first} among them, so the score would flatter it. Remove them."
        )


def compare_runs(folders: Sequence[Path], console: Console, settings: EvaluationSettings) -> None:
    """Show a finished run's own comparison or, for several, their PEFT models in pairs.

    Raises:
        OutputError: a folder holds no finished run.
        DataError: the runs were tested on different reviews.
        SettingsError: a folder is named twice.
    """
    results = [load_results(folder / RESULTS_FILE) for folder in folders]
    if len(folders) == 1:
        _show_own_comparison(results[0], console)
    else:
        _show_against_each_other(folders, console, settings)


def _show_own_comparison(results: Results, console: Console) -> None:
    level = results.settings["evaluation"]["confidence_level"]
    show_comparison(console, results.models, results.improvement, level)
    show_pairs(console, results.comparisons, level)
    show_confusion(console, results.models["peft"], results.data.label_names)
    show_calibration(console, results.calibration)


def _show_against_each_other(
    folders: Sequence[Path], console: Console, settings: EvaluationSettings
) -> None:
    labels, predictions = load_adapted_predictions(folders)
    level = settings.confidence_level
    models = {name: compute_scores(labels, said, level) for name, said in predictions.items()}
    rng = np.random.default_rng(0)
    if len(folders) == 2:
        first, second = predictions
        improvement = compare_predictions(
            labels, predictions[first], predictions[second], settings, rng
        )
        show_comparison(console, models, improvement, level, (first, second))
    else:
        show_models(console, models)
    show_pairs(console, compare_pairs(labels, predictions, settings, rng), level)


def load_adapted_predictions(
    folders: Sequence[Path],
) -> tuple[Sequence[str], dict[str, Predictions]]:
    """Return the labels of runs' common test reviews, and folder -> its PEFT model's predictions.

    Raises:
        OutputError: a folder holds no predictions.
        DataError: the runs were tested on different reviews.
        SettingsError: a folder is named twice.
    """
    first = folders[0]
    loaded = {
        str(run): load_predictions(run / PREDICTIONS_FOLDER / "peft.parquet") for run in folders
    }
    if len({run.resolve() for run in folders}) < len(folders):
        raise SettingsError("A run is named twice. Name each folder once.")
    reviews, _ = loaded[str(first)]
    for run, (others, _) in loaded.items():
        if (others.texts, others.labels) != (reviews.texts, reviews.labels):
            raise DataError(
                f"{first} and {run} were tested on different reviews, so they can't be compared. "
                "Run both with the same data, --test-size and --seed."
            )
    return reviews.labels, {run: predictions for run, (_, predictions) in loaded.items()}
