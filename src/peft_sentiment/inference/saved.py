"""The classifier object on disk, and back."""

import functools
import typing
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from peft import PeftModel

from peft_sentiment.config import Settings
from peft_sentiment.errors import SettingsError
from peft_sentiment.evaluation.companion import load_companion, save_companion
from peft_sentiment.inference.environment import read_versions
from peft_sentiment.model.metadata import FORMAT_VERSION, AdapterMetadata
from peft_sentiment.model.precision import choose_precision, pick_device
from peft_sentiment.model.saved_adapters import load_adapter, load_seen, save_adapter
from peft_sentiment.model.speed import get_encoder_shape

if typing.TYPE_CHECKING:
    from peft_sentiment.inference.classifier import SentimentClassifier


def save_classifier(
    classifier: "SentimentClassifier",
    model: PeftModel,
    folder: Path,
    trained_with: Settings | None,
    seen: NDArray[np.uint64] | None,
) -> None:
    """Write a trained adapter with all that is needed to score text, the base aside.

    Args:
        classifier: whose settings, labels and calibration go with it.
        model: its trained model.
        folder: replaced as a whole.
        trained_with: settings of the run.
        seen: fingerprints of the reviews it was trained and validated on.

    Raises:
        OutputError: the folder can't be written; what stood there is unchanged.
    """
    settings, encoder = classifier.settings, classifier.encoder_
    companion = classifier.companion_ if classifier.has_companion else None
    # What validation says of both together says nothing of the adapter alone.
    is_calibrated = companion is classifier.companion_
    metadata = AdapterMetadata(
        format_version=FORMAT_VERSION,
        base_name=encoder.name,
        base_revision=encoder.revision,
        base_sha256=encoder.sha256,
        head_seed=settings.training.seed,
        label_names=classifier.label_names,
        label_type="int" if classifier.classes_.dtype.kind in "iu" else "str",
        max_length=settings.data.max_length,
        truncation=settings.data.truncation,
        window_length=settings.data.window_length,
        versions=read_versions(),
        trained_with=None if trained_with is None else trained_with.as_tables(),
        method=settings.adapter.method,
        calibration=classifier.calibration_ if is_calibrated else None,
    )
    save = None if companion is None else functools.partial(save_companion, companion)
    save_adapter(model, encoder, metadata, folder, seen, save)


def fill_from_adapter(
    classifier: "SentimentClassifier", folder: Path, settings: dict[str, Any]
) -> None:
    """Let a classifier score with a saved adapter.

    Args:
        classifier: unfitted, with the settings that were given by hand.
        folder: of the adapter.
        settings: the same, by name.

    Raises:
        AdapterError: the folder is incomplete or corrupt, or the base is another one.
        ModelError, HubError: the base can't be loaded.
        SettingsError: a setting contradicts the training.
    """
    wanted = classifier.settings
    device = pick_device(wanted.model.device)
    model, encoder, metadata = load_adapter(
        folder, wanted.model, base_name=settings.get("model_name_or_path")
    )
    for name in ("max_length", "truncation", "window_length", "method"):
        if settings.get(name, getattr(metadata, name)) != getattr(metadata, name):
            raise SettingsError(
                f"{folder}: {name} is {getattr(metadata, name)!r} by the adapter's training, and "
                f"can't be {settings[name]!r}. Leave it out."
            )
    classifier.set_params(
        model_name_or_path=encoder.name,
        model_revision=encoder.revision,
        max_length=metadata.max_length,
        truncation=metadata.truncation,
        window_length=metadata.window_length,
        seed=metadata.head_seed,
        method=metadata.method,
    )
    shape = get_encoder_shape(encoder.model.config)
    classifier.precision_ = choose_precision(device, wanted.training, shape)
    classifier.classes_ = np.asarray(metadata.label_names).astype(metadata.label_type)
    classifier.encoder_ = encoder
    classifier.model_ = model.to(device)
    classifier.seen_ = load_seen(folder)
    classifier.companion_ = load_companion(folder, len(metadata.label_names))
    is_calibrated = classifier.companion_ is None or wanted.evaluation.use_companion
    classifier.calibration_ = metadata.calibration if is_calibrated else None
