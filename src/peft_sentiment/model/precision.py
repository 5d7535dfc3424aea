"""Device and dtype: picked by what is there and by what is measured to be fast."""

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn.functional import linear

from peft_sentiment.config import TrainingSettings
from peft_sentiment.errors import SettingsError

PROBE_SHAPE = (2048, 384, 1536)
"""Tokens, inputs and outputs of the matrix product that is timed: the packaged model's widest."""

WORTHWHILE_SPEED_UP = 1.3
"""bfloat16 must be this much faster than float32 to be worth its rounding."""


@dataclass(frozen=True)
class Precision:
    """How the matrix products compute.

    Attributes:
        dtype: of the matrix products; weights and optimizer stay in float32.
        reason: why this dtype, in words.
    """

    device: torch.device
    dtype: torch.dtype
    reason: str

    @property
    def dtype_name(self) -> str:
        """Name without the `torch.` in front."""
        return str(self.dtype).removeprefix("torch.")

    def autocast(self) -> torch.autocast:
        """Return a block in which the matrix products compute in `dtype`."""
        enabled = self.dtype != torch.float32
        dtype = self.dtype if enabled else torch.bfloat16
        return torch.autocast(self.device.type, dtype=dtype, enabled=enabled)


def pick_device(asked: str) -> torch.device:
    """Return the device asked for; `auto` takes CUDA, then MPS, then the CPU.

    Raises:
        SettingsError: there is no such device here.
    """
    if asked == "auto":
        return torch.device(next(kind for kind in ("cuda", "mps", "cpu") if _is_available(kind)))
    try:
        device = torch.device(asked)
    except RuntimeError:
        device = None
    if device is None or not _is_available(device.type, device.index):
        here = ", ".join(kind for kind in ("cuda", "mps", "cpu") if _is_available(kind))
        raise SettingsError(
            f"model.device is {asked!r}, but this machine has: {here}. "
            "Set --device to one of them or to auto."
        )
    return device


def _is_available(kind: str, index: int | None = None) -> bool:
    if kind == "cuda":
        return torch.cuda.is_available() and (index or 0) < torch.cuda.device_count()
    if kind == "mps":
        return torch.backends.mps.is_available()
    return kind == "cpu"


def choose_precision(device: torch.device, settings: TrainingSettings) -> Precision:
    """Return the dtype that the settings ask for or, where they leave it open, the faster one.

    Raises:
        SettingsError: fp16 on a device that has no use for it.
    """
    if settings.fp16:
        if device.type != "cuda":
            raise SettingsError(
                f"training.fp16 is on, but needs a CUDA device and this run uses {device.type}. "
                "Leave it off; --bf16 is chosen by itself where it is faster."
            )
        return Precision(device, torch.float16, "fp16 is on")
    if settings.bf16 is not None:
        dtype = torch.bfloat16 if settings.bf16 else torch.float32
        return Precision(device, dtype, f"bf16 is {'on' if settings.bf16 else 'off'}")
    if device.type == "mps":
        return Precision(device, torch.float32, "bfloat16 is not measured on MPS")
    rates = measure_matmul_rates(device)
    speed_up = rates[torch.bfloat16] / rates[torch.float32]
    is_worth_it = speed_up >= WORTHWHILE_SPEED_UP
    dtype = torch.bfloat16 if is_worth_it else torch.float32
    return Precision(device, dtype, f"measured: bfloat16 runs at {speed_up:.2f} x float32 here")


def measure_matmul_rates(device: torch.device) -> dict[torch.dtype, float]:
    """Time one matrix product of the model's shape in float32 and bfloat16.

    Returns:
        dtype -> operations a second (a multiply and an add count as two).
    """
    tokens, inputs, outputs = PROBE_SHAPE
    rates = {}
    for dtype in (torch.float32, torch.bfloat16):
        x = torch.ones(tokens, inputs, dtype=dtype, device=device)
        weight = torch.ones(outputs, inputs, dtype=dtype, device=device)
        seconds = _time_best(functools.partial(linear, x, weight), device)
        rates[dtype] = 2 * tokens * inputs * outputs / seconds
    return rates


def _time_best(call: Callable[[], object], device: torch.device, tries: int = 4) -> float:
    """Return the shortest of several timings, in seconds: noise only ever adds."""
    seconds = []
    for _ in range(tries):
        start = time.perf_counter()
        call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - start)
    return min(seconds)
