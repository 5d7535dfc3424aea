"""Methods of parameter-efficient fine-tuning: which `peft` config each gets, and what it can't do.

Every method, full fine-tuning included, becomes a `peft` model, so that all of them are saved,
loaded and turned off in the same way, by us and by plain `peft`.
"""

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import peft
from peft import PeftConfig
from peft.utils.constants import DUMMY_TARGET_MODULES
from torch import nn

from peft_sentiment.config import AdapterSettings
from peft_sentiment.model.architectures import (
    find_architecture,
    find_feedforward_modules,
    find_norms,
    is_inside,
    is_linear,
)
from peft_sentiment.model.encoder import Encoder

VIRTUAL_TOKENS = 20
"""Tokens that are learnt in front of a review, where the user names no other number."""

LONGEST_VECTOR = 256
"""peft's own length of VB-LoRA's vectors; a divisor of it where it does not divide the layers."""

Arguments = dict[str, Any]
"""Arguments of a config class of peft."""


@dataclass(frozen=True)
class Method:
    """One method.

    Attributes:
        config_class: of peft.
        trains: what is trained besides the head, in words.
        can_merge: whether it can be computed into the base's own weights.
        quantized: whether it works on a base of 4 or 8 bits.
        needs_torch_linear: whether peft has it for `nn.Linear` only, not for GPT-2's layers.
        arguments: further arguments of the config class, made for an encoder.
        refuse: says why an encoder can't have it, or None.
    """

    config_class: type[PeftConfig]
    trains: str
    can_merge: bool = True
    quantized: bool = False
    needs_torch_linear: bool = False
    arguments: Callable[[Encoder, tuple[str, ...]], Arguments] = field(
        default=lambda _encoder, _head: {}
    )
    refuse: Callable[[Encoder], str | None] = field(default=lambda _encoder: None)


def count_virtual_tokens(settings: AdapterSettings) -> int:
    """Return how many places of the encoder a method takes in front of each review."""
    if settings.method not in ("prompt_tuning", "p_tuning"):
        return 0
    return int(settings.method_options.get("num_virtual_tokens", VIRTUAL_TOKENS))


def _target_keys(encoder: Encoder, _head: tuple[str, ...]) -> Arguments:
    """Return what IA3 scales: keys, values, and the feed-forward part's second layer's input."""
    architecture, feedforward = find_architecture(encoder), list(find_feedforward_modules(encoder))
    if architecture is None:
        return {"feedforward_modules": []}
    return {
        "target_modules": [*architecture.keys, *feedforward],
        "feedforward_modules": feedforward,
    }


def _target_norms(encoder: Encoder, head: tuple[str, ...]) -> Arguments:
    return {"target_modules": list(find_norms(encoder, head))}


def _target_nothing(_encoder: Encoder, _head: tuple[str, ...]) -> Arguments:
    return {"target_modules": DUMMY_TARGET_MODULES}


def _target_body(encoder: Encoder, head: tuple[str, ...]) -> Arguments:
    """Return the whole encoder, and those parts of the head that are not in it."""
    prefix = encoder.model.base_model_prefix
    outside = [name for name in head if not name.startswith(f"{prefix}.")]
    # peft would take its own `base_model.model` for a body of the name `model`.
    body = _list_parts(encoder.model.base_model, prefix) if prefix == "model" else [prefix]
    return {"target_modules": DUMMY_TARGET_MODULES, "modules_to_save": [*body, *outside]}


def _list_parts(module: nn.Module, name: str) -> list[str]:
    """Return the names of a module's parts that have weights; of a list, those of its members."""
    parts: list[str] = []
    for child_name, child in module.named_children():
        full = f"{name}.{child_name}"
        if isinstance(child, nn.ModuleList):
            parts += [f"{full}.{i}" for i in range(len(child))]
        elif any(True for _ in child.parameters()):
            parts.append(full)
    return parts


def _fit_vectors(encoder: Encoder, head: tuple[str, ...]) -> Arguments:
    """Return the longest vectors up to peft's 256 that divide every layer's inputs and outputs."""
    sizes = [
        size
        for name, module in encoder.model.named_modules()
        if is_linear(module) and not is_inside(name, head)
        for size in module.weight.shape
    ]
    common = math.gcd(*sizes)
    longest = max(n for n in range(1, LONGEST_VECTOR + 1) if common % n == 0)
    return {"vector_length": longest}


def _size_prompts(encoder: Encoder, _head: tuple[str, ...]) -> Arguments:
    """Return what peft does not find in every config: the size of a token."""
    config: Any = encoder.model.config
    embeddings: Any = encoder.model.get_input_embeddings()
    return {
        "num_virtual_tokens": VIRTUAL_TOKENS,
        "token_dim": int(embeddings.embedding_dim),
        "num_layers": int(config.num_hidden_layers),
        "num_attention_heads": int(config.num_attention_heads),
    }


def _size_prefix(encoder: Encoder, head: tuple[str, ...]) -> Arguments:
    config: Any = encoder.model.config
    return _size_prompts(encoder, head) | {"token_dim": int(config.hidden_size)}


def _refuse_without_biases(encoder: Encoder) -> str | None:
    body = encoder.model.base_model.named_parameters()
    has_biases = any(name.endswith("bias") and "pooler" not in name for name, _ in body)
    return None if has_biases else "its encoder has no biases"


