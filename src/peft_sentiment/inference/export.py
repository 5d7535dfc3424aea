"""A saved adapter in another form, checked against the original before it is put in its place.

Shapes: N reviews, C labels.
"""

import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from peft import PeftModel

from peft_sentiment.errors import ExportError, OutputError
from peft_sentiment.evaluation.prediction import predict_logits
from peft_sentiment.files import compute_sha256, replacing_folder
from peft_sentiment.inference.classifier import SentimentClassifier
from peft_sentiment.inference.environment import read_versions
from peft_sentiment.inference.export_writers import WRITERS, ExportSource
from peft_sentiment.inference.onnx import OnnxClassifier
from peft_sentiment.model.exported_files import (
    FORMAT_VERSION,
    MERGED,
    MERGED_FILE,
    ONNX,
    ONNX_FILE,
    ONNX_INT8,
    RECORD_FILE,
    is_export,
)
from peft_sentiment.model.merging import merge_adapter
from peft_sentiment.model.metadata import WEIGHTS_FILE, AdapterMetadata, load_metadata
from peft_sentiment.model.onnx_export import require_exporting
from peft_sentiment.model.precision import Precision
from peft_sentiment.records import render_json
from peft_sentiment.records.export import ExportCheck, ExportRecord, ScoredForm
from peft_sentiment.records.reviews import Reviews

WARM_UP = 8
"""Reviews that are scored before the clock runs."""

RANGE_REVIEWS = 32
"""Reviews on which it is seen how wide the numbers are that int8 is to hold."""

Logits = NDArray[np.float32]
Result = TypeVar("Result")


@dataclass(frozen=True)
class ExportLimits:
    """How far an export may be from its original.

    Attributes:
        flipped: share of the reviews whose label may be another one.
        accuracy_loss: share of the reviews by which accuracy may be lower.
        logit_difference: of any logit.
    """

    flipped: float
    accuracy_loss: float
    logit_difference: float


EXACT_LIMITS = ExportLimits(0.001, 0.001, 0.01)
LIMITS = {
    MERGED: EXACT_LIMITS,
    ONNX: EXACT_LIMITS,
    ONNX_INT8: ExportLimits(0.01, 0.003, 1.0),
}
"""Form -> what holds where nothing else is asked for."""


@dataclass(frozen=True)
class CheckReviews:
    """The reviews of a check.

    Attributes:
        name: where they come from.
        texts: N reviews.
        labels: (N,), or None where they are not known.
        for_ranges: others, on which it is seen how wide the numbers are that int8 is to hold; the
            first of `texts` if there are no others.
    """

    name: str
    texts: Sequence[str]
    labels: Sequence[str] | None
    for_ranges: Sequence[str] = ()

    @classmethod
    def build(
        cls, name: str, reviews: Reviews, label_names: Sequence[str], size: int
    ) -> "CheckReviews":
        """Take the first `size` reviews to check on, with the labels where they are the model's."""
        texts, labels = reviews.texts, reviews.labels
        is_known = set(labels) <= set(label_names)
        for_ranges = texts[size : size + RANGE_REVIEWS]
        return cls(name, texts[:size], labels[:size] if is_known else None, for_ranges)


def require_free_output(output: Path) -> None:
    """Check that a folder is free or holds an export.

    Raises:
        OutputError: it holds something else, which is not replaced.
    """
    if not output.exists() or is_export(output):
        return
    if not output.is_dir() or any(output.iterdir()):
        raise OutputError(
            f"{output}: what is there is not an exported model, and would be replaced. "
            "Name another folder with --output, or move it away."
        )


def export_adapter(
    folder: Path,
    classifier: SentimentClassifier,
    form: str,
    output: Path,
    reviews: CheckReviews,
    limits: ExportLimits,
    working: Callable[[str], AbstractContextManager[object]],
) -> ExportRecord:
    """Write an adapter in another form, and check it on reviews.

    Args:
        folder: of the adapter.
        classifier: loaded from there.
        form: one of `FORMS`.
        output: folder to write; replaced as a whole once the check is passed.
        reviews: for the check.
        limits: beyond which the check fails.
        working: makes a block that tells the user what is under way.

    Raises:
        ExportError: the adapter can't be exported, or the export is too far from it.
        AdapterError: the adapter can't be merged.
        OutputError: the folder can't be written; what stood there is unchanged.
        SettingsError: a library is not installed.
    """
    if form != MERGED:
        require_exporting()
    require_free_output(output)
    metadata = load_metadata(folder)
    with replacing_folder(output) as draft:
        with working(f"Writing {form}"):
            model = classifier.model_.to("cpu")
            if not isinstance(model, PeftModel):
                raise ExportError(f"{folder}: there is no adapter to merge.")
            merged = merge_adapter(model)
            chosen = (reviews.for_ranges or reviews.texts)[:RANGE_REVIEWS]
            ids = classifier.tokenize_texts(chosen).token_ids
            WRITERS[form](ExportSource(merged, classifier.encoder_, metadata, ids), draft)
            classifier.model_.to(classifier.precision_.device)
            record = _describe(form, classifier, metadata, draft)
            _write_record(record, draft)
        with working(f"Checking {len(reviews.texts):,} reviews"):
            check = check_export(folder, classifier, record, draft, reviews)
        require_within(check, limits, output)
        record = dataclasses.replace(record, check=check)
        _write_record(record, draft)
    return record


