"""Load a saved adapter for labelling: the quick form where there is one, else the whole."""

import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from peft_sentiment.config import EvaluationSettings, load_settings
from peft_sentiment.errors import SettingsError
from peft_sentiment.inference.arguments import PARAMETERS
from peft_sentiment.inference.onnx import OnnxClassifier
from peft_sentiment.inference.quick import QuickClassifier
from peft_sentiment.model.exported_files import ONNX_FORMS, is_export, load_export_record
from peft_sentiment.records import Predictions
from peft_sentiment.records.calibration import Calibration

if typing.TYPE_CHECKING:
    from peft_sentiment.inference.classifier import SentimentClassifier

Overrides = Mapping[str, Mapping[str, Any]]
"""Section -> setting -> value, as given by hand."""

QUICK_MODEL_SETTINGS = {"device"}
"""Settings of the model under which the quick form can still be used."""


class Labeller(Protocol):
    """What labelling needs of a classifier."""

    calibration_: Calibration | None

    def predict_reviews(self, texts: Sequence[str]) -> Predictions:
        """Return the probabilities of the texts."""


def load_labeller(folder: Path, overrides: Overrides) -> Labeller:
    """Load a saved adapter for labelling and nothing else, as quickly as can be.

    Raises:
        AdapterError: the adapter can't be loaded.
        SettingsError: a threshold is asked for, and the adapter can't tell any.
    """
    settings = load_settings(overrides=overrides)
    if is_export(folder) and load_export_record(folder).form in ONNX_FORMS:
        runtime = OnnxClassifier.load(folder, calibrate=settings.evaluation.calibrate)
        set_threshold(runtime, settings.evaluation, str(folder))
        return runtime
    quick = None
    if set(overrides.get("model", {})) <= QUICK_MODEL_SETTINGS and not settings.training.fp16:
        quick = QuickClassifier.load(folder, settings)
    if quick is None:
        return load_classifier(folder, overrides)
    set_threshold(quick, settings.evaluation, str(folder))
    return quick


def load_classifier(folder: Path, overrides: Overrides) -> "SentimentClassifier":
    """Load a saved adapter with the settings of model and scoring that were given by hand.

    Raises:
        AdapterError: the adapter can't be loaded.
        SettingsError: a threshold is asked for, and the adapter can't tell any.
    """
    # Takes transformers, peft and scikit-learn, which take seconds to import.
    from peft_sentiment.inference.classifier import SentimentClassifier

    given = overrides.get("evaluation", {})
    names = [name for name in given if name in PARAMETERS]
    chosen = {**overrides.get("model", {}), **overrides.get("training", {})}
    classifier = SentimentClassifier.load(folder, **chosen, **{name: given[name] for name in names})
    set_threshold(classifier, EvaluationSettings(**given), str(folder))
    return classifier


def set_threshold(classifier: Labeller, settings: EvaluationSettings, where: str) -> None:
    """Give a trained classifier the threshold that the settings ask for, if they ask for one.

    Raises:
        SettingsError: it has no calibration to choose one from, or none has the precision.
    """
    if settings.min_precision is None and settings.undecided_share is None:
        return
    if classifier.calibration_ is None:
        raise SettingsError(
            f"{where}: there were no validation reviews, or the companion that they were labelled "
            "with is left aside, so no threshold can be chosen. Leave out --min-precision and "
            "--undecided-share, or train with a --validation-size above 0."
        )
    from peft_sentiment.evaluation.thresholds import choose_threshold

    classifier.calibration_ = choose_threshold(classifier.calibration_, settings)
