"""A saved adapter in a form that other programs run, checked on reviews that are chosen here."""

import contextlib
import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from peft_sentiment.config import PACKAGED_IMDB, DataSettings, Settings
from peft_sentiment.data.checks import find_seen_texts
from peft_sentiment.data.dialect import Dialect
from peft_sentiment.data.files import iterate_rows
from peft_sentiment.data.sources import iterate_text_rows, load_labelled_file, load_reviews
from peft_sentiment.errors import AdapterError, BadRowError, DataError
from peft_sentiment.inference.export import (
    RANGE_REVIEWS,
    CheckReviews,
    ExportLimits,
    export_adapter,
)
from peft_sentiment.inference.loading import load_classifier
from peft_sentiment.model.exported_files import is_export
from peft_sentiment.model.metadata import COMPANION_FILES, load_metadata
from peft_sentiment.model.saved_adapters import load_seen
from peft_sentiment.reporting.export import show_export


@dataclass(frozen=True)
class ExportOptions:
    """What is asked for besides the settings.

    Attributes:
        form: one of `FORMS`.
        output: folder to write.
        reviews: file of the reviews to check on; None for packaged ones.
        check_size: reviews to check on, at most.
        limits: beyond which the check fails.
    """

    form: str
    output: Path
    reviews: Path | None
    check_size: int
    limits: ExportLimits


def export_saved_adapter(
    folder: Path,
    overrides: Mapping[str, Mapping[str, Any]],
    options: ExportOptions,
    console: Console,
) -> None:
    """Export a saved adapter, check the export, and show how near it is to the original.

    Args:
        folder: of the adapter.
        overrides: settings given by hand, such as where the base is.
        options: what else is asked for.
        console: where to show the check.

    Raises:
        AdapterError: the adapter can't be loaded or merged, or has a companion.
        ExportError: it can't be exported, or the export is too far from it.
        DataError: the reviews are missing or malformed.
        OutputError: the folder can't be written.
    """
    settings = Settings().updated(overrides, "command line")
    _require_no_companion(folder, settings)
    label_names = load_metadata(folder).label_names
    reviews = choose_check_reviews(folder, label_names, settings.data, options)
    classifier = load_classifier(folder, overrides)
    record = export_adapter(
        folder, classifier, options.form, options.output, reviews, options.limits, console.status
    )
    show_export(console, record, options.output)


def _require_no_companion(folder: Path, settings: Settings) -> None:
    if is_export(folder):
        raise AdapterError(
            f"{folder}: an exported model, which can't be exported again. Name the adapter."
        )
    has_companion = any((folder / name).exists() for name in COMPANION_FILES)
    if has_companion and settings.evaluation.use_companion:
        raise AdapterError(
            f"{folder}: the adapter speaks together with a companion, whose word counts are no "
            "part of a model file: alone it would say something else. Export the adapter alone, "
            "uncalibrated, with --no-use-companion."
        )


def choose_check_reviews(
    folder: Path, label_names: tuple[str, ...], settings: DataSettings, options: ExportOptions
) -> CheckReviews:
    """Return reviews to compare on that the adapter has not been trained on, as far as is known.

    Raises:
        DataError: the file is missing or malformed, or holds no review that is not known.
    """
    if options.reviews is not None:
        return _load_file(options.reviews, label_names, settings, options.check_size)
    source = load_reviews(DataSettings(dataset_name=PACKAGED_IMDB))
    seen = load_seen(folder)
    barred = set() if seen is None else set(find_seen_texts(source.train.texts, seen).tolist())
    order = np.random.default_rng(0).permutation(len(source.train)).tolist()
    places = [place for place in order if place not in barred]
    places = places[: options.check_size + RANGE_REVIEWS]
    reviews = source.train.take(places)
    return CheckReviews.build(PACKAGED_IMDB, reviews, label_names, options.check_size)


def _load_file(
    path: Path, label_names: tuple[str, ...], settings: DataSettings, size: int
) -> CheckReviews:
    """Read a file with its labels, if it has a column of them and they are the model's."""
    if _has_labels(path, settings):
        with contextlib.suppress(BadRowError):  # what else it may be is told with the texts
            reviews = load_labelled_file(path, settings, label_names).reviews
            return CheckReviews.build(str(path), reviews, label_names, size)
    rows = iterate_text_rows(path, settings)
    texts = [text for _, text in itertools.islice(rows, size + RANGE_REVIEWS)]
    if not texts:
        raise DataError(f"{path}: there is no review to check on. Name another file.")
    return CheckReviews(str(path), texts[:size], None, texts[size:])


def _has_labels(path: Path, settings: DataSettings) -> bool:
    try:
        next(iterate_rows(path, [settings.label_column], dialect=Dialect.of(settings)))
    except DataError:
        return False  # What else may be wrong with the file is told when its texts are read.
    return True
