"""One cell in a process of its own, so that its peak of memory is its own.

Run as `python -m peft_sentiment.experiments.cell_process FOLDER`, where FOLDER holds the request.
"""

import sys
import tempfile
import time
import typing
from pathlib import Path

import numpy as np
import torch
from peft import PeftModel
from rich.console import Console

from peft_sentiment.config import Settings
from peft_sentiment.data.sources import load_reviews
from peft_sentiment.data.split import split_reviews
from peft_sentiment.errors import PeftSentimentError
from peft_sentiment.evaluation.method_comparison import (
    SCHEMA_VERSION,
    CellFailure,
    CellRecord,
    ReloadRecord,
)
from peft_sentiment.evaluation.metrics import compute_scores
from peft_sentiment.evaluation.storage import save_predictions
from peft_sentiment.experiments.cells import (
    PREDICTIONS_FILE,
    Cell,
    load_request,
    save_cell,
    save_failure,
)
from peft_sentiment.foundation import describe_data
from peft_sentiment.inference.classifier import SentimentClassifier
from peft_sentiment.inference.environment import describe_environment
from peft_sentiment.model.adapters import count_parameters
from peft_sentiment.model.memory import measure_peak_rss
from peft_sentiment.model.metadata import SEEN_FILE
from peft_sentiment.records import Predictions, TrainingRecord, ValidationRecord
from peft_sentiment.records.reviews import Reviews, Splits
from peft_sentiment.reporting.console import show_validation
from peft_sentiment.reporting.progress import TrainingProgress
from peft_sentiment.training.fit import Event, summarize_training


def main(folder: Path) -> int:
    """Compute a cell; return 0, or the exit code of the error that it has written down."""
    cell = load_request(folder)
    try:
        run_cell(cell, folder, Console(highlight=False))
    except PeftSentimentError as error:
        save_failure(CellFailure(cell.name, cell.seed, type(error).__name__, str(error)), folder)
        return error.exit_code
    return 0


def run_cell(cell: Cell, folder: Path, console: Console) -> None:
    """Train, score, save, load and score again; write the figures last."""
    start, settings = time.perf_counter(), cell.settings
    splits = split_reviews(load_reviews(settings.data), settings.data, cell.split_seed)
    classifier = SentimentClassifier.from_settings(settings)
    classifier.build_base(splits.label_names)
    training, cut = train(classifier, splits, settings, console)
    predictions = classifier.predict_reviews(splits.test.texts)
    peak, device_peak = measure_peak_rss(), measure_device_peak(classifier)
    with tempfile.TemporaryDirectory(dir=folder) as place:
        adapter = Path(place) / "adapter"
        classifier.save(adapter)
        adapter_bytes = measure_weights(adapter)
        again = reload(adapter, settings).predict_reviews(splits.test.texts)
    level = settings.evaluation.confidence_level
    save_predictions(folder / PREDICTIONS_FILE, splits.test, predictions)
    record = CellRecord(
        schema_version=SCHEMA_VERSION,
        status="finished",
        name=cell.name,
        seed=cell.seed,
        split_seed=cell.split_seed,
        key=cell.key,
        settings=settings.as_tables(),
        environment=describe_environment(classifier.precision_),
        data=describe_data(splits, settings, cut + int(predictions.is_cut.sum())),
        parameters=count_parameters(typing.cast("PeftModel", classifier.model_)),
        training=training,
        scores=compute_scores(splits.test.labels, predictions, level),
        reload=compare_reloaded(splits.test, predictions, again, level),
        adapter_bytes=adapter_bytes,
        seconds=training.seconds,
        peak_rss_bytes=peak,
        peak_device_bytes=device_peak,
    )
    save_cell(record, folder)
    console.print(f"Finished after {time.perf_counter() - start:.1f} s")


def train(
    classifier: SentimentClassifier, splits: Splits, settings: Settings, console: Console
) -> tuple[TrainingRecord, int]:
    """Train an adapter; return the record, and how many of its reviews were cut."""
    parts = classifier.tokenize(splits.train), classifier.tokenize(splits.validation)
    events: list[Event] = []
    with TrainingProgress(console, settings.training.logging_steps) as progress:
        for event in classifier.iterate_fit(*parts):
            events.append(event)
            if isinstance(event, ValidationRecord):
                show_validation(console, event)
            else:
                progress.update(event)
    record = summarize_training(events, settings.training.load_best_model_at_end)
    return record, sum(int(part.reviews.is_cut.sum()) for part in parts)


def reload(adapter: Path, settings: Settings) -> SentimentClassifier:
    """Load a saved adapter onto its base, read from disk anew."""
    return SentimentClassifier.load(
        adapter,
        device=settings.model.device,
        bf16=settings.training.bf16,
        fp16=settings.training.fp16,
        per_device_eval_batch_size=settings.training.per_device_eval_batch_size,
    )


def compare_reloaded(
    test: Reviews, before: Predictions, after: Predictions, confidence_level: float
) -> ReloadRecord:
    """Compare what a model said before it was saved and after it was loaded."""
    flipped = before.probabilities.argmax(axis=1) != after.probabilities.argmax(axis=1)
    return ReloadRecord(
        scores=compute_scores(test.labels, after, confidence_level),
        flipped=int(flipped.sum()),
        largest_difference=float(np.abs(before.probabilities - after.probabilities).max()),
    )


def measure_weights(adapter: Path) -> int:
    """Return the bytes of the weights in an adapter's folder."""
    files = [file for file in adapter.rglob("*.safetensors") if file.name != SEEN_FILE]
    return sum(file.stat().st_size for file in files)


def measure_device_peak(classifier: SentimentClassifier) -> int | None:
    """Return the most memory that torch has held on the GPU, in bytes, or None on a CPU."""
    device = classifier.precision_.device
    return int(torch.cuda.max_memory_allocated(device)) if device.type == "cuda" else None


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
