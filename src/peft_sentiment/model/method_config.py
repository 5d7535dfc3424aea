"""The configuration of peft for a method, made from the settings for one encoder."""

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from peft import PeftConfig, TaskType
from transformers.pytorch_utils import Conv1D

from peft_sentiment.config import LORA_METHODS, UNTARGETED_METHODS, AdapterSettings
from peft_sentiment.errors import SettingsError, suggest
from peft_sentiment.model.architectures import ends_with, find_head_modules, find_target_modules
from peft_sentiment.model.encoder import Encoder
from peft_sentiment.model.learning_rates import LORAPLUS_RATIO
from peft_sentiment.model.methods import LORA_NAMES, METHODS, STARTS, Arguments

FIXED_OPTIONS = (
    "task_type", "peft_type", "base_model_name_or_path", "revision", "inference_mode",
    "auto_mapping", "peft_version", "feedforward_modules", "total_step",
)  # fmt: skip
"""Arguments of peft's config classes that are not a user's to choose."""

SHARED_SETTINGS = ("target_modules", "modules_to_save", "bias", "layers_to_transform")
"""Settings that are meant for any method whose config class has an argument of that name."""

ADALORA_SETTINGS = ("lora_alpha", "lora_dropout")


def build_config(encoder: Encoder, settings: AdapterSettings) -> PeftConfig:
    """Return peft's configuration for these settings and this encoder.

    Raises:
        SettingsError: the method is not for this encoder, an option is not the method's, the
            target modules are unknown or not in the model, or peft refuses the settings.
    """
    method = METHODS[settings.method]
    known = {item.name for item in dataclasses.fields(method.config_class)}
    require_possible(encoder, settings)
    _require_known_options(settings, known)
    head = find_head_modules(encoder, settings.modules_to_save)
    values: Arguments = {
        "task_type": TaskType.SEQ_CLS,
        "modules_to_save": list(head),
        "base_model_name_or_path": _name_base(encoder),
        "revision": encoder.revision,
        **_read_settings(settings, known),
    }
    has_targets = settings.method not in UNTARGETED_METHODS
    if "target_modules" in known and has_targets:
        values["target_modules"] = list(find_target_modules(encoder, settings.target_modules, head))
    values |= method.arguments(encoder, head)
    if settings.target_modules is not None and has_targets:
        values["target_modules"] = list(find_target_modules(encoder, settings.target_modules, head))
    if "feedforward_modules" in values:
        both = [n for n in values["feedforward_modules"] if n in values["target_modules"]]
        values["feedforward_modules"] = both
    values |= settings.method_options
    values.pop(LORAPLUS_RATIO, None)
    if "fan_in_fan_out" in known:
        values["fan_in_fan_out"] = _is_transposed(encoder, values.get("target_modules"))
    if values.get("use_dora") and "exclude_modules" not in settings.method_options:
        values["exclude_modules"] = _find_lengthless(encoder, values["target_modules"]) or None
    with peft_settings_errors():
        return method.config_class(**values)


def require_possible(encoder: Encoder, settings: AdapterSettings) -> None:
    """Check that an encoder can have a method, before any time is spent on it.

    Raises:
        SettingsError: it can't, with the reason.
    """
    method = METHODS[settings.method]
    reason = method.refuse(encoder)
    if method.needs_torch_linear and any(isinstance(m, Conv1D) for m in encoder.model.modules()):
        reason = "peft has it for torch's linear layers only, and these are transposed"
    if not method.quantized and getattr(encoder.model, "is_quantized", False):
        reason = "peft can't compute it on a base of 4 or 8 bits"
    if reason is not None:
        raise SettingsError(
            f"adapter.method is {settings.method!r}, which a {encoder.model.config.model_type} "
            f"can't have: {reason}. Choose another method, such as lora, with --method."
        )


