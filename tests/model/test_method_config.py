"""Settings that a method or an encoder can't have are refused; its own are handed to peft."""

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig
from tiny_training import load_tiny_encoder

from peft_sentiment.config import (
    METHODS,
    UNTARGETED_METHODS,
    AdapterSettings,
    TrainingSettings,
    list_presets,
    load_settings,
)
from peft_sentiment.errors import SettingsError
from peft_sentiment.model import adapters
from peft_sentiment.model.adapters import add_adapter
from peft_sentiment.model.learning_rates import get_learning_rate_ratios
from peft_sentiment.model.method_config import build_config


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"method": "prefix_tuning"}, "distilbert can't have: it takes no keys and values"),
        ({"method": "ia3", "bias": "all"}, "ia3 has no such choice"),
        ({"method": "ia3", "layers_to_transform": (1,)}, "ia3 has no such choice"),
        ({"method": "head", "layers_to_transform": (1,)}, "head has no such choice"),
        ({"method": "vera", "method_options": {"d_initail": 1}}, "Did you mean d_initial"),
        ({"method": "vera", "method_options": {"feedforward_modules": []}}, "VeraConfig|yours"),
        (
            {"method": "lora", "method_options": {"loraplus_lr_ratio": 2}},
            "no argument of peft.Lora",
        ),
        ({"method": "lora+", "method_options": {"loraplus_lr_ratio": "x"}}, "a number above 0"),
        ({"method": "dora", "method_options": {"use_dora": False}}, "not yours to choose"),
        ({"method": "adalora", "method_options": {"total_step": 5}}, "not yours to choose"),
        ({"method": "vblora", "method_options": {"vector_length": 7}}, "peft refuses"),
    ],
)
def test_what_a_method_can_not_have_is_refused_before_training(
    tiny_distilbert: Path, settings: dict[str, Any], match: str
) -> None:
    encoder = load_tiny_encoder(tiny_distilbert)
    chosen = AdapterSettings(**settings)
    with pytest.raises(SettingsError, match=match):
        _ = (
            add_adapter(encoder, chosen, 0),
            get_learning_rate_ratios(chosen, TrainingSettings(), ()),
        )


@pytest.mark.parametrize("preset", list_presets())
@pytest.mark.parametrize("method", [name for name in METHODS if name != "prefix_tuning"])
def test_every_preset_goes_with_every_method(
    tiny_distilbert: Path, preset: str, method: str
) -> None:
    settings = load_settings(preset, overrides={"adapter": {"method": method}})
    assert build_config(load_tiny_encoder(tiny_distilbert), settings.adapter)


@pytest.mark.parametrize("method", UNTARGETED_METHODS)
def test_layers_that_are_named_for_a_method_without_a_choice_are_refused(method: str) -> None:
    typed = {"method": method, "target_modules": ["all-linear"]}
    with pytest.raises(SettingsError, match=f"the method {method} leaves no choice"):
        load_settings(overrides={"adapter": typed})


def test_a_method_takes_its_own_options_under_peft_s_names(tiny_distilbert: Path) -> None:
    encoder = load_tiny_encoder(tiny_distilbert)
    settings = AdapterSettings(method="vera", method_options={"r": 8, "d_initial": 0.5})
    config: Any = build_config(encoder, settings)
    assert (config.r, config.d_initial) == (8, 0.5)
    kinds = [AdapterSettings(method=name) for name in ("rslora", "dora", "pissa")]
    configs = [build_config(encoder, kind) for kind in kinds]
    assert all(isinstance(config, LoraConfig) for config in configs)
    assert [c.use_rslora for c in configs] == [True, False, False]  # type: ignore[attr-defined]
    assert [c.use_dora for c in configs] == [False, True, False]  # type: ignore[attr-defined]
    assert configs[2].init_lora_weights == "pissa"  # type: ignore[attr-defined]


@pytest.mark.parametrize("settings", [{"method": "dora"}, {"use_dora": True}])
def test_dora_leaves_out_a_layer_with_an_output_of_zeros(
    tiny_distilbert: Path, settings: dict[str, Any]
) -> None:
    # Such as the queries of the layer that takes the mean of the packaged encoder's tokens.
    encoder = load_tiny_encoder(tiny_distilbert)
    blank = "distilbert.transformer.layer.1.attention.q_lin"
    ids = torch.arange(1, 9)[None]  # (1, T)
    with torch.no_grad():
        encoder.model.get_submodule(blank).weight[3] = 0
        before = encoder.model.eval()(input_ids=ids).logits
    model = add_adapter(encoder, AdapterSettings(**settings), 0).eval()
    assert torch.allclose(model(input_ids=ids).logits, before, atol=1e-6)
    adapted = {
        name.partition(".lora_A")[0] for name, _ in model.named_modules() if "lora_A" in name
    }
    assert f"base_model.model.{blank}" not in adapted
    assert len(adapted) == 3


def test_eva_ends_where_reviews_are_too_few_for_its_directions(
    tiny_distilbert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapters, "MOST_EVA_BATCHES", 3)
    ids = torch.ones(1, 2, dtype=torch.long)  # two tokens, for r * rho = 32 directions
    batches = [{"input_ids": ids, "attention_mask": ids}]
    settings = AdapterSettings(method="eva", r=16)
    with pytest.raises(SettingsError, match="no directions to start from in 3 batches"):
        add_adapter(load_tiny_encoder(tiny_distilbert), settings, 0, batches)
