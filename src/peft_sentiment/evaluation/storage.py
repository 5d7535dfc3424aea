"""One model's predictions on disk, a row per review, as Parquet that any data tool reads.

Columns: index, text, label, predicted, tokens, is_cut, and probability_<label name> per label.
The schema's metadata holds `label_names` (JSON, in the order of the probabilities), `seconds` and
`temperature`.
"""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from peft_sentiment.errors import OutputError
from peft_sentiment.files import replacing_file
from peft_sentiment.records import Predictions
from peft_sentiment.records.reviews import Reviews

RESULTS_FILE = "results.json"
PREDICTIONS_FOLDER = "predictions"
"""Where a run's output folder has its figures, and its models' predictions."""


def save_predictions(path: Path, reviews: Reviews, predictions: Predictions) -> None:
    """Write reviews and what a model says of them, in the data's order.

    Args:
        path: the file; folders that are missing are made.
        reviews: N reviews.
        predictions: the model's probabilities for them, in the same order.

    Raises:
        OutputError: the file can't be written; what stood in its place is unchanged.
        ValueError: there are not as many reviews as predictions.
    """
    if len(reviews) != len(predictions.probabilities):
        raise ValueError(f"{len(reviews)} reviews, {len(predictions.probabilities)} predictions")
    try:
        table = _build_table(reviews, predictions)
    except UnicodeEncodeError as error:
        raise OutputError(
            f"{path}: a review can't be written as UTF-8 ({error.reason}: {error.object[:40]!a}). "
            "Correct that review in the data."
        ) from error
    with replacing_file(path) as draft:
        parquet.write_table(table, draft, compression="zstd")


def load_predictions(path: Path) -> tuple[Reviews, Predictions]:
    """Read what `save_predictions` wrote.

    Raises:
        OutputError: the file is missing, damaged, or of another kind.
    """
    try:
        # Not parquet.read_table, which takes folders named like year=2024 for columns.
        with parquet.ParquetFile(path) as file:
            return _read_table(file.read())
    except FileNotFoundError:
        raise OutputError(
            f"{path}: no such file, so no predictions are stored here. "
            "Make them with: peft-sentiment run --output-dir FOLDER."
        ) from None
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
        raise OutputError(
            f"{path}: not predictions that this version wrote ({error}). Run again."
        ) from error


def _build_table(reviews: Reviews, predictions: Predictions) -> pa.Table:
    columns = {
        "index": pa.array(range(len(reviews)), pa.int64()),
        "text": pa.array(reviews.texts, pa.string()),
        "label": pa.array(reviews.labels, pa.string()),
        "predicted": pa.array(predictions.labels, pa.string()),
        "tokens": pa.array(predictions.tokens, pa.int32()),
        "is_cut": pa.array(predictions.is_cut, pa.bool_()),
    }
    for name, column in zip(predictions.label_names, predictions.probabilities.T, strict=True):
        columns[_name_column(name)] = pa.array(column, pa.float32())
    metadata = {
        "label_names": json.dumps(predictions.label_names),
        "seconds": json.dumps(predictions.seconds),
        "temperature": json.dumps(predictions.temperature),
    }
    return pa.table(columns).replace_schema_metadata(metadata)


def _read_table(table: pa.Table) -> tuple[Reviews, Predictions]:
    metadata = table.schema.metadata or {}
    label_names = tuple(json.loads(metadata[b"label_names"]))
    columns = [table[_name_column(name)].to_numpy() for name in label_names]
    predictions = Predictions(
        label_names=label_names,
        probabilities=np.column_stack(columns).astype(np.float32),
        tokens=table["tokens"].to_numpy().astype(np.int32),
        is_cut=table["is_cut"].to_numpy().astype(np.bool_),
        seconds=json.loads(metadata[b"seconds"]),
        temperature=json.loads(metadata.get(b"temperature", b"1.0")),
    )
    return Reviews(table["text"].to_pylist(), table["label"].to_pylist()), predictions


def _name_column(label_name: str) -> str:
    return f"probability_{label_name}"
