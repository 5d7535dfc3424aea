"""What an adapter must hold to, on every architecture that is known."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from tiny_models import MODEL_TYPES, build_tiny_tokenizer
from tiny_runs import leave_sums_out
from tiny_training import (
    FLOAT32,
    LABELS,
    build_tiny_training,
    compute_logits,
    copy_weights,
    describe_base,
    draw_tokens,
    load_by_plain_peft,
    load_tiny_encoder,
)
from torch import nn
from transformers import AutoModelForSequenceClassification, DistilBertConfig

from peft_sentiment.config import AdapterSettings, ModelSettings
from peft_sentiment.data.batching import LabelledTokens
from peft_sentiment.errors import AdapterError, SettingsError
from peft_sentiment.evaluation.prediction import predict_logits
from peft_sentiment.model.adapters import add_adapter, alters_base, count_parameters
from peft_sentiment.model.architectures import ARCHITECTURES, is_linear
from peft_sentiment.model.encoder import Encoder
from peft_sentiment.model.metadata import load_metadata
from peft_sentiment.model.method_config import build_config
from peft_sentiment.model.saved_adapters import load_adapter, save_adapter
from peft_sentiment.training.loop import train_steps

LENGTHS = [12, 30, 7, 30, 18, 9, 25, 14]
EXACT = {"atol": 1e-6, "rtol": 1e-5}

STARTS = ("gaussian", "orthogonal", "pissa", "olora")
VARIANTS = (
    AdapterSettings(use_dora=True),
    AdapterSettings(use_rslora=True),
    AdapterSettings(bias="all"),
    AdapterSettings(bias="lora_only"),
    AdapterSettings(layers_to_transform=(1,)),
    AdapterSettings(target_modules=("all-linear",)),
    AdapterSettings(method_options={"rank_pattern": {"q_lin": 2}}),
    *(AdapterSettings(init_lora_weights=start) for start in STARTS),
)


def describe(settings: AdapterSettings) -> str:
    default = dataclasses.asdict(AdapterSettings())
    values = dataclasses.asdict(settings)
    return ",".join(f"{name}={values[name]}" for name in values if values[name] != default[name])


@pytest.fixture(scope="module", params=MODEL_TYPES)
def folder(
    request: pytest.FixtureRequest,
    build_tiny_encoder: Callable[[str, Path], Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """Folder of a tiny encoder of each type in turn."""
    return build_tiny_encoder(request.param, tmp_path_factory.mktemp("bases") / request.param)


@pytest.fixture(scope="module")
def train() -> LabelledTokens:
    tokens = draw_tokens(np.random.default_rng(0), LENGTHS)
    return LabelledTokens(tokens, np.arange(len(LENGTHS)) % 2, LABELS)


def train_two_steps(model: nn.Module, train: LabelledTokens) -> None:
    run = build_tiny_training(model, train, per_device_train_batch_size=4, warmup_steps=0.0)
    assert len(list(train_steps(run))) == 2


def test_a_new_adapter_changes_nothing(folder: Path, train: LabelledTokens) -> None:
    encoder = load_tiny_encoder(folder)
    before = compute_logits(encoder.model, train)
    model = add_adapter(encoder, AdapterSettings(), seed=0)
    torch.testing.assert_close(compute_logits(model, train), before, **EXACT)


def test_only_adapter_and_head_can_be_trained(folder: Path) -> None:
    encoder = load_tiny_encoder(folder)
    head = ARCHITECTURES[encoder.model.config.model_type].head
    model = add_adapter(encoder, AdapterSettings(), seed=0)
    trained = {name for name, weight in model.named_parameters() if weight.requires_grad}
    adapter = {name for name in trained if ".lora_A." in name or ".lora_B." in name}
    rest = {name.replace(".modules_to_save.default", "") for name in trained - adapter}
    targets = {name.split(".lora_")[0].rpartition(".")[2] for name in adapter}
    assert targets == set(ARCHITECTURES[encoder.model.config.model_type].targets)
    whole = (*head, *encoder.new_modules)
    assert all(any(f".{part}." in name for part in whole) for name in rest)
    assert all(any(f".{part}." in name for name in rest) for part in whole)


def test_training_moves_adapter_and_head_and_no_frozen_weight(
    folder: Path, train: LabelledTokens
) -> None:
    encoder = load_tiny_encoder(folder)
    # As the pipeline does: the base is scored first, which must not spoil its weights for training.
    predict_logits(encoder.model, train.reviews, 1, 4, FLOAT32)
    model = add_adapter(encoder, AdapterSettings(), seed=0)
    before = copy_weights(model)
    train_two_steps(model, train)
    for name, weight in model.named_parameters():
        assert torch.equal(weight, before[name]) is not weight.requires_grad, name


def test_saved_equals_loaded_by_us_and_by_plain_peft(
    folder: Path, train: LabelledTokens, tmp_path: Path
) -> None:
    encoder = load_tiny_encoder(folder, seed=3)
    model = add_adapter(encoder, AdapterSettings(), seed=0)
    train_two_steps(model, train)
    trained = compute_logits(model, train)
    save_adapter(model, encoder, describe_base(encoder), tmp_path / "adapter")
    # Another head seed than it was trained from: what counts is in the file.
    loaded, _, metadata = load_adapter(tmp_path / "adapter", ModelSettings())
    plain = load_by_plain_peft(folder, tmp_path / "adapter")
    assert dataclasses.replace(metadata, files=None, sha256=None) == describe_base(encoder)
    torch.testing.assert_close(compute_logits(loaded, train), trained, **EXACT)
    torch.testing.assert_close(compute_logits(plain, train), trained, atol=1e-5, rtol=1e-4)


def test_a_model_saved_twice_is_the_same_file(
    tiny_distilbert: Path, train: LabelledTokens, tmp_path: Path
) -> None:
    encoder = load_tiny_encoder(tiny_distilbert)
    model = add_adapter(encoder, AdapterSettings(), seed=0)
    save_adapter(model, encoder, describe_base(encoder), tmp_path / "first")
    loaded, base, metadata = load_adapter(tmp_path / "first", ModelSettings())
    save_adapter(loaded, base, metadata, tmp_path / "second")
    first, second = (
        {f.name: f.read_bytes() for f in (tmp_path / name).iterdir()}
        for name in ("first", "second")
    )
    assert first == second
    assert "adapter_model.safetensors" in first


@pytest.mark.parametrize("settings", VARIANTS, ids=describe)
def test_every_kind_of_lora_starts_as_the_base_and_comes_back_as_it_was_saved(
    tiny_distilbert: Path, train: LabelledTokens, tmp_path: Path, settings: AdapterSettings
) -> None:
    encoder = load_tiny_encoder(tiny_distilbert)
    before = compute_logits(encoder.model, train)
    model = add_adapter(encoder, settings, seed=0)
    torch.testing.assert_close(compute_logits(model, train), before, **EXACT)
    train_two_steps(model, train)
    trained = compute_logits(model, train)
    assert (trained - before).abs().max() > 1e-3
    save_adapter(model, encoder, describe_base(encoder), tmp_path / "adapter")
    loaded, _, _ = load_adapter(tmp_path / "adapter", ModelSettings())
    plain = load_by_plain_peft(tiny_distilbert, tmp_path / "adapter")
    torch.testing.assert_close(compute_logits(loaded, train), trained, **EXACT)
    torch.testing.assert_close(compute_logits(plain, train), trained, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("settings", VARIANTS, ids=describe)
def test_turning_the_adapter_off_gives_the_base_back_unless_it_is_altered(
    tiny_distilbert: Path, train: LabelledTokens, settings: AdapterSettings
) -> None:
    encoder = load_tiny_encoder(tiny_distilbert)
    before = compute_logits(encoder.model, train)
    model = add_adapter(encoder, settings, seed=0)
    train_two_steps(model, train)
    if alters_base(model):
        assert settings.bias != "none" or settings.init_lora_weights in ("pissa", "olora")
        return
    with model.disable_adapter():
        torch.testing.assert_close(compute_logits(model, train), before, **EXACT)


def test_the_same_seed_makes_the_same_adapter(tiny_distilbert: Path) -> None:
    first, again, other = (
        copy_weights(add_adapter(load_tiny_encoder(tiny_distilbert), AdapterSettings(), seed))
        for seed in (0, 0, 1)
    )
    assert all(torch.equal(first[name], again[name]) for name in first)
    changed = {name for name in first if not torch.equal(first[name], other[name])}
    assert changed == {name for name in first if ".lora_A." in name}


def test_adding_an_adapter_leaves_the_global_random_state_alone(tiny_distilbert: Path) -> None:
    encoder = load_tiny_encoder(tiny_distilbert)
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    add_adapter(encoder, AdapterSettings(), seed=0)
    assert torch.equal(torch.rand(3), expected)


def test_distilbert_has_294912_adapter_and_592130_head_weights() -> None:
    # The arithmetic: 6 layers x 2 modules x 16 x (768 + 768), and 768 x 768 + 768 + 768 x 2 + 2.
    config = DistilBertConfig(num_labels=2)
    with torch.device("meta"):
        base = AutoModelForSequenceClassification.from_config(config)
        total = base.num_parameters()
        encoder = Encoder(base, build_tiny_tokenizer(), "meta", None, Path(), "", ())  # type: ignore[arg-type]
        counts = count_parameters(add_adapter(encoder, AdapterSettings(r=16), seed=0))
    assert (counts.adapter, counts.head, counts.trainable) == (294_912, 592_130, 887_042)
    assert counts.total == total + counts.adapter
    assert counts.trainable_percent == pytest.approx(100 * 887_042 / counts.total)


def test_the_counts_are_those_of_the_saved_weights(folder: Path, tmp_path: Path) -> None:
    encoder = load_tiny_encoder(folder)
    model = add_adapter(encoder, AdapterSettings(), seed=0)
    counts = count_parameters(model)
    save_adapter(model, encoder, describe_base(encoder), tmp_path / "adapter")
    saved = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    adapter = sum(weight.numel() for name, weight in saved.items() if ".lora_" in name)
    head = sum(weight.numel() for name, weight in saved.items() if ".lora_" not in name)
    assert (counts.adapter, counts.head) == (adapter, head)


def test_all_linear_adapts_every_linear_layer_but_the_head(folder: Path) -> None:
    encoder = load_tiny_encoder(folder)
    model_type = encoder.model.config.model_type
    head = (*ARCHITECTURES[model_type].head, *encoder.new_modules)
    linear = {name for name, module in encoder.model.named_modules() if is_linear(module)}
    expected = {n for n in linear if not any(f".{part}." in f".{n}." for part in head)}
    model = add_adapter(encoder, AdapterSettings(target_modules=("all-linear",)), seed=0)
    assert list_adapted(model) == expected


def list_adapted(model: PeftModel) -> set[str]:
    return {
        name.removeprefix("base_model.model.").removesuffix(".lora_A")
        for name, _ in model.named_modules()
        if name.endswith(".lora_A")
    }


def test_all_linear_layers_of_some_blocks_only(tiny_distilbert: Path) -> None:
    settings = AdapterSettings(target_modules=("all-linear",), layers_to_transform=(1,))
    adapted = list_adapted(add_adapter(load_tiny_encoder(tiny_distilbert), settings, seed=0))
    assert len(adapted) == 6
    assert all(".layer.1." in name for name in adapted)
    assert len(adapted) >= 4


def test_an_unknown_target_is_refused_with_the_linear_layers_there_are(
    tiny_distilbert: Path,
) -> None:
    encoder = load_tiny_encoder(tiny_distilbert)
    with pytest.raises(SettingsError, match=r"no layer named query.*q_lin, k_lin, v_lin, out_lin"):
        add_adapter(encoder, AdapterSettings(target_modules=("q_lin", "query")), seed=0)


def test_an_unknown_architecture_is_refused_with_the_linear_layers_there_are(
    tiny_distilbert: Path,
) -> None:
    encoder = load_tiny_encoder(tiny_distilbert)
    encoder.model.config.model_type = "newbert"
    with pytest.raises(SettingsError, match=r"newbert is not a known architecture.*q_lin, k_lin"):
        add_adapter(encoder, AdapterSettings(), seed=0)
    known = dataclasses.replace(encoder, new_modules=())
    with pytest.raises(SettingsError, match=r"head of a newbert is not known.*--modules-to-save"):
        add_adapter(known, AdapterSettings(), seed=0)
    config = build_config(encoder, AdapterSettings(target_modules=("k_lin",)))
    assert set(config.modules_to_save) == {"pre_classifier", "classifier"}


def test_modules_that_the_base_lacks_are_saved_whatever_was_asked_for(tiny_bert: Path) -> None:
    encoder = load_tiny_encoder(tiny_bert)
    config = build_config(encoder, AdapterSettings(modules_to_save=("classifier",)))
    assert set(config.modules_to_save) == {"classifier", "bert.pooler.dense"}


def test_method_options_reach_peft(tiny_distilbert: Path) -> None:
    encoder = load_tiny_encoder(tiny_distilbert)
    options = {"rank_pattern": {"q_lin": 2}, "exclude_modules": ["distilbert.transformer.layer.0"]}
    model = add_adapter(encoder, AdapterSettings(r=8, method_options=options), seed=0)
    ranks = {
        name.split(".lora_A")[0].rpartition(".")[2]: weight.shape[0]
        for name, weight in model.named_parameters()
        if ".lora_A." in name
    }
    assert ranks == {"q_lin": 2, "v_lin": 8}


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"rank_patern": {}}, "rank_pattern"),
        ({"r": 4}, "set adapter.r"),
        ({"layer_replication": 3}, "peft refuses"),
    ],
)
def test_method_options_that_peft_does_not_have_are_refused(
    tiny_distilbert: Path, options: dict[str, Any], match: str
) -> None:
    encoder = load_tiny_encoder(tiny_distilbert)
    settings = AdapterSettings(init_lora_weights=True, method_options=options)
    with pytest.raises(SettingsError, match=match):
        add_adapter(encoder, settings, seed=0)


@pytest.fixture
def saved(tiny_distilbert: Path, tmp_path: Path) -> Path:
    """Folder of an untrained adapter for one test to damage."""
    encoder = load_tiny_encoder(tiny_distilbert)
    model = add_adapter(encoder, AdapterSettings(r=4), seed=0)
    save_adapter(model, encoder, describe_base(encoder), tmp_path / "adapter")
    return leave_sums_out(tmp_path / "adapter")


def test_an_adapter_is_refused_on_another_base(
    saved: Path, build_tiny_encoder: Callable[[str, Path], Path], tmp_path: Path
) -> None:
    other = build_tiny_encoder("distilbert", tmp_path / "other")
    weights = load_file(other / "model.safetensors")
    weights["distilbert.embeddings.LayerNorm.bias"] += 1e-3
    save_file(weights, other / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(AdapterError, match=r"made for .*other weights"):
        load_adapter(saved, ModelSettings(), base_name=str(other))


def test_an_adapter_finds_its_base_again_in_another_place(
    saved: Path, tiny_distilbert: Path, tmp_path: Path
) -> None:
    moved = shutil.copytree(tiny_distilbert, tmp_path / "moved")
    _, encoder, _ = load_adapter(saved, ModelSettings(), base_name=str(moved))
    assert encoder.name == str(moved)


@pytest.mark.parametrize("part", ["lora_A", "lora_B", "pre_classifier.weight", "classifier.bias"])
def test_a_weight_missing_in_the_file_is_refused(saved: Path, part: str) -> None:
    path = saved / "adapter_model.safetensors"
    weights = load_file(path)
    del weights[next(name for name in weights if part in name)]
    save_file(weights, path, metadata={"format": "pt"})
    with pytest.raises(AdapterError, match="Copy the folder again"):
        load_adapter(saved, ModelSettings())


def test_a_weight_too_many_is_refused(saved: Path) -> None:
    path = saved / "adapter_model.safetensors"
    weights = load_file(path) | {"base_model.model.nothing.lora_A.weight": torch.zeros(4, 4)}
    save_file(weights, path, metadata={"format": "pt"})
    with pytest.raises(AdapterError, match="nothing"):
        load_adapter(saved, ModelSettings())


@pytest.mark.parametrize("name", ["adapter_config.json", "peft_sentiment.json"])
@pytest.mark.parametrize("content", ["", "{", "[]", "{}", "null"])
def test_a_damaged_json_file_is_refused(saved: Path, name: str, content: str) -> None:
    (saved / name).write_text(content)
    with pytest.raises(AdapterError, match="Copy the folder again"):
        load_adapter(saved, ModelSettings())


def test_a_truncated_weights_file_of_an_adapter_is_refused(saved: Path) -> None:
    path = saved / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(AdapterError, match="corrupt"):
        load_adapter(saved, ModelSettings())


@pytest.mark.parametrize(
    "name", ["adapter_config.json", "adapter_model.safetensors", "peft_sentiment.json"]
)
def test_a_missing_file_of_an_adapter_is_named(saved: Path, name: str) -> None:
    (saved / name).unlink()
    with pytest.raises(AdapterError, match=f"lacks {name}"):
        load_metadata(saved)


def test_a_base_from_the_hub_is_named_by_its_name_and_revision(
    tiny_distilbert: Path, tmp_path: Path
) -> None:
    encoder = dataclasses.replace(
        load_tiny_encoder(tiny_distilbert), name="distilbert-base-uncased", revision="v1"
    )
    model = add_adapter(encoder, AdapterSettings(), seed=0)
    save_adapter(model, encoder, describe_base(encoder), tmp_path / "adapter")
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "distilbert-base-uncased"
    assert config["revision"] == "v1"


def test_the_base_is_named_so_that_plain_peft_finds_it(saved: Path, tiny_distilbert: Path) -> None:
    config = json.loads((saved / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(tiny_distilbert)
    assert set(config["modules_to_save"]) >= {"pre_classifier", "classifier"}
    assert len(config["modules_to_save"]) == len(set(config["modules_to_save"]))
