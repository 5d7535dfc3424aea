"""What is labelled soon after the start gets exactly the probabilities of the whole classifier."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_runs import TinyRun
from tokenizers import Tokenizer

from peft_sentiment.inference.classifier import SentimentClassifier
from peft_sentiment.inference.loading import load_labeller
from peft_sentiment.inference.quick import QuickClassifier
from peft_sentiment.model.merged import load_merged_model
from peft_sentiment.records.reviews import Reviews

TEXTS = ["good", "A superb, superb film!", "ein schöner Film 🎬", "bad dull worst " * 40]

Train = Callable[..., Path]


@pytest.fixture
def train(tiny_distilbert: Path, tiny_bert: Path, tiny_reviews: Reviews, tmp_path: Path) -> Train:
    def train_tiny(model_type: str = "distilbert", **settings: Any) -> Path:  # noqa: ANN401
        base = {"distilbert": tiny_distilbert, "bert": tiny_bert}[model_type]
        classifier = SentimentClassifier(
            model_name_or_path=str(base),
            max_length=32,
            num_train_epochs=1,
            device="cpu",
            **settings,
        ).fit(tiny_reviews.texts, tiny_reviews.labels)
        classifier.save(tmp_path / "adapter")
        return tmp_path / "adapter"

    return train_tiny


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("model_type", ["distilbert", "bert"])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"use_rslora": True, "r": 3},
        {"target_modules": ("all-linear",), "method": "lora"},
        {"window_length": 12},
        {"method": "bitfit"},
        {"bias": "all"},
        {"bias": "lora_only"},
        {"method": "head"},
    ],
    ids=["default", "rslora", "every layer", "windows", "biases", "all", "lora_only", "head"],
)
def test_the_quick_form_says_what_the_classifier_says(
    train: Train, model_type: str, settings: dict[str, Any], bf16: bool
) -> None:
    folder = train(model_type, **settings)
    labeller = load_labeller(folder, {"training": {"bf16": bf16}})
    assert isinstance(labeller, QuickClassifier)
    expected = SentimentClassifier.load(folder, bf16=bf16).predict_reviews(TEXTS)
    predictions = labeller.predict_reviews(TEXTS)
    np.testing.assert_array_equal(predictions.probabilities, expected.probabilities)
    np.testing.assert_array_equal(predictions.is_cut, expected.is_cut)
    assert predictions.label_names == expected.label_names


@pytest.mark.parametrize(
    "settings",
    [{"use_dora": True}, {"init_lora_weights": "pissa"}, {"method": "full"}, {"method": "ia3"}],
    ids=str,
)
def test_an_adapter_that_is_not_plain_lora_takes_the_whole_classifier(
    train: Train, settings: dict[str, Any]
) -> None:
    folder = train(**settings)
    assert load_merged_model(folder) is None
    assert isinstance(load_labeller(folder, {}), SentimentClassifier)


def test_a_base_whose_tokenizer_pads_and_cuts_is_read(
    tiny_distilbert: Path, tiny_reviews: Reviews, tmp_path: Path
) -> None:
    base = tmp_path / "base"
    shutil.copytree(tiny_distilbert, base)
    tokenizer = Tokenizer.from_file(str(base / "tokenizer.json"))
    tokenizer.enable_padding(length=24)
    tokenizer.enable_truncation(24)
    tokenizer.save(str(base / "tokenizer.json"))
    settings: dict[str, Any] = {"max_length": 32, "num_train_epochs": 1, "device": "cpu"}
    classifier = SentimentClassifier(model_name_or_path=str(base), **settings)
    classifier.fit(tiny_reviews.texts, tiny_reviews.labels).save(tmp_path / "adapter")
    labeller = load_labeller(tmp_path / "adapter", {})
    assert isinstance(labeller, QuickClassifier)
    np.testing.assert_array_equal(
        labeller.predict_reviews(TEXTS).probabilities,
        classifier.predict_reviews(TEXTS).probabilities,
    )


def _truncate_weights(folder: Path) -> None:
    path = folder / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def _change_scale(folder: Path) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "alpha_pattern": {"q_lin": 1}}))


def _change_base(folder: Path) -> None:
    path = folder / "peft_sentiment.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "base_sha256": "0" * 64}))


def _drop_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


@pytest.mark.parametrize("spoil", [_truncate_weights, _change_scale, _change_base, _drop_tokenizer])
def test_a_folder_that_is_not_in_order_is_left_to_the_classifier_to_judge(
    tiny_run: TinyRun, spoil: Callable[[Path], None]
) -> None:
    assert load_merged_model(tiny_run.adapter) is not None
    spoil(tiny_run.adapter)
    assert load_merged_model(tiny_run.adapter) is None


def test_labelling_imports_none_of_what_takes_seconds(finished_tiny_run: TinyRun) -> None:
    code = f"""
import sys
from peft_sentiment.cli import main
assert main(["predict", "good", "--adapter", {str(finished_tiny_run.adapter)!r}]) == 0
print([name for name in ("transformers", "peft", "sklearn", "pandas") if name in sys.modules])
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.splitlines()[-1] == "[]"
