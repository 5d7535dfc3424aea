"""Adapters, made by `peft`: put on an encoder, turned off, counted; the head named."""

import itertools
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from peft import PeftConfig, PeftModel, PeftType, get_peft_model, initialize_lora_eva_weights
from peft.tuners.adalora import AdaLoraLayer
from peft.utils.other import AuxiliaryTrainingWrapper
from torch import nn

from peft_sentiment.config import AdapterSettings
from peft_sentiment.model.dropout import replace_dropouts
from peft_sentiment.model.encoder import Encoder
from peft_sentiment.model.last_layer import read_every_token, reading_every_token
from peft_sentiment.model.method_config import build_config, peft_settings_errors
from peft_sentiment.records import ParameterCounts

Batch = dict[str, torch.Tensor]
"""Arguments of a model: input_ids (B, T) and, where there is padding, attention_mask (B, T)."""


MOST_EVA_BATCHES = 500
"""Batches read for EVA at most; packaged reviews, 48 to 1,000 of them, have taken 22 to 83."""


def add_adapter(
    encoder: Encoder,
    settings: AdapterSettings,
    seed: int,
    batches: Iterable[Batch] | None = None,
) -> PeftModel:
    """Put a new adapter on the encoder; only it and the head can be trained from then on.

    Args:
        encoder: changed in place: peft wraps its model.
        settings: of the adapter.
        seed: of the adapter's weights.
        batches: training reviews, for a method that starts from what the encoder makes of them.

    Raises:
        SettingsError: the encoder can't have the method, the target modules are unknown or not
            in the model, or peft refuses the settings.
    """
    config = build_config(encoder, settings)
    # peft takes the base's name from the model, which only knows the folder it was read from.
    encoder.model.name_or_path = config.base_model_name_or_path
    prepare_base(encoder, config)
    with torch.random.fork_rng(), peft_settings_errors(), quiet_peft():
        torch.manual_seed(seed)
        model = get_peft_model(encoder.model, config)
        if settings.method == "eva":
            _start_from(model, [] if batches is None else list(batches))
    replace_dropouts(model)
    return model


def prepare_base(encoder: Encoder, config: PeftConfig) -> None:
    """Make a base ready for an adapter: a prefix is read by whole layers only."""
    if config.peft_type == PeftType.PREFIX_TUNING:
        read_every_token(encoder.model)


@dataclass(frozen=True)
class _Repeated:
    """Batches over and over, as peft reads them for EVA until nothing changes any more.

    It would read on for ever where a batch has fewer tokens than directions are sought.
    """

    batches: list[Batch]

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Batch]:
        yield from itertools.islice(itertools.cycle(self.batches), MOST_EVA_BATCHES)
        raise ValueError(
            f"eva has found no directions to start from in {MOST_EVA_BATCHES:,} batches of the "
            "training reviews; it takes more or longer reviews, or a smaller r"
        )


def _start_from(model: PeftModel, batches: list[Batch]) -> None:
    """Start LoRA at the principal parts of what its layers read (EVA, Paischer et al., 2024)."""
    if not batches:
        raise ValueError("eva starts from training reviews, and there are none")
    with reading_every_token(get_bare_model(model)):
        initialize_lora_eva_weights(
            model,
            dataloader=_Repeated(batches),
            prepare_model_inputs_fn=lambda batch, _config: batch["attention_mask"].bool(),
            prepare_layer_inputs_fn=_list_read_rows,
            show_progress_bar=False,
        )


def _list_read_rows(inputs: Any, is_real: torch.Tensor, _name: str) -> torch.Tensor:  # noqa: ANN401
    """Return the rows that a layer reads: of real tokens, or of whatever else it is given.

    DeBERTa's layers also read positions, which have a shape of their own.
    """
    x: torch.Tensor = inputs[0] if isinstance(inputs, tuple) else inputs
    return x[is_real] if x.shape[:-1] == is_real.shape else x.flatten(0, -2)


