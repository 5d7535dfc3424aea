"""The frozen weights of a model divided among the processes that train it, by FSDP or DeepSpeed.

Each process keeps a part of every frozen weight, and gathers the rest of a layer to compute it.
What is trained stays whole in every process: it is a hundredth of the weights, and gradients,
checkpoints and averages are those of a training with a whole model. The settings are Accelerate's,
as `accelerate launch` hands them on. What divides a model is its `fsdp2_prepare_model` (by torch's
`fully_shard`; Zhao et al., 2023, arXiv:2304.11277) or DeepSpeed's stage 3 of ZeRO (Rajbhandari et
al., 2020, arXiv:1910.02054).
"""

import copy
import types
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from peft_sentiment.errors import SettingsError
from peft_sentiment.launchers import read_deepspeed_settings
from peft_sentiment.model.precision import Precision
from peft_sentiment.processes import Processes

OURS = {
    *("train_batch_size", "train_micro_batch_size_per_gpu", "gradient_accumulation_steps"),
    *("gradient_clipping", "optimizer", "scheduler", "fp16", "bf16", "amp"),
}
"""Sections of DeepSpeed's settings that this program's own settings stand for."""

MOST_TRAINED = 0.4
"""Share of the weights above which dividing the others gains little. Full fine-tuning has half:
peft keeps a frozen copy of what it trains whole."""


@contextmanager
def computing_model(
    model: nn.Module, precision: Precision, processes: Processes
) -> Iterator[nn.Module]:
    """Give what a training computes with: the model, or a copy divided among the processes.

    The copy's trained weights are those of the model itself. In the block the model's own frozen
    weights wait in main memory.

    Args:
        model: on the precision's device.
        precision: device and dtype.
        processes: at work.

    Raises:
        SettingsError: there is little to divide, or what is to divide it can't do as it is asked.
    """
    if not processes.sharding:
        yield model
        return
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    share = sum(w.numel() for w in trained) / sum(w.numel() for w in model.parameters())
    if share > MOST_TRAINED:
        raise SettingsError(
            f"{processes.sharding} divides frozen weights among the processes, but this method "
            f"trains {share:.0%} of all. Launch without --use_{processes.sharding.lower()}, or "
            "choose another --method."
        )
    _move_frozen(model, torch.device("cpu"))
    try:
        shared = copy.deepcopy(model, {id(weight): weight for weight in trained})
        if processes.sharding == "FSDP":
            yield _shard_by_fsdp(shared, precision)
        else:
            with _sharded_by_deepspeed(shared):
                yield shared
    finally:
        _move_frozen(model, precision.device)


@contextmanager
def whole_on_device(model: nn.Module, precision: Precision, processes: Processes) -> Iterator[None]:
    """Bring back, for this block, the frozen weights that `computing_model` has put away."""
    if not processes.sharding:
        yield
        return
    _move_frozen(model, precision.device)
    try:
        yield
    finally:
        _move_frozen(model, torch.device("cpu"))


def _move_frozen(model: nn.Module, device: torch.device) -> None:
    for tensor in (*model.parameters(), *model.buffers()):
        if not tensor.requires_grad:
            tensor.data = tensor.data.to(device)


def _shard_by_fsdp(model: nn.Module, precision: Precision) -> nn.Module:
    """Divide the weights that are frozen, in place, as Accelerate's FSDP does it.

    Accelerate opens FSDP on accelerators only, so what it divides a model by is called with what
    that reads of an `Accelerator`: then CPUs can do it too, over gloo.
    """
    from accelerate.utils.fsdp_utils import fsdp2_prepare_model

    asked = types.SimpleNamespace(
        state=types.SimpleNamespace(fsdp_plugin=_read_fsdp(model)),
        mixed_precision="no",  # autocast sees to it, as without FSDP
        device=precision.device,
        is_main_process=False,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of transformers, about an old name
        sharded: nn.Module = fsdp2_prepare_model(asked, model)
    return sharded


def _read_fsdp(model: nn.Module) -> Any:  # noqa: ANN401 - Accelerate's plugin
    """Return what `accelerate launch` was told of FSDP, with what is trained left out.

    Raises:
        SettingsError: Accelerate does not understand it.
    """
    from accelerate import FullyShardedDataParallelPlugin

    try:
        # Loading stays ours: every process reads the whole model first.
        plugin = FullyShardedDataParallelPlugin(cpu_ram_efficient_loading=False)
    except (ValueError, KeyError) as error:
        raise SettingsError(f"Accelerate can't read the settings of FSDP: {error}") from error
    plugin.ignored_modules = [module for module in model.modules() if _holds_trained(module)]
    if plugin.auto_wrap_policy is None:
        from torch.distributed.fsdp.wrap import transformer_auto_wrap_policy

        plugin.auto_wrap_policy = transformer_auto_wrap_policy  # a layer at a time
    return plugin


def _holds_trained(module: nn.Module) -> bool:
    return any(weight.requires_grad for weight in module.parameters(recurse=False))


@contextmanager
def _sharded_by_deepspeed(model: nn.Module) -> Iterator[None]:
    """Divide the weights that are frozen, in place, as DeepSpeed does it without an optimizer.

    DeepSpeed divides every parameter that a module knows. Trained weights are made plain attributes
    instead, which forward passes find by the same names.

    Raises:
        SettingsError: DeepSpeed can't do it as it is asked.
    """
    for module in model.modules():
        for name, weight in [*module.named_parameters(recurse=False)]:
            if weight.requires_grad:
                delattr(module, name)
                object.__setattr__(module, name, weight)
    try:
        import deepspeed

        engine, *_ = deepspeed.initialize(model=model, config=_configure_deepspeed(model))
    except Exception as error:  # its own, pydantic's, and those of compiling what CPUs need
        raise SettingsError(
            f"DeepSpeed can't divide the model: {error}. Its settings are those of `accelerate "
            "launch` and of its file. On CPUs it compiles a part of itself when first used, with "
            "g++ and ninja, which must be on the PATH."
        ) from error
    try:
        yield
    finally:
        engine.destroy()


def _configure_deepspeed(model: nn.Module) -> dict[str, Any]:
    """Return what `accelerate launch` was told of DeepSpeed, without what this program decides."""
    asked = {key: value for key, value in read_deepspeed_settings().items() if key not in OURS}
    dtype = next(model.parameters()).dtype
    return {
        **_drop_auto(asked),
        "train_micro_batch_size_per_gpu": 1,  # Some number is needed; what it computes has its own.
        "bf16": {"enabled": dtype == torch.bfloat16},
        "fp16": {"enabled": dtype == torch.float16},
    }


def _drop_auto(settings: dict[str, Any]) -> dict[str, Any]:
    """Return settings without those that are to be chosen, for which DeepSpeed has defaults."""
    return {
        key: _drop_auto(value) if isinstance(value, dict) else value
        for key, value in settings.items()
        if value != "auto"
    }
