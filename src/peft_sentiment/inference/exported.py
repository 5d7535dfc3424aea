"""Exported models behind the classifier object."""

import typing
from pathlib import Path
from typing import Any

import numpy as np

from peft_sentiment.config import ModelSettings
from peft_sentiment.errors import ExportError
from peft_sentiment.inference.onnx import OnnxClassifier
from peft_sentiment.model.encoder import load_encoder
from peft_sentiment.model.exported_files import MERGED, REMEDY, load_export_record, require_verified
from peft_sentiment.model.precision import choose_precision, pick_device
from peft_sentiment.model.speed import get_encoder_shape

if typing.TYPE_CHECKING:
    from peft_sentiment.inference.classifier import SentimentClassifier


def fill_from_export(
    classifier: "SentimentClassifier", folder: Path, settings: dict[str, Any]
) -> None:
    """Let a classifier score with an exported model.

    Args:
        classifier: unfitted, with the settings that were given by hand.
        folder: of the export.
        settings: the same, by name.

    Raises:
        ExportError: the folder is not whole, or a base is named.
    """
    if "model_name_or_path" in settings or "model_revision" in settings:
        raise ExportError(
            f"{folder}: an exported model holds its base; leave out --model-name-or-path."
        )
    record = load_export_record(folder)
    classifier.set_params(
        model_name_or_path=record.base_name,
        model_revision=record.base_revision,
        max_length=record.max_length,
        truncation=record.truncation,
        window_length=record.window_length,
        method=record.method,
    )
    classifier.classes_ = np.asarray(record.label_names).astype(record.label_type)
    classifier.calibration_ = record.calibration
    classifier.companion_ = None
    classifier.export_ = record
    if record.form == MERGED:
        _fill_merged(classifier, folder)
    else:
        classifier.runtime_ = OnnxClassifier.load(folder, calibrate=False)


def _fill_merged(classifier: "SentimentClassifier", folder: Path) -> None:
    record = classifier.export_
    assert record is not None  # noqa: S101 - set by the caller
    require_verified(folder, record)
    wanted = classifier.settings
    device = pick_device(wanted.model.device)
    own = ModelSettings(model_name_or_path=str(folder), device=wanted.model.device)
    encoder = load_encoder(own, record.label_names, seed=0)
    if encoder.new_modules:
        raise ExportError(
            f"{folder}: the weights lack {encoder.new_modules[0]}, which was exported. {REMEDY}"
        )
    shape = get_encoder_shape(encoder.model.config)
    classifier.precision_ = choose_precision(device, wanted.training, shape)
    classifier.encoder_ = encoder
    classifier.model_ = encoder.model.to(device)  # type: ignore[arg-type]