def _refuse_without_past(encoder: Encoder) -> str | None:
    forwards = (encoder.model.forward, encoder.model.base_model.forward)
    takes = any("past_key_values" in inspect.signature(forward).parameters for forward in forwards)
    return None if takes else "it takes no keys and values from outside, as a prefix would be"


def _refuse_decoder(encoder: Encoder) -> str | None:
    architecture = find_architecture(encoder)
    if architecture is None or not architecture.is_decoder:
        return None
    return "its head reads the last token, which it can't tell from padding behind learnt tokens"


MANY_STEPS = 10**9


def _refuse_named_head(encoder: Encoder) -> str | None:
    architecture = find_architecture(encoder)
    if architecture is not None and "head" in architecture.head:
        return "peft takes its own network, which ends in mlp_head, for the module named head"
    return _refuse_decoder(encoder)


LORA_NAMES = ("r", "lora_alpha", "lora_dropout", "use_rslora", "use_dora", "init_lora_weights")

STARTS: Mapping[str, Arguments] = {
    "rslora": {"use_rslora": True},
    "dora": {"use_dora": True},
    **{name: {"init_lora_weights": name} for name in ("pissa", "olora", "orthogonal", "eva")},
}
"""Method -> the arguments of LoRA that it stands for."""

_LOW_RANK = "A and B of a low-rank update of query and value"

METHODS: Mapping[str, Method] = {
    "lora": Method(peft.LoraConfig, _LOW_RANK, quantized=True),
    "rslora": Method(peft.LoraConfig, f"{_LOW_RANK}, scaled by 1 / sqrt(r)", quantized=True),
    "dora": Method(peft.LoraConfig, f"{_LOW_RANK}, and each output's size apart", quantized=True),
    "lora+": Method(peft.LoraConfig, f"{_LOW_RANK}, B with a larger learning rate", quantized=True),
    "pissa": Method(peft.LoraConfig, f"{_LOW_RANK}, begun at the weights' principal parts"),
    "olora": Method(
        peft.LoraConfig,
        f"{_LOW_RANK}, begun at a QR decomposition of the weights",
        needs_torch_linear=True,
    ),
    "orthogonal": Method(peft.LoraConfig, f"{_LOW_RANK}, begun orthogonal", quantized=True),
    "eva": Method(
        peft.LoraConfig,
        f"{_LOW_RANK}, begun at the principal parts of what the layers read of the training "
        "reviews, and ranks shared out by them",
        quantized=True,
        arguments=lambda _encoder, _head: {"eva_config": peft.EvaConfig()},
    ),
    "adalora": Method(
        peft.AdaLoraConfig,
        "an update in the form of a singular value decomposition, whose ranks are shared out "
        "while training",
        quantized=True,
        # Training puts in its own number of steps, which is not known yet.
        arguments=lambda _encoder, _head: {"total_step": MANY_STEPS},
    ),
    "ia3": Method(
        peft.IA3Config,
        "a factor for each key, value and inner feature of the feed-forward part",
        quantized=True,
        arguments=_target_keys,
    ),
    "vera": Method(
        peft.VeraConfig, "two vectors a layer around a frozen random update", quantized=True
    ),
    "loha": Method(
        peft.LoHaConfig, "the elementwise product of two low-rank updates", needs_torch_linear=True
    ),
    "lokr": Method(
        peft.LoKrConfig, "the Kronecker product of small matrices", needs_torch_linear=True
    ),
    "oft": Method(
        peft.OFTConfig, "a rotation of each layer's inputs, in blocks", needs_torch_linear=True
    ),
    "boft": Method(
        peft.BOFTConfig, "the same as a product of sparse rotations", needs_torch_linear=True
    ),
    "fourierft": Method(peft.FourierFTConfig, "some Fourier coefficients of the update"),
    "vblora": Method(
        peft.VBLoRAConfig,
        "a bank of vectors that all layers share, and which of them make up A and B",
        arguments=_fit_vectors,
    ),
    "randlora": Method(
        peft.RandLoraConfig, "factors of a sum of frozen random updates", quantized=True
    ),
    "hra": Method(peft.HRAConfig, "a chain of Householder reflections", needs_torch_linear=True),
    "ln_tuning": Method(
        peft.LNTuningConfig,
        "the norms of the encoder",
        quantized=True,
        arguments=_target_norms,
    ),
    "prefix_tuning": Method(
        peft.PrefixTuningConfig,
        "keys and values put in front of each layer's own",
        can_merge=False,
        quantized=True,
        arguments=_size_prefix,
        refuse=_refuse_without_past,
    ),
    "prompt_tuning": Method(
        peft.PromptTuningConfig,
        "embeddings put in front of each review",
        can_merge=False,
        quantized=True,
        arguments=_size_prompts,
        refuse=_refuse_decoder,
    ),
    "p_tuning": Method(
        peft.PromptEncoderConfig,
        "the same, made by a small network while training",
        can_merge=False,
        quantized=True,
        arguments=_size_prompts,
        refuse=_refuse_named_head,
    ),
    "bitfit": Method(
        peft.LoraConfig,
        "the biases of the encoder",
        arguments=lambda encoder, head: _target_nothing(encoder, head) | {"bias": "all"},
        refuse=_refuse_without_biases,
    ),
    "head": Method(peft.LoraConfig, "nothing", quantized=True, arguments=_target_nothing),
    "full": Method(peft.LoraConfig, "every weight of the encoder", arguments=_target_body),
}
"""Name of a method, as --method takes it -> what is known of it."""
