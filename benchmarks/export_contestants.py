"""The contestants that are exports of an adapter: how fast they are, and what int8 costs."""

import argparse
import contextlib
import shutil
import tempfile
from pathlib import Path

from peft_sentiment.cli import set_up_libraries

set_up_libraries()

from material import (  # noqa: E402 - the libraries are set up before they are loaded
    LABELS,
    Figures,
    draw_reviews,
    find_base,
    time_scoring,
)

from peft_sentiment import SentimentClassifier  # noqa: E402
from peft_sentiment.config import load_settings  # noqa: E402
from peft_sentiment.files import compute_sha256  # noqa: E402


def score_export(options: argparse.Namespace) -> Figures:
    """Score by an exported adapter: `onnx-int8` if asked for, else `onnx`; tokenizing included."""
    from peft_sentiment.inference.onnx import OnnxClassifier

    texts = list(draw_reviews(options.reviews).texts)
    with tempfile.TemporaryDirectory() as name:
        folder, base = Path(name), find_base(options.base)
        write_export(folder, base, options)
        exported = OnnxClassifier.load(folder, threads=options.threads)
    return time_scoring(lambda: exported.predict_reviews(texts), len(texts))


def write_export(folder: Path, base: str, options: argparse.Namespace) -> None:
    """Export an encoder with an untrained head; int8 ranges come from reviews not scored."""
    from peft_sentiment.model.exported_files import (
        FORMAT_VERSION,
        ONNX,
        ONNX_FILE,
        ONNX_INT8,
        RECORD_FILE,
        TOKENIZER_FILE,
    )
    from peft_sentiment.model.onnx_export import write_int8_onnx, write_onnx
    from peft_sentiment.records import render_json
    from peft_sentiment.records.export import ExportRecord

    classifier = SentimentClassifier(model_name_or_path=base)
    classifier.build_base(LABELS)
    encoder = classifier.encoder_
    if options.int8:
        for_ranges = classifier.tokenize_texts(draw_reviews(32, skip=options.reviews).texts)
        write_int8_onnx(encoder.model, folder / ONNX_FILE, for_ranges.token_ids)
    else:
        write_onnx(encoder.model, folder / ONNX_FILE)
    shutil.copy(encoder.folder / TOKENIZER_FILE, folder)
    files = {file: compute_sha256(folder / file) for file in (ONNX_FILE, TOKENIZER_FILE)}
    record = ExportRecord(
        FORMAT_VERSION, ONNX_INT8 if options.int8 else ONNX, "", files, LABELS, "str",
        options.max_length, "head", None, "lora", encoder.name, None, encoder.sha256, {},
        None, None, options.window_length,
    )  # fmt: skip
    (folder / RECORD_FILE).write_text(render_json(record), encoding="utf-8")


def check_export(options: argparse.Namespace) -> Figures:
    """Train with the default settings, export, and compare on held-out reviews."""
    from peft_sentiment.inference.export import (
        RANGE_REVIEWS,
        CheckReviews,
        ExportLimits,
        export_adapter,
    )
    from peft_sentiment.model.exported_files import ONNX_INT8

    train = draw_reviews(options.train_reviews)
    test = draw_reviews(options.reviews + RANGE_REVIEWS, skip=options.train_reviews)
    classifier = SentimentClassifier.from_settings(load_settings())
    classifier.fit(train.texts, train.labels)
    with tempfile.TemporaryDirectory() as name:
        adapter, endless = Path(name) / "adapter", ExportLimits(1, 1, float("inf"))
        classifier.save(adapter)
        record = export_adapter(
            adapter, classifier, ONNX_INT8, Path(name) / "export",
            CheckReviews.build("packaged/imdb", test, LABELS, options.reviews), endless,
            lambda _: contextlib.nullcontext(),
        )  # fmt: skip
    check = record.check
    assert check is not None  # noqa: S101 - the export is written
    return {
        "flipped": check.flipped / check.reviews,
        "accuracy_before": check.original.accuracy,
        "accuracy_after": check.exported.accuracy,
        "largest_logit_difference": check.largest_logit_difference,
        "bytes_before": check.original.bytes,
        "bytes_after": check.exported.bytes,
    }
