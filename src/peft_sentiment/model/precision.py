"""Device, dtype and form of attention: picked by what is there and what is measured to be fast."""

from dataclasses import dataclass, field

import torch

from peft_sentiment.config import TrainingSettings
from peft_sentiment.errors import SettingsError
from peft_sentiment.model.attention import AttentionForm
from peft_sentiment.model.speed import AttentionForms, EncoderShape, load_measurement

WORTHWHILE_SPEED_UP = 1.3
"""bfloat16 must be this much faster than float32 to be worth its rounding."""


@dataclass(frozen=True)
class Precision:
    """How a model computes.

    Attributes:
        dtype: of the frozen weights and the activations; what is trained stays in float32.
        reason: why this dtype, in words.
        attention_forms: which form attention takes.
    """

    device: torch.device
    dtype: torch.dtype
    reason: str
    attention_forms: AttentionForms = field(default_factory=AttentionForms)

    @property
    def dtype_name(self) -> str:
        """Name without the `torch.` in front."""
        return str(self.dtype).removeprefix("torch.")

    def choose_form(self, length: int) -> AttentionForm:
        """Return the form of attention for a review of so many tokens that is trained on."""
        return self.attention_forms.choose_for_training(length)

    def choose_scoring_form(self, length: int) -> AttentionForm:
        """Return the form for a review that is only scored."""
        return self.attention_forms.choose_for_scoring(length)

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


def choose_precision(
    device: torch.device, settings: TrainingSettings, shape: EncoderShape | None = None
) -> Precision:
    """Return the dtype that the settings ask for or, where they leave it open, the faster one.

    Args:
        device: to compute on.
        settings: what is asked for.
        shape: of the encoder.

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
    if settings.deterministic:
        dtype = torch.bfloat16 if settings.bf16 else torch.float32
        return Precision(device, dtype, "deterministic is on: nothing is chosen by speed")
    if device.type == "mps":
        dtype = torch.bfloat16 if settings.bf16 else torch.float32
        return Precision(device, dtype, "bfloat16 is not measured on MPS")
    measured = load_measurement(device, shape or EncoderShape())
    if settings.bf16 is not None:
        is_low, reason = settings.bf16, f"bf16 is {'on' if settings.bf16 else 'off'}"
    else:
        is_low = measured.speed_up >= WORTHWHILE_SPEED_UP
        reason = f"measured: bfloat16 runs at {measured.speed_up:.2f} x float32 here"
    dtype = torch.bfloat16 if is_low else torch.float32
    if device.type != "cpu":
        return Precision(device, dtype, reason)
    name = str(dtype).removeprefix("torch.")
    return Precision(device, dtype, reason, measured.choose_forms(name))
