"""An export says what its adapter says, or is not written; and is not read once it is damaged."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from tiny_exports import export_every_form
from tiny_models import MODEL_TYPES
from tiny_reviews import write_reviews_csv
from tiny_runs import TinyRun, read_folder
from transformers import pipeline

from peft_sentiment import SentimentClassifier
from peft_sentiment.cli import main
from peft_sentiment.config import ModelSettings
from peft_sentiment.errors import AdapterError, ExportError
from peft_sentiment.inference.export import ExportLimits, require_within
from peft_sentiment.inference.loading import load_labeller
from peft_sentiment.inference.onnx import OnnxClassifier
from peft_sentiment.model.encoder import load_encoder
from peft_sentiment.model.exported_files import (
    FORMS,
    ONNX_FILE,
    ONNX_FORMS,
    RECORD_FILE,
    TOKENIZER_FILE,
    load_export_record,
)
from peft_sentiment.model.metadata import load_metadata
from peft_sentiment.model.onnx_export import write_int8_onnx, write_onnx
from peft_sentiment.model.onnx_graph import can_write_fused, write_fused_graph
from peft_sentiment.records.export import ExportCheck, ScoredForm
from peft_sentiment.records.reviews import Reviews

FUSED_TYPES = ("distilbert", "bert", "roberta", "electra")
Exports = dict[str, Path]


@pytest.fixture(scope="module")
def exports(
    finished_tiny_run: TinyRun, tiny_reviews: Reviews, tmp_path_factory: pytest.TempPathFactory
) -> Exports:
    """Every form of one adapter, checked on the tiny reviews."""
    home = tmp_path_factory.mktemp("exports")
    return export_every_form(finished_tiny_run.adapter, tiny_reviews, home)


@pytest.fixture
def broken(exports: Exports, tmp_path: Path) -> Path:
    """A copy of an export to ONNX for one test to damage."""
    folder = tmp_path / "broken"
    folder.mkdir()
    for name, content in read_folder(exports["onnx"]).items():
        (folder / name).write_bytes(content)
    return folder


@pytest.mark.parametrize("form", FORMS)
def test_every_form_says_what_the_adapter_says(
    exports: Exports, finished_tiny_run: TinyRun, tiny_reviews: Reviews, form: str
) -> None:
    texts = tiny_reviews.texts[:40]
    adapter = SentimentClassifier.load(finished_tiny_run.adapter, bf16=False)
    exported = SentimentClassifier.load(exports[form], bf16=False)
    gap = np.abs(adapter.predict_proba(texts) - exported.predict_proba(texts)).max()
    assert gap < (0.2 if form == "onnx-int8" else 1e-4)
    assert exported.classes_.tolist() == adapter.classes_.tolist()
    if form != "onnx-int8":
        assert exported.predict(texts).tolist() == adapter.predict(texts).tolist()


@pytest.mark.parametrize("form", ONNX_FORMS)
def test_what_is_said_of_a_review_does_not_depend_on_others_or_on_threads(
    exports: Exports, tiny_reviews: Reviews, form: str
) -> None:
    texts = list(tiny_reviews.texts[:20])
    several = OnnxClassifier.load(exports[form], threads=3).predict_proba(texts)
    single = OnnxClassifier.load(exports[form], threads=1)
    alone = np.concatenate([single.predict_proba([text]) for text in texts])
    assert np.array_equal(several, alone)
    assert np.array_equal(single.predict_proba(texts[::-1])[::-1], several)
    assert single.predict_proba([]).shape == (0, 2)


@pytest.mark.parametrize("form", ONNX_FORMS)
def test_predict_and_the_classifier_object_give_the_runtimes_probabilities(
    exports: Exports, tiny_reviews: Reviews, form: str
) -> None:
    texts = tiny_reviews.texts[:10]
    wanted = OnnxClassifier.load(exports[form]).predict_proba(texts)
    labeller = load_labeller(exports[form], {})
    assert isinstance(labeller, OnnxClassifier)
    assert np.array_equal(labeller.predict_reviews(texts).probabilities, wanted)
    whole = SentimentClassifier.load(exports[form])
    assert np.array_equal(whole.predict_proba(texts), wanted)


def test_plain_transformers_loads_the_merged_form_with_its_labels(
    exports: Exports, finished_tiny_run: TinyRun
) -> None:
    classify = pipeline("text-classification", model=str(exports["merged"]), device="cpu")
    # Short enough for one window, which is all that transformers reads.
    texts = ["The ending was dull.", "A superb story!", "bad", "an amazing script, and wonderful"]
    adapter = SentimentClassifier.load(finished_tiny_run.adapter, bf16=False, calibrate=False)
    said = classify(texts, truncation=True)
    assert [answer["label"] for answer in said] == adapter.predict(texts).tolist()
    confidence = adapter.predict_proba(texts).max(axis=1)
    assert np.abs(confidence - [answer["score"] for answer in said]).max() < 1e-5


def test_the_record_tells_how_the_export_was_checked(exports: Exports) -> None:
    record = load_export_record(exports["onnx-int8"])
    assert record.check is not None
    assert record.check.reviews == 200
    assert record.check.exported.bytes == (exports["onnx-int8"] / ONNX_FILE).stat().st_size
    assert record.check.original.accuracy is not None
    assert record.label_names == ("negative", "positive")
    assert set(record.files) == {ONNX_FILE, TOKENIZER_FILE}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"flipped": 2}, "2 labels are flipped, allowed are 1"),
        ({"largest_logit_difference": 2.0}, "a logit differs by 2"),
        ({"largest_logit_difference": float("nan")}, "a logit differs by nan"),
        ({"exported": ScoredForm(0.5, 1.0, 1)}, "40 labels fewer are right"),
    ],
)
def test_an_export_too_far_from_its_original_is_refused(
    change: dict[str, object], words: str
) -> None:
    form = ScoredForm(0.9, 1.0, 1)
    good = ExportCheck("some", 100, 0.1, 1, "float32", form, form)
    limits = ExportLimits(0.01, 0.003, 1.0)
    require_within(good, limits, Path("there"))
    with pytest.raises(ExportError, match=words):
        require_within(dataclasses.replace(good, **change), limits, Path("there"))  # type: ignore[arg-type]


def test_a_failed_check_writes_nothing_and_leaves_what_was_there(
    exports: Exports, tiny_run: TinyRun, tiny_reviews: Reviews, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    output, before = exports["onnx"], read_folder(exports["onnx"])
    reviews = write_reviews_csv(tmp_path / "few.csv", tiny_reviews.take(range(20)))
    arguments = ["export", str(tiny_run.adapter), "--to", "onnx-int8", "--reviews", str(reviews)]
    arguments += ["--most-difference", "0"]
    assert main([*arguments, "--output", str(output)]) == 2
    assert "too far from its original" in capsys.readouterr().err
    assert read_folder(output) == before
    assert main([*arguments, "--output", str(tmp_path / "new")]) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["few.csv", "run"]


def test_a_folder_with_something_else_in_it_is_not_replaced(
    tiny_run: TinyRun, capsys: pytest.CaptureFixture[str]
) -> None:
    before = read_folder(tiny_run.output)
    arguments = ["export", str(tiny_run.adapter), "--to", "merged", "--check-size", "5"]
    assert main([*arguments, "--output", str(tiny_run.output)]) == 2
    assert "not an exported model" in capsys.readouterr().err
    assert read_folder(tiny_run.output) == before


def test_a_companion_is_not_passed_over(
    tiny_run: TinyRun, capsys: pytest.CaptureFixture[str]
) -> None:
    (tiny_run.adapter / "companion.json").write_text("{}")
    assert main(["export", str(tiny_run.adapter), "--to", "onnx"]) == 2
    assert "--no-use-companion" in capsys.readouterr().err


def _cut_model(folder: Path) -> None:
    (folder / ONNX_FILE).write_bytes((folder / ONNX_FILE).read_bytes()[:-100])


def _turn_a_bit(folder: Path) -> None:
    content = bytearray((folder / ONNX_FILE).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / ONNX_FILE).write_bytes(content)


def _change_tokenizer(folder: Path) -> None:
    path = folder / TOKENIZER_FILE
    path.write_text(path.read_text(encoding="utf-8") + " ", encoding="utf-8")


def _change_record(folder: Path, **values: object) -> None:
    path = folder / RECORD_FILE
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}), encoding="utf-8")


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "cut short": (_cut_model, "damaged or changed"),
    "one bit": (_turn_a_bit, "damaged or changed"),
    "tokenizer": (_change_tokenizer, "damaged or changed"),
    "no model": (lambda folder: (folder / ONNX_FILE).unlink(), "can't be read"),
    "no record": (lambda folder: (folder / RECORD_FILE).unlink(), "no exported model"),
    "no JSON": (lambda folder: (folder / RECORD_FILE).write_text("{"), "not readable"),
    "huge record": (
        lambda folder: (folder / RECORD_FILE).write_text(" " * 16_000_001), "may have"
    ),
    "other version": (lambda folder: _change_record(folder, format_version=9), "format 9"),
    "other form": (lambda folder: _change_record(folder, form="gguf"), "gguf"),
    "a file elsewhere": (
        lambda folder: _change_record(
            folder, files={ONNX_FILE: "0", TOKENIZER_FILE: "0", "../key": "0"}
        ),
        "no file of this folder",
    ),
    "other labels": (lambda folder: _change_record(folder, label_names=list("abc")), "3 labels"),
    "no length": (lambda folder: _change_record(folder, max_length=0), "cut at 0"),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_export_is_refused_with_a_message(broken: Path, damage: str) -> None:
    change, words = DAMAGES[damage]
    change(broken)
    with pytest.raises(ExportError, match=words):
        OnnxClassifier.load(broken)


def test_an_export_can_not_do_what_takes_the_adapter(exports: Exports) -> None:
    with pytest.raises(ExportError, match="holds its base"):
        SentimentClassifier.load(exports["onnx"], model_name_or_path="elsewhere")
    runtime = SentimentClassifier.load(exports["onnx"])
    with pytest.raises(ExportError, match="without its adapter"):
        runtime.predict_reviews_without_adapter(["good"])
    with pytest.raises(ExportError, match="not ONNX"):
        OnnxClassifier.load(exports["merged"])
    with pytest.raises(AdapterError, match="an exported model, which labels texts alone"):
        load_metadata(exports["onnx"])


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_every_architecture_exports_with_any_number_of_reviews_and_tokens(
    build_tiny_encoder: Callable[[str, Path], Path], tmp_path: Path, model_type: str
) -> None:
    folder = build_tiny_encoder(model_type, tmp_path / "base")
    settings = ModelSettings(model_name_or_path=str(folder))
    model = load_encoder(settings, ("a", "b", "c"), seed=0).model
    assert can_write_fused(model) is (model_type in FUSED_TYPES)
    write_onnx(model, tmp_path / "model.onnx")
    assert _measure_gap(model, tmp_path / "model.onnx") < 1e-4


@pytest.mark.parametrize("model_type", FUSED_TYPES)
def test_the_fused_graph_computes_what_the_model_computes(
    build_tiny_encoder: Callable[[str, Path], Path], tmp_path: Path, model_type: str
) -> None:
    folder = build_tiny_encoder(model_type, tmp_path / "base")
    settings = ModelSettings(model_name_or_path=str(folder))
    model = load_encoder(settings, ("a", "b", "c"), seed=0).model
    (tmp_path / "fused.onnx").write_bytes(write_fused_graph(model).SerializeToString())
    # Words lie in it in int8, which is all that differs.
    assert _measure_gap(model, tmp_path / "fused.onnx") < 0.02
    write_int8_onnx(model, tmp_path / "int8.onnx")
    assert _measure_gap(model, tmp_path / "int8.onnx") < 0.1


def _measure_gap(model: torch.nn.Module, path: Path) -> float:
    """Return the largest difference of logits over shapes, one with padding."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    rng, gaps = np.random.default_rng(0), []
    for reviews, tokens in ((1, 5), (3, 40), (1, 1)):
        ids = rng.integers(5, 100, (reviews, tokens))
        mask = np.ones_like(ids)
        if reviews > 1:
            ids[1, tokens // 2 :], mask[1, tokens // 2 :] = model.config.pad_token_id, 0  # type: ignore[union-attr, index]
        with torch.no_grad():
            inputs = {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}
            wanted = model(**inputs).logits.numpy()
        (found,) = session.run(["logits"], {"input_ids": ids, "attention_mask": mask})
        assert found.shape == wanted.shape
        gaps.append(float(np.abs(found - wanted).max()))
    return max(gaps)
