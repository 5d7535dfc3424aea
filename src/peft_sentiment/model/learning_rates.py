"""Learning rates: which one suits a method, and whose weights have one of their own."""

import dataclasses
import math
from collections.abc import Mapping, Sequence

from peft_sentiment.config import UNTARGETED_METHODS, AdapterSettings, TrainingSettings
from peft_sentiment.errors import SettingsError
from peft_sentiment.model.encoder import Encoder

REFERENCE_WIDTH = 384
"""Width of the encoder that the rates were chosen on."""

LEARNING_RATES: Mapping[str, float] = {
    "lora": 2e-3, "rslora": 6e-4, "dora": 2e-3, "lora+": 3e-4, "pissa": 1e-3, "olora": 1e-3,
    "orthogonal": 2e-3, "eva": 2e-3, "adalora": 2e-2, "ia3": 2e-2, "vera": 6e-2, "loha": 2e-2,
    "lokr": 2e-2, "oft": 3e-3, "boft": 1e-2, "fourierft": 3e-2, "vblora": 2e-2, "randlora": 6e-4,
    "hra": 6e-3, "ln_tuning": 3e-3, "prefix_tuning": 1e-2, "prompt_tuning": 1e-2, "p_tuning": 1e-3,
    "bitfit": 6e-3, "head": 2e-3, "full": 1e-4,
}  # fmt: skip
"""Method -> its highest rate with `REFERENCE_WIDTH`: docs/experiments.md, 2026-11-27."""

SHARE_IN_EVERY_LAYER = 0.5
"""Of the rate, where every linear layer is adapted: at the whole one 20,000 reviews were lost."""

LORAPLUS_RATIO = "loraplus_lr_ratio"
"""Option of lora+: the learning rate of B over that of A; peft's name for it."""

DEFAULT_LORAPLUS_RATIO = 16.0


def choose_learning_rate(encoder: Encoder, adapter: AdapterSettings) -> float:
    """Return the highest learning rate that suits a method on an encoder.

    It falls with the encoder's width, as the rate of a weight matrix under Adam has to for like
    changes of what it computes (Yang et al., Tensor Programs V, 2022). A narrower encoder than
    the one of the rates has theirs.
    """
    width = int(getattr(encoder.model.config, "hidden_size", REFERENCE_WIDTH))
    rate = LEARNING_RATES[_name_kind(adapter)] * min(1.0, REFERENCE_WIDTH / width)
    targets = None if adapter.method in UNTARGETED_METHODS else adapter.target_modules
    if targets is not None and "all-linear" in targets:
        rate *= SHARE_IN_EVERY_LAYER
    return rate


def _name_kind(adapter: AdapterSettings) -> str:
    """Return the method that the settings come to: lora with use_rslora is rslora."""
    if adapter.method != "lora":
        return adapter.method
    start = adapter.init_lora_weights
    if adapter.use_rslora:
        return "rslora"
    return start if isinstance(start, str) and start in LEARNING_RATES else "lora"


def settle_learning_rates(
    encoder: Encoder, adapter: AdapterSettings, training: TrainingSettings
) -> TrainingSettings:
    """Return the settings of a training with the rates that they leave to the method.

    Beside a method with a higher rate than that of a head alone, the head has its own.
    """
    if training.learning_rate:
        return training
    rate = choose_learning_rate(encoder, adapter)
    highest = choose_learning_rate(encoder, AdapterSettings(method="head"))
    head = training.head_learning_rate or (highest if rate > highest else 0.0)
    return dataclasses.replace(training, learning_rate=rate, head_learning_rate=head)


def get_learning_rate_ratios(
    settings: AdapterSettings, training: TrainingSettings, head: Sequence[str]
) -> dict[str, float]:
    """Return module -> factor of its weights' learning rate, of those that have one of their own.

    Args:
        settings: of the adapter.
        training: where both rates are set.
        head: its modules.

    Raises:
        SettingsError: LoRA+'s factor is no number above 0.
    """
    ratios = _get_lora_plus_ratio(settings)
    if training.head_learning_rate and settings.method != "head":
        ratios |= dict.fromkeys(head, training.head_learning_rate / training.learning_rate)
    return ratios


def _get_lora_plus_ratio(settings: AdapterSettings) -> dict[str, float]:
    """Return the factor of B's learning rate.

    Source: Hayou et al., LoRA+: Efficient Low Rank Adaptation of Large Models, 2024.
    """
    if settings.method != "lora+":
        return {}
    ratio = settings.method_options.get(LORAPLUS_RATIO, DEFAULT_LORAPLUS_RATIO)
    if not isinstance(ratio, int | float) or not 0 < ratio < math.inf:
        raise SettingsError(
            f"adapter.method_options.{LORAPLUS_RATIO} is {ratio!r}, but must be a number above 0."
        )
    return {"lora_B": float(ratio)}
