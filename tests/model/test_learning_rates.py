"""The rate that a method takes where none is named."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from tiny_training import load_tiny_encoder
from torch import nn

from peft_sentiment.config import METHODS, AdapterSettings, TrainingSettings
from peft_sentiment.model.encoder import Encoder
from peft_sentiment.model.learning_rates import (
    LEARNING_RATES,
    REFERENCE_WIDTH,
    choose_learning_rate,
    settle_learning_rates,
)
from peft_sentiment.training.method_steps import build_optimizer


@pytest.fixture
def encoder(tiny_distilbert: Path) -> Encoder:
    return load_tiny_encoder(tiny_distilbert)


def test_every_method_has_a_rate() -> None:
    assert set(LEARNING_RATES) == set(METHODS)


def test_a_wider_encoder_takes_less_in_proportion_and_a_narrower_one_no_more(
    encoder: Encoder,
) -> None:
    full, rate = AdapterSettings(method="full"), LEARNING_RATES["full"]
    assert encoder.model.config.hidden_size < REFERENCE_WIDTH
    assert choose_learning_rate(encoder, full) == rate
    encoder.model.config.hidden_size = 2 * REFERENCE_WIDTH
    assert choose_learning_rate(encoder, full) == rate / 2


def test_adapters_in_every_linear_layer_take_half(encoder: Encoder) -> None:
    everywhere = AdapterSettings(target_modules=("all-linear",))
    assert choose_learning_rate(encoder, everywhere) == LEARNING_RATES["lora"] / 2
    for method in ("full", "bitfit", "prompt_tuning"):  # which have no choice of layers
        settings = dataclasses.replace(everywhere, method=method)
        assert choose_learning_rate(encoder, settings) == LEARNING_RATES[method]


@pytest.mark.parametrize(
    ("settings", "kind"),
    [
        ({"use_rslora": True}, "rslora"),
        ({"init_lora_weights": "pissa"}, "pissa"),
        ({"init_lora_weights": "gaussian"}, "lora"),
        ({"use_dora": True}, "dora"),
    ],
)
def test_lora_with_the_settings_of_another_method_has_its_rate(
    encoder: Encoder, settings: dict[str, Any], kind: str
) -> None:
    assert choose_learning_rate(encoder, AdapterSettings(**settings)) == LEARNING_RATES[kind]


def test_a_rate_that_is_named_stays(encoder: Encoder) -> None:
    named = TrainingSettings(learning_rate=0.5)
    assert settle_learning_rates(encoder, AdapterSettings(), named) == named


def test_the_head_learns_at_its_own_highest_rate_beside_a_faster_method(encoder: Encoder) -> None:
    unnamed = TrainingSettings()
    for method, rate in LEARNING_RATES.items():
        settled = settle_learning_rates(encoder, AdapterSettings(method=method), unnamed)
        assert settled.learning_rate == rate
        assert (settled.head_learning_rate or rate) == min(rate, LEARNING_RATES["head"])
    encoder.model.config.hidden_size = 2 * REFERENCE_WIDTH
    wide = settle_learning_rates(encoder, AdapterSettings(method="vera"), unnamed)
    assert wide.head_learning_rate == LEARNING_RATES["head"] / 2
    slow = dataclasses.replace(unnamed, head_learning_rate=1e-5)
    settled = settle_learning_rates(encoder, AdapterSettings(method="vera"), slow)
    assert settled.head_learning_rate == 1e-5


def test_no_training_begins_at_a_rate_that_is_still_to_be_chosen() -> None:
    with pytest.raises(ValueError, match="settle it"):
        build_optimizer(nn.Linear(1, 1), TrainingSettings(), {})
