"""Reviews without labels, labelled by a first classifier for the one that is kept to learn from."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from sklearn.base import clone

from peft_sentiment.config import DataSettings, Settings
from peft_sentiment.data.sources import iterate_text_rows
from peft_sentiment.errors import DataError, SettingsError
from peft_sentiment.foundation import Foundation, Lessons
from peft_sentiment.inference.classifier import SentimentClassifier
from peft_sentiment.records import ValidationRecord
from peft_sentiment.records.reviews import Splits
from peft_sentiment.reporting.console import show_pseudo_labels, show_validation
from peft_sentiment.reporting.progress import TrainingProgress
from peft_sentiment.training.pseudo_labels import (
    add_pseudo_labels,
    choose_pseudo_labels,
    measure_shares,
)


def study_unlabelled(foundation: Foundation, settings: Settings, console: Console) -> Foundation:
    """Return what a run stands on, with reviews added that a first classifier has labelled.

    That one, the teacher, is trained as the run itself would be. The second one starts anew, and
    has no stage on pairs of its own: it has reviews enough.

    Args:
        foundation: of the run, before there is an adapter.
        settings: of the run.
        console: where to show what happens.

    Raises:
        DataError: the file has no review to use.
        DivergenceError: the teacher's training has diverged.
        SettingsError: there is to be a companion, which learns from labelled reviews alone.
    """
    if settings.data.unlabelled is None:
        return foundation
    if settings.training.companion != "none":
        raise SettingsError(
            "data.unlabelled is set together with training.companion. A companion counts the words "
            "of labelled reviews alone: leave one of the two out."
        )
    splits, classifier = foundation.splits, foundation.classifier
    texts = list(iterate_unlabelled(settings.data, splits))
    if not texts:
        raise DataError(
            f"{settings.data.unlabelled}: no review in it is new. It needs reviews that are not "
            "among the training, validation and test reviews."
        )
    teacher = train_teacher(foundation, settings, console)
    with console.status(f"Labelling {len(texts):,} reviews"):
        probabilities = teacher.predict_proba(texts)
    shares = measure_shares(splits.train.labels, splits.label_names)
    share = settings.training.pseudo_label_share
    places, labels = choose_pseudo_labels(probabilities, shares, share)
    names = [splits.label_names[label] for label in labels]
    reviews = add_pseudo_labels(splits.train, [texts[place] for place in places], names)
    show_pseudo_labels(console, len(texts), names)
    classifier.set_params(contrastive_epochs=0.0)
    data = dataclasses.replace(foundation.data, unlabelled=len(texts), pseudo_labelled=len(places))
    lessons = Lessons(reviews, classifier.tokenize(reviews))
    return dataclasses.replace(foundation, lessons=lessons, data=data)


def train_teacher(
    foundation: Foundation, settings: Settings, console: Console
) -> SentimentClassifier:
    """Return a classifier that has been trained on the labelled reviews, with progress.

    Raises:
        DivergenceError: the loss is no number any more.
    """
    teacher: SentimentClassifier = clone(foundation.classifier)
    teacher.build_base(foundation.splits.label_names)
    with TrainingProgress(console, settings.training.logging_steps) as progress:
        for event in teacher.iterate_fit(foundation.lessons.tokens, foundation.validation):
            if isinstance(event, ValidationRecord):
                show_validation(console, event)
            else:
                progress.update(event)
    return teacher


def iterate_unlabelled(settings: DataSettings, splits: Splits) -> Iterator[str]:
    """Yield the texts of the file without labels, each once, and none that is in a part already.

    A test review must not be learned from, with whatever label.
    """
    limit = settings.unlabelled_size
    known = {*splits.train.texts, *splits.validation.texts, *splits.test.texts}
    found = 0
    for _, text in iterate_text_rows(Path(str(settings.unlabelled)), settings):
        if found == limit:
            return
        if text not in known:
            known.add(text)
            found += 1
            yield text
