"""Frozen bases of 8 or 4 bits, by bitsandbytes on CUDA; the head, which is trained, stays whole."""

import importlib.util
from typing import Any

import torch
from transformers import BitsAndBytesConfig

from peft_sentiment.config import ModelSettings
from peft_sentiment.errors import SettingsError, build_missing_error
from peft_sentiment.model.architectures import ARCHITECTURES
from peft_sentiment.model.precision import pick_device


def build_loading_options(settings: ModelSettings, model_type: str) -> dict[str, Any]:
    """Return what `from_pretrained` needs to load a base in fewer bits; nothing for a whole one.

    Raises:
        SettingsError: this machine can't compute with such a base.
    """
    if settings.quantization == "none":
        return {}
    device = pick_device(settings.device)
    if device.type != "cuda":
        raise SettingsError(
            f"model.quantization is {settings.quantization!r}, but needs a CUDA device and this "
            f"run uses {device.type}, where bitsandbytes would unpack every weight for each "
            "product and be slower than a whole base. Leave it out; when memory is short, lower "
            "--max-tokens-per-batch or --max-length."
        )
    if importlib.util.find_spec("bitsandbytes") is None:
        raise build_missing_error(
            f"model.quantization = {settings.quantization} needs", "bitsandbytes", "quantization"
        )
    known = ARCHITECTURES.get(model_type)
    # Half of a head in few bits could not be trained: DistilBERT's has two modules.
    whole = [*known.head] if known else ["classifier", "score"]
    config = BitsAndBytesConfig(
        load_in_8bit=settings.quantization == "8bit",
        load_in_4bit=settings.quantization == "4bit",
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=torch.bfloat16,
        llm_int8_skip_modules=whole,
    )
    return {"quantization_config": config, "device_map": {"": device}}