def _describe(
    form: str, classifier: SentimentClassifier, metadata: AdapterMetadata, draft: Path
) -> ExportRecord:
    has_calibration = classifier.calibration_ is not None
    return ExportRecord(
        format_version=FORMAT_VERSION,
        form=form,
        architecture=classifier.encoder_.model.config.model_type,
        files={path.name: compute_sha256(path) for path in sorted(draft.iterdir())},
        label_names=metadata.label_names,
        label_type=metadata.label_type,
        max_length=metadata.max_length,
        truncation=metadata.truncation,
        window_length=metadata.window_length,
        calibration=metadata.calibration if has_calibration else None,
        method=metadata.method,
        base_name=metadata.base_name,
        base_revision=metadata.base_revision,
        base_sha256=metadata.base_sha256,
        versions=read_versions(),
        trained_with=metadata.trained_with,
        check=None,
    )


def _write_record(record: ExportRecord, draft: Path) -> None:
    (draft / RECORD_FILE).write_text(render_json(record), encoding="utf-8")


def check_export(
    folder: Path,
    classifier: SentimentClassifier,
    record: ExportRecord,
    draft: Path,
    reviews: CheckReviews,
) -> ExportCheck:
    """Score the same reviews by the original and by the export.

    Args:
        folder: of the adapter.
        classifier: loaded from there.
        record: of the export.
        draft: its folder.
        reviews: to score.
    """
    original = _compute_exact_logits(classifier, reviews.texts)
    _, seconds = _time(classifier.predict_reviews, reviews.texts)
    if record.form == MERGED:
        merged = SentimentClassifier.load(draft, device=str(classifier.precision_.device))
        exported = _compute_exact_logits(merged, reviews.texts)
        _, own_seconds = _time(merged.predict_reviews, reviews.texts)
        file = draft / MERGED_FILE
    else:
        runtime = OnnxClassifier.load(draft)
        exported, own_seconds = _time(
            lambda texts: runtime.compute_logits(runtime.tokenize(texts)), reviews.texts
        )
        file = draft / ONNX_FILE
    base = sum(path.stat().st_size for path in classifier.encoder_.folder.glob("*.safetensors"))
    count, names, labels = len(reviews.texts), record.label_names, reviews.labels
    return ExportCheck(
        data=reviews.name,
        reviews=count,
        largest_logit_difference=float(np.abs(exported - original).max()),
        flipped=int((exported.argmax(axis=1) != original.argmax(axis=1)).sum()),
        dtype=classifier.precision_.dtype_name,
        original=ScoredForm(
            _score(original, names, labels),
            count / seconds,
            base + (folder / WEIGHTS_FILE).stat().st_size,
        ),
        exported=ScoredForm(
            _score(exported, names, labels), count / own_seconds, file.stat().st_size
        ),
    )


def _compute_exact_logits(classifier: SentimentClassifier, texts: Sequence[str]) -> Logits:
    """Return (N, C) logits in float32, whatever the classifier computes in."""
    reviews = classifier.tokenize_texts(texts)
    settings, device = classifier.settings, classifier.precision_.device
    return predict_logits(
        classifier.model_,
        reviews,
        int(classifier.encoder_.tokenizer.pad_token_id),
        settings.training.per_device_eval_batch_size,
        Precision(device, torch.float32, "the check of an export"),
    )


def _time(score: Callable[[Sequence[str]], Result], texts: Sequence[str]) -> tuple[Result, float]:
    score(texts[:WARM_UP])
    start = time.perf_counter()
    result = score(texts)
    return result, time.perf_counter() - start


def _score(logits: Logits, names: Sequence[str], labels: Sequence[str] | None) -> float | None:
    if labels is None:
        return None
    numbers = {name: number for number, name in enumerate(names)}
    targets = np.array([numbers[label] for label in labels])
    return float((logits.argmax(axis=1) == targets).mean())


def require_within(check: ExportCheck, limits: ExportLimits, output: Path) -> None:
    """Check that an export is near enough to its original; shares allow whole reviews, rounded up.

    Raises:
        ExportError: it is not.
    """
    lost = round((check.accuracy_loss or 0.0) * check.reviews)
    found = {
        "labels are flipped": (check.flipped, limits.flipped),
        "labels fewer are right": (lost, limits.accuracy_loss),
    }
    reasons = []
    for what, (count, share) in found.items():
        allowed = math.ceil(share * check.reviews)
        if count > allowed:
            reasons.append(f"{count} {what}, allowed are {allowed}")
    # A logit that is no number is larger than nothing, but must not pass.
    if not check.largest_logit_difference <= limits.logit_difference:
        reasons.append(
            f"a logit differs by {check.largest_logit_difference:.3g}, allowed is "
            f"{limits.logit_difference:.3g}"
        )
    if reasons:
        raise ExportError(
            f"{output}: not written, for the export is too far from its original on "
            f"{check.reviews:,} reviews: {'; '.join(reasons)}. Choose another form, or allow more "
            "with --most-flips, --most-loss or --most-difference."
        )
