"""Saved adapters to be tried side by side, and what each says of a review beside its base."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peft_sentiment.errors import ExportError, SettingsError
from peft_sentiment.evaluation.decisions import UNDECIDED, decide_labels
from peft_sentiment.inference.classifier import SentimentClassifier
from peft_sentiment.inference.loading import load_classifier
from peft_sentiment.model.exported_files import is_export
from peft_sentiment.records.explanation import Explanation

SAMPLE_REVIEWS = (
    "A wonderful film: warm, funny and beautifully acted from the first scene to the last.",
    "Two hours of my life that I will never get back. The plot makes no sense at all.",
    "I expected to hate it, yet I left the cinema smiling and called my sister to tell her.",
    "The effects are splendid and the cast is famous, but not one minute of it is alive.",
    "Not bad at all for a first film, though the middle drags a little.",
)


@dataclass(frozen=True)
class Opinion:
    """What an adapter and its base say of one review.

    Attributes:
        label: of the adapter, or `UNDECIDED`.
        tuned: the adapter's probability of each label.
        base: the untrained base's.
        is_cut: whether the review was longer than what is read.
    """

    text: str
    label: str
    tuned: dict[str, float]
    base: dict[str, float]
    is_cut: bool

    @property
    def confidence(self) -> float:
        """The adapter's probability of its most probable label."""
        return max(self.tuned.values())

    @property
    def base_label(self) -> str:
        """The base's most probable label."""
        return max(self.base, key=lambda label: self.base[label])


@dataclass(frozen=True)
class Showcase:
    """Adapters by name; the first one is shown first."""

    classifiers: Mapping[str, SentimentClassifier]

    @property
    def names(self) -> list[str]:
        """The adapters' names."""
        return list(self.classifiers)

    def label(self, name: str, texts: Sequence[str]) -> list[Opinion]:
        """Return what an adapter and its base say of each review."""
        classifier = self.classifiers[name]
        tuned = classifier.predict_reviews(texts)
        base = classifier.predict_reviews_without_adapter(texts)
        labels = decide_labels(tuned, classifier.calibration_)
        rows = zip(
            texts, labels, tuned.probabilities, base.probabilities, tuned.is_cut, strict=True
        )
        return [
            Opinion(
                text,
                label,
                dict(zip(tuned.label_names, of_tuned.tolist(), strict=True)),
                dict(zip(base.label_names, of_base.tolist(), strict=True)),
                bool(is_cut),
            )
            for text, label, of_tuned, of_base, is_cut in rows
        ]

    def explain(self, name: str, text: str) -> Explanation:
        """Say which words spoke for a review's label.

        Raises:
            SettingsError: Captum is not installed.
        """
        return self.classifiers[name].explain([text])[0]

    def describe_confidence(self, name: str, opinion: Opinion) -> str:
        """Return in a sentence what an adapter's confidence means."""
        classifier, percent = self.classifiers[name], round(100 * opinion.confidence)
        if classifier.calibration_ is None or not classifier.settings.evaluation.calibrate:
            return (
                f"{percent} % is what the model itself says; nothing has checked how often it is "
                "right when it is that sure."
            )
        sentence = (
            f"Of 100 reviews like those of its training on which it is {percent} % sure, about "
        )
        sentence += (
            f"{percent} are labelled rightly: its confidence was measured on reviews that it "
        )
        sentence += "was not trained on."
        if opinion.label == UNDECIDED:
            sentence += (
                " That is less than the threshold asks for, so the review is left undecided."
            )
        return sentence


def load_showcase(given: Sequence[str], overrides: Mapping[str, Mapping[str, Any]]) -> Showcase:
    """Load the adapters that were named as DIR or NAME=DIR.

    Raises:
        SettingsError: two have one name.
        ExportError: one is an exported model, which has no base to stand beside.
        AdapterError: an adapter can't be loaded.
    """
    folders: dict[str, str] = {}
    for item in given:
        name, folder = split_name(item)
        if name in folders:
            raise SettingsError(
                f"Two adapters are called {name!r}: {folders[name]} and {folder}. "
                "Give one another name: NAME=DIR."
            )
        if is_export(Path(folder)):
            raise ExportError(
                f"{folder}: an exported model can't be shown beside its base, which is part of it. "
                "Name the adapter it was made from, or label with it: peft-sentiment predict."
            )
        folders[name] = folder
    return Showcase(
        {name: load_classifier(Path(folder), overrides) for name, folder in folders.items()}
    )


def split_name(item: str) -> tuple[str, str]:
    """Return name and folder of NAME=DIR, or of a DIR, which is called by its last part."""
    name, sign, folder = item.partition("=")
    if sign and name and "/" not in name and not Path(item).exists():
        return name, folder
    return Path(item).resolve().name, item
