"""What a run stands on: the split reviews, and the encoder with an untrained head."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from peft_sentiment.config import Settings
from peft_sentiment.data.bad_rows import SKIPPED_FILE
from peft_sentiment.data.batching import LabelledTokens
from peft_sentiment.inference.classifier import SentimentClassifier
from peft_sentiment.inference.environment import describe_environment
from peft_sentiment.inference.fitting import require_trainable
from peft_sentiment.records import DataRecord, Environment
from peft_sentiment.records.reviews import Reviews, Splits
from peft_sentiment.reporting.console import show_foundation
from peft_sentiment.reporting.skipped import show_skipped
from peft_sentiment.streamed import hold_reviews, read_data


@dataclass(frozen=True)
class Lessons:
    """What an adapter learns from: the training reviews, and others that a classifier has labelled.

    Attributes:
        reviews: all of them.
        tokens: the same, as the model reads them.
    """

    reviews: Reviews
    tokens: LabelledTokens


@dataclass(frozen=True)
class Foundation:
    """What a run stands on: the split reviews and the encoder with an untrained head."""

    splits: Splits
    classifier: SentimentClassifier
    train: LabelledTokens
    lessons: Lessons
    validation: LabelledTokens
    data: DataRecord
    environment: Environment


def load_foundation(settings: Settings, console: Console, clock: Callable[[], float]) -> Foundation:
    """Load and split the reviews, load the encoder, and show both.

    Args:
        settings: of the run.
        console: where to show them.
        clock: gives the time in seconds.
    """
    start = clock()
    reading = read_data(settings, console)
    splits = reading.splits
    classifier = SentimentClassifier.from_settings(settings)
    classifier.build_base(splits.label_names)
    require_trainable(classifier)
    held = hold_reviews(splits, settings.training.seed)
    classifier.prepare_companion(held.train, splits.validation)
    train = reading.tokenize_train(classifier)
    validation, test = map(classifier.tokenize, [splits.validation, splits.test])
    cut = sum(int(part.reviews.is_cut.sum()) for part in (train, validation, test))
    data = describe_data(splits, settings, cut)
    environment = describe_environment(classifier.precision_)
    name = settings.model.model_name_or_path
    show_foundation(console, environment, data, name, clock() - start)
    show_skipped(console, splits.skipped, Path(settings.output.output_dir) / SKIPPED_FILE)
    lessons = Lessons(splits.train, train)
    return Foundation(splits, classifier, train, lessons, validation, data, environment)


def describe_data(splits: Splits, settings: Settings, cut: int) -> DataRecord:
    """Make the record of the reviews in use, of which `cut` were longer than the model reads."""
    return DataRecord(
        name=splits.name,
        sha256=splits.sha256,
        train=len(splits.train),
        validation=len(splits.validation),
        test=len(splits.test),
        duplicates_removed=splits.duplicates_removed,
        label_names=splits.label_names,
        label_counts={name: splits.train.labels.count(name) for name in splits.label_names},
        max_length=settings.data.max_length,
        truncation=settings.data.truncation,
        cut=cut,
        near_duplicates=splits.near_duplicates,
        is_small=splits.is_small,
        rows_skipped=len(splits.skipped),
        window_length=settings.data.window_length,
    )