def settle_ranks(model: PeftModel) -> None:
    """Note which ranks of AdaLoRA are in use, so that what is saved is what the model computes.

    peft notes them for the last step; the weights may be those of an earlier one.
    """
    config: Any = model.active_peft_config
    if config.peft_type != PeftType.ADALORA:
        return
    modules = get_bare_model(model).named_modules()
    layers = {name: part for name, part in modules if isinstance(part, AdaLoraLayer)}
    used = {f"{name}.lora_E": (layer.lora_E["default"] != 0) for name, layer in layers.items()}
    # Of a loaded adapter the unused ranks are gone already, and its pattern is the saved one.
    if all(len(mask) == config.init_r for mask in used.values()):
        config.rank_pattern = {name: mask.view(-1).tolist() for name, mask in used.items()}


def alters_base(model: PeftModel) -> bool:
    """Tell whether turning the adapter off leaves something else than the base.

    Trained biases are the base's own, and PiSSA and OLoRA take what they start from out of its
    weights.
    """
    config: Any = model.peft_config["default"]
    start = getattr(config, "init_lora_weights", True)
    return getattr(config, "bias", "none") != "none" or start in ("pissa", "olora")


@contextmanager
def adapter_off(model: PeftModel) -> Iterator[None]:
    """Let a model compute as its base with the untrained head, unless `alters_base`."""
    if not model.active_peft_config.is_prompt_learning:
        with model.disable_adapter():
            yield
        return
    # peft's own block leaves the trained head on for these, and fails for most encoders.
    wrapped = [part for part in model.modules() if isinstance(part, AuxiliaryTrainingWrapper)]
    for part in wrapped:
        part.enable_adapters(False)
    vars(model)["forward"] = model.get_base_model().forward
    try:
        yield
    finally:
        del vars(model)["forward"]
        for part in wrapped:
            part.enable_adapters(True)


def get_bare_model(model: nn.Module) -> Any:  # noqa: ANN401 - a model of transformers
    """Return the model of transformers that an adapter is on, with the adapter in it."""
    return model.get_base_model() if isinstance(model, PeftModel) else model


def count_parameters(model: PeftModel) -> ParameterCounts:
    """Count the weights of adapter, head and model, without peft's copy of the untrained head.

    A weight that is trained inside the encoder is one of the adapter, whatever the method.
    """
    adapter = head = frozen = 0
    prefix = get_bare_model(model).base_model_prefix
    for name, parameter in model.named_parameters():
        if ".original_module." in name:
            continue
        if not parameter.requires_grad:
            frozen += parameter.numel()
        elif ".modules_to_save." in name and not _is_part_of_body(name, prefix):
            head += parameter.numel()
        else:
            adapter += parameter.numel()
    trainable, total = adapter + head, adapter + head + frozen
    return ParameterCounts(adapter, head, trainable, total, 100 * trainable / total)


def _is_part_of_body(name: str, prefix: str) -> bool:
    """Tell whether a module that is trained whole is the encoder or a layer of it."""
    is_layer = prefix == "model" and name.startswith("base_model.model.model.")
    return is_layer or f".{prefix}.modules_to_save." in name


@contextmanager
def quiet_peft() -> Iterator[None]:
    """Mute what peft says of settings that are as they should be, and what we refuse ourselves."""
    with warnings.catch_warnings():
        for message in MUTED:
            warnings.filterwarnings("ignore", message)
        yield


MUTED = (
    "`is_gradient_checkpointing`",  # a name that transformers is to drop
    "Found missing adapter keys",  # we refuse the adapter
    "lora with eva initialization used with low_cpu_mem_usage",
    "The following rank_pattern keys did not match",  # AdaLoRA's name weights, not modules
    "Failed to load the CUDA extension",  # BOFT computes without it
    "Setting boft_n_butterfly_factor to 1 to speed up",
    "Unsupported layer type",  # any norm that is trained
)
"""Beginnings of peft's warnings."""