@contextmanager
def peft_settings_errors() -> Iterator[None]:
    """Turn what peft raises for settings that do not go together into our error.

    Raises:
        SettingsError: peft has refused something in the block.
    """
    try:
        yield
    except (
        ValueError, TypeError, AttributeError, KeyError, ImportError, NotImplementedError,
    ) as error:  # fmt: skip
        reason = " ".join(str(error).split()).rstrip(".")
        raise SettingsError(
            f"adapter: peft refuses these settings: {reason}. "
            "Correct what the message names, or leave it out."
        ) from error


def _name_base(encoder: Encoder) -> str:
    """Return what plain peft finds the base by: for a packaged one, its folder on this machine."""
    return str(encoder.folder) if encoder.name.startswith("packaged/") else encoder.name


def _read_settings(settings: AdapterSettings, known: set[str]) -> Arguments:
    """Return the values of the settings that a method's config class has.

    Raises:
        SettingsError: a setting meant for any method is set, but this one does not have it.
    """
    names = [name for name in SHARED_SETTINGS if name in ("bias", "layers_to_transform")]
    if settings.method in LORA_METHODS:
        names += [n for n in LORA_NAMES if n in known]
    elif settings.method == "adalora":
        names += ADALORA_SETTINGS
    values = {name: getattr(settings, name) for name in names}
    for name, nothing in (("bias", "none"), ("layers_to_transform", None)):
        if values[name] == nothing:
            values.pop(name)
        elif name not in known or settings.method in ("head", "bitfit", "full"):
            raise SettingsError(
                f"adapter.{name} is {values[name]!r}, but the method {settings.method} has no such "
                "choice. Leave it out."
            )
    if "layers_to_transform" in values:
        values["layers_to_transform"] = list(values["layers_to_transform"])
    return values | STARTS.get(settings.method, {})


def _require_known_options(settings: AdapterSettings, known: set[str]) -> None:
    own = {item.name for item in dataclasses.fields(AdapterSettings)} - {"method"}
    if settings.method not in LORA_METHODS:
        own -= set(LORA_NAMES) - (set(ADALORA_SETTINGS) if settings.method == "adalora" else set())
    extra = {LORAPLUS_RATIO} if settings.method == "lora+" else set()
    title = METHODS[settings.method].config_class.__name__
    for name in settings.method_options:
        where = f"adapter.method_options.{name}"
        if name in FIXED_OPTIONS or name in STARTS.get(settings.method, {}):
            raise SettingsError(
                f"{where} is not yours to choose: it follows from the method, the task and the "
                "base. Leave it out."
            )
        if name in own:
            raise SettingsError(f"{where} is a setting of its own; set adapter.{name}.")
        if name not in known | extra:
            choices = sorted((known | extra) - set(FIXED_OPTIONS) - own)
            raise SettingsError(
                f"{where} is no argument of peft.{title}. " + suggest(name, choices)
            )


def _find_lengthless(encoder: Encoder, targets: Sequence[str]) -> list[str]:
    """Return the layers of which an output has only weights of 0: DoRA would divide by 0 there.

    It takes a weight apart into the length of each output's row and its direction (Liu et al.,
    2024). The queries of a layer that takes the mean of all tokens have neither.
    """
    found = []
    for name, module in encoder.model.named_modules():
        weight = getattr(module, "weight", None)
        if not any(ends_with(name, target) for target in targets) or weight is None:
            continue
        if weight.is_floating_point() and weight.ndim == 2:  # not of 4 or 8 bits
            inputs = 0 if isinstance(module, Conv1D) else 1
            if not weight.any(dim=inputs).all():
                found.append(name)
    return found


def _is_transposed(encoder: Encoder, targets: Any) -> bool:  # noqa: ANN401 - a list or a text
    if not isinstance(targets, list):
        return False
    return any(
        isinstance(module, Conv1D) and any(ends_with(name, target) for target in targets)
        for name, module in encoder.model.named_modules()
    )
