"""Label new texts with a saved adapter; apart, so that a single text need not wait for the rest."""

import csv
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from peft_sentiment.config import EvaluationSettings
from peft_sentiment.errors import OutputError, SettingsError
from peft_sentiment.evaluation.thresholds import choose_threshold, decide_labels
from peft_sentiment.files import replacing_file
from peft_sentiment.inference.arguments import PARAMETERS
from peft_sentiment.inference.classifier import SentimentClassifier
from peft_sentiment.records import Predictions
from peft_sentiment.reporting.console import show_predictions

Row = dict[str, Any]
"""One review with what is said of it, a value per column."""


def load_classifier(
    folder: Path, overrides: Mapping[str, Mapping[str, Any]]
) -> SentimentClassifier:
    """Load a saved adapter with the settings of model and scoring that were given by hand.

    Raises:
        AdapterError: the adapter can't be loaded.
        SettingsError: a threshold is asked for, and the adapter can't tell any.
    """
    given = overrides.get("evaluation", {})
    names = [name for name in given if name in PARAMETERS]
    chosen = {**overrides.get("model", {}), **overrides.get("training", {})}
    classifier = SentimentClassifier.load(folder, **chosen, **{name: given[name] for name in names})
    set_threshold(classifier, EvaluationSettings(**given), str(folder))
    return classifier


def set_threshold(
    classifier: SentimentClassifier, settings: EvaluationSettings, where: str
) -> None:
    """Give a trained classifier the threshold that the settings ask for, if they ask for one.

    Raises:
        SettingsError: it has no calibration to choose one from, or none has the precision.
    """
    if settings.min_precision is None and settings.undecided_share is None:
        return
    if classifier.calibration_ is None:
        raise SettingsError(
            f"{where}: there were no validation reviews, so no threshold can be chosen. Leave out "
            "--min-precision and --undecided-share, or train with a --validation-size above 0."
        )
    classifier.calibration_ = choose_threshold(classifier.calibration_, settings)


def predict_texts(
    folder: Path,
    texts: Sequence[str],
    overrides: Mapping[str, Mapping[str, Any]],
    console: Console,
    output: Path | None,
) -> None:
    """Label texts, and show the labels or write them to a file.

    Args:
        folder: of the adapter.
        texts: at least one.
        overrides: settings of model and scoring given by hand.
        console: where to show the labels, if there is no output file.
        output: CSV, TSV, JSONL or Parquet file, by its ending.

    Raises:
        OutputError: the output file's ending is unknown, or it can't be written.
    """
    if output is not None:
        require_output_format(output)
    classifier = load_classifier(folder, overrides)
    predictions = classifier.predict_reviews(texts)
    labels = decide_labels(predictions, classifier.calibration_)
    if output is None:
        show_predictions(console, texts, labels, predictions)
    else:
        write_predictions(output, texts, labels, predictions)
        console.print(f"{len(texts):,} reviews: {output}", markup=False, highlight=False)


def require_output_format(path: Path) -> None:
    """Check that predictions can be written to a file of this ending.

    Raises:
        OutputError: they can't.
    """
    if path.suffix.lower() not in WRITERS:
        raise OutputError(
            f"{path}: the ending is {path.suffix or 'missing'}, but must be one of: "
            f"{', '.join(WRITERS)}. Change it."
        )


def write_predictions(
    path: Path, texts: Sequence[str], labels: Sequence[str], predictions: Predictions
) -> None:
    """Write a row per text: the text, its label, the label's probability, and each label's.

    Raises:
        OutputError: the file can't be written, or its ending is unknown.
    """
    require_output_format(path)
    rows = list(build_rows(texts, labels, predictions))
    with replacing_file(path) as draft:
        WRITERS[path.suffix.lower()](draft, rows)


def build_rows(
    texts: Sequence[str], labels: Sequence[str], predictions: Predictions
) -> Iterable[Row]:
    """Yield a row per text."""
    columns = [f"probability_{name}" for name in predictions.label_names]
    for text, label, row in zip(texts, labels, predictions.probabilities, strict=True):
        probabilities = dict(zip(columns, row.tolist(), strict=True))
        yield {"text": text, "label": label, "confidence": float(row.max()), **probabilities}


def _write_delimited(path: Path, rows: list[Row], delimiter: str) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)


def _write_json_lines(path: Path, rows: list[Row]) -> None:
    lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_text("".join(lines), encoding="utf-8")


def _write_parquet(path: Path, rows: list[Row]) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    parquet.write_table(pa.Table.from_pylist(rows), path)


WRITERS: dict[str, Callable[[Path, list[Row]], None]] = {
    ".csv": lambda path, rows: _write_delimited(path, rows, ","),
    ".tsv": lambda path, rows: _write_delimited(path, rows, "\t"),
    ".jsonl": _write_json_lines,
    ".parquet": _write_parquet,
}
"""File ending -> what writes such a file."""
