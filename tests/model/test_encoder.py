"""An encoder is loaded as it is named, headed by its seed, and refused where it is not whole."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import MAX_POSITIONS, MODEL_TYPES, build_tiny_config, build_tiny_tokenizer
from tiny_training import load_tiny_encoder
from transformers import AutoModelForSequenceClassification

from peft_sentiment.config import ModelSettings
from peft_sentiment.errors import ModelError, SettingsError
from peft_sentiment.model.encoder import get_longest_input, load_encoder, require_length_fits


def change_config(folder: Path, **values: Any) -> None:  # noqa: ANN401 - any entry of a config
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def change_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def test_the_labels_are_named_in_the_config(tiny_distilbert: Path) -> None:
    settings = ModelSettings(model_name_or_path=str(tiny_distilbert))
    encoder = load_encoder(settings, ("bad", "fair", "good"), seed=0)
    config = encoder.model.config
    assert config.id2label == {0: "bad", 1: "fair", 2: "good"}
    assert config.label2id == {"bad": 0, "fair": 1, "good": 2}
    assert encoder.model(input_ids=torch.tensor([[2, 5, 3]])).logits.shape == (1, 3)


def test_the_seed_decides_the_head_and_nothing_else(tiny_distilbert: Path) -> None:
    first, again, other = (
        load_tiny_encoder(tiny_distilbert, seed).model.state_dict() for seed in (0, 0, 1)
    )
    assert all(torch.equal(first[name], again[name]) for name in first)
    changed = {name for name in first if not torch.equal(first[name], other[name])}
    assert changed == {"pre_classifier.weight", "classifier.weight"}


def test_loading_leaves_the_global_random_state_alone(tiny_distilbert: Path) -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    load_tiny_encoder(tiny_distilbert, seed=1)
    assert torch.equal(torch.rand(3), expected)


def test_the_fingerprint_follows_the_weights_and_not_the_place(
    tiny_distilbert: Path, own_distilbert: Path
) -> None:
    original = load_tiny_encoder(tiny_distilbert).sha256
    assert load_tiny_encoder(own_distilbert).sha256 == original
    change_weights(own_distilbert, lambda weights: next(iter(weights.values())).add_(1))
    assert load_tiny_encoder(own_distilbert).sha256 != original


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_body_dropout_off_makes_the_body_give_the_same_in_training(
    model_type: str, build_tiny_encoder: Callable[[str, Path], Path], tmp_path: Path
) -> None:
    folder = build_tiny_encoder(model_type, tmp_path / model_type)
    ids = torch.arange(5, 25)[None]
    for body_dropout in (False, True):
        body = load_tiny_encoder(folder, body_dropout=body_dropout).model.base_model.train()
        first, second = (body(input_ids=ids)[0] for _ in range(2))
        rate = getattr(body.config, "attention_dropout", 0.0)
        rate = max(rate, getattr(body.config, "hidden_dropout_prob", 0.0))
        rate = max(rate, getattr(body.config, "resid_pdrop", 0.0))
        # ModernBERT and ALBERT have no dropout in their bodies to begin with.
        assert torch.equal(first, second) is (rate == 0)
        assert body_dropout or rate == 0


def test_code_that_comes_with_a_model_is_never_run(own_distilbert: Path, tmp_path: Path) -> None:
    (own_distilbert / "own.py").write_text(
        f"open({str(tmp_path / 'was run')!r}, 'w')\nclass Own:\n    pass\n"
    )
    names = {"AutoConfig": "own.Own", "AutoModelForSequenceClassification": "own.Own"}
    change_config(own_distilbert, model_type="own", auto_map=names)
    with pytest.raises(ModelError, match="own"):
        load_tiny_encoder(own_distilbert)
    change_config(own_distilbert, model_type="distilbert")
    load_tiny_encoder(own_distilbert)
    assert not (tmp_path / "was run").exists()


def test_a_truncated_weights_file_is_refused(own_distilbert: Path) -> None:
    weights = own_distilbert / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    with pytest.raises(ModelError, match="corrupt"):
        load_tiny_encoder(own_distilbert)


def test_weights_of_another_architecture_are_refused(tiny_bert: Path, own_distilbert: Path) -> None:
    shutil.copyfile(tiny_bert / "model.safetensors", own_distilbert / "model.safetensors")
    with pytest.raises(ModelError, match=r"lack .* modules of the encoder"):
        load_tiny_encoder(own_distilbert)


@pytest.mark.parametrize(
    "part",
    [
        "distilbert.embeddings.word_embeddings.weight",
        "distilbert.embeddings.LayerNorm.bias",
        "distilbert.transformer.layer.1.attention.q_lin.weight",
    ],
)
def test_a_base_that_lacks_a_weight_of_the_encoder_is_refused(
    own_distilbert: Path, part: str
) -> None:
    change_weights(own_distilbert, lambda weights: weights.pop(part))
    with pytest.raises(ModelError, match=part.rpartition(".")[0]):
        load_tiny_encoder(own_distilbert)


def test_a_base_with_another_vocabulary_than_its_config_says_is_refused(
    own_distilbert: Path,
) -> None:
    change_config(own_distilbert, vocab_size=2000)
    with pytest.raises(ModelError, match="word_embeddings"):
        load_tiny_encoder(own_distilbert)


def test_a_head_in_the_base_is_kept_where_its_labels_are_as_many(own_distilbert: Path) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(own_distilbert, num_labels=2)
    model.save_pretrained(own_distilbert)
    loaded = load_tiny_encoder(own_distilbert, seed=5)
    assert loaded.new_modules == ()
    assert torch.equal(loaded.model.classifier.weight, model.classifier.weight)
    settings = ModelSettings(model_name_or_path=str(own_distilbert))
    assert load_encoder(settings, ("a", "b", "c"), 0).new_modules == ("classifier",)


def test_a_tokenizer_larger_than_the_vocabulary_is_refused(own_distilbert: Path) -> None:
    tokenizer = build_tiny_tokenizer()
    tokenizer.add_tokens(["zzyzx", "qwertz"])
    tokenizer.save_pretrained(own_distilbert)
    size = build_tiny_config("distilbert").vocab_size
    with pytest.raises(ModelError, match=f"{size + 2} tokens, the encoder {size}"):
        load_tiny_encoder(own_distilbert)


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_the_longest_input_is_the_longest_that_can_be_read(
    model_type: str, build_tiny_encoder: Callable[[str, Path], Path], tmp_path: Path
) -> None:
    encoder = load_tiny_encoder(build_tiny_encoder(model_type, tmp_path / model_type))
    longest = get_longest_input(encoder)
    assert longest == MAX_POSITIONS
    encoder.model(input_ids=torch.full((1, longest), 5))
    require_length_fits(encoder, longest)
    with pytest.raises(SettingsError, match=f"at most {longest} tokens.*--max-length"):
        require_length_fits(encoder, longest + 1)


@pytest.mark.parametrize("model_type", ["distilbert", "bert", "roberta", "mpnet"])
def test_more_than_the_longest_input_can_not_be_read(
    model_type: str, build_tiny_encoder: Callable[[str, Path], Path], tmp_path: Path
) -> None:
    encoder = load_tiny_encoder(build_tiny_encoder(model_type, tmp_path / model_type))
    with pytest.raises((IndexError, RuntimeError)):
        encoder.model(input_ids=torch.full((1, MAX_POSITIONS + 1), 5))
