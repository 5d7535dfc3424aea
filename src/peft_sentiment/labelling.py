"""Label new texts with a saved adapter; apart, so that a single text need not wait for the rest."""

import csv
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from peft_sentiment.errors import OutputError
from peft_sentiment.evaluation.decisions import decide_labels
from peft_sentiment.files import replacing_file
from peft_sentiment.inference.loading import load_classifier, load_labeller
from peft_sentiment.records import Predictions
from peft_sentiment.reporting.console import show_predictions
from peft_sentiment.reporting.explanation import show_explanations

Row = dict[str, Any]
"""One review with what is said of it, a value per column."""

Labelled = tuple[Sequence[str], Sequence[str], Predictions]
"""Texts, what to call each, and what the model says of them."""

CHUNK = 2000
"""Texts that are scored together: enough to make batches of like length, and few enough that a
file of any size is labelled in constant memory."""


def predict_texts(
    folder: Path,
    texts: Iterable[str],
    overrides: Mapping[str, Mapping[str, Any]],
    console: Console,
    output: Path | None,
) -> None:
    """Label texts, and show the labels or write them to a file, in memory that does not grow.

    Args:
        folder: of the adapter.
        texts: at least one.
        overrides: settings of model and scoring given by hand.
        console: where to show the labels, if there is no output file.
        output: CSV, TSV, JSONL or Parquet file, by its ending.

    Raises:
        DataError: a text is missing or malformed; there is no output file then.
        OutputError: the output file's ending is unknown, or it can't be written.
    """
    if output is not None:
        require_output_format(output)
    labelled = label_chunks(folder, texts, overrides)
    if output is None:
        for chunk in labelled:
            show_predictions(console, *chunk)
        return
    with console.status("Labelling") as status:
        count = write_predictions(
            output, labelled, lambda done: status.update(f"{done:,} reviews labelled")
        )
    console.print(f"{count:,} reviews: {output}", markup=False, highlight=False)


def explain_texts(
    folder: Path,
    texts: Iterable[str],
    overrides: Mapping[str, Mapping[str, Any]],
    console: Console,
) -> None:
    """Label texts one by one, and show which words spoke for each label.

    Raises:
        SettingsError: Captum is not installed.
        DataError: a text is missing or malformed.
    """
    classifier = load_classifier(folder, overrides)
    for text in texts:
        show_explanations(console, classifier.explain([text]))


def label_chunks(
    folder: Path, texts: Iterable[str], overrides: Mapping[str, Mapping[str, Any]]
) -> Iterator[Labelled]:
    """Yield the texts chunk by chunk with what a saved adapter says of them.

    The first chunk is read before the model is loaded, so that a mistake in it is told at once.
    """
    rest = iter(texts)
    chunk = list(itertools.islice(rest, CHUNK))
    classifier = load_labeller(folder, overrides)
    while chunk:
        predictions = classifier.predict_reviews(chunk)
        yield chunk, decide_labels(predictions, classifier.calibration_), predictions
        chunk = list(itertools.islice(rest, CHUNK))


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
    path: Path, labelled: Iterable[Labelled], report: Callable[[int], None] = lambda _: None
) -> int:
    """Write a row per text: the text, its label, the label's probability, and each label's.

    Args:
        path: replaced as a whole, once all has been written.
        labelled: at least one chunk of texts and predictions.
        report: is told the number of rows so far, after each chunk.

    Returns:
        The number of rows.

    Raises:
        OutputError: the file can't be written, or its ending is unknown.
    """
    require_output_format(path)
    count = 0

    def iterate_rows() -> Iterator[list[Row]]:
        nonlocal count
        for texts, labels, predictions in labelled:
            yield list(build_rows(texts, labels, predictions))
            count += len(texts)
            report(count)

    with replacing_file(path) as draft:
        WRITERS[path.suffix.lower()](draft, iterate_rows())
    return count


def build_rows(
    texts: Sequence[str], labels: Sequence[str], predictions: Predictions
) -> Iterable[Row]:
    """Yield a row per text."""
    columns = [f"probability_{name}" for name in predictions.label_names]
    for text, label, row in zip(texts, labels, predictions.probabilities, strict=True):
        probabilities = dict(zip(columns, row.tolist(), strict=True))
        yield {"text": text, "label": label, "confidence": float(row.max()), **probabilities}


def _write_delimited(path: Path, chunks: Iterator[list[Row]], delimiter: str) -> None:
    rows = itertools.chain.from_iterable(chunks)
    first = next(rows)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(first), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(itertools.chain([first], rows))


def _write_json_lines(path: Path, chunks: Iterator[list[Row]]) -> None:
    with path.open("w", encoding="utf-8") as file:
        for row in itertools.chain.from_iterable(chunks):
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def _write_parquet(path: Path, chunks: Iterator[list[Row]]) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    first = pa.Table.from_pylist(next(chunks))
    with parquet.ParquetWriter(path, first.schema) as writer:
        writer.write_table(first)
        for rows in chunks:
            writer.write_table(pa.Table.from_pylist(rows, first.schema))


WRITERS: dict[str, Callable[[Path, Iterator[list[Row]]], None]] = {
    ".csv": lambda path, chunks: _write_delimited(path, chunks, ","),
    ".tsv": lambda path, chunks: _write_delimited(path, chunks, "\t"),
    ".jsonl": _write_json_lines,
    ".parquet": _write_parquet,
}
"""File ending -> what writes such a file."""
