"""What `torchrun` and `accelerate launch` tell the processes that they start.

They do it by environment variables. What this program can't do is refused before it begins.
"""

import importlib.util
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

from peft_sentiment.errors import SettingsError, build_missing_error

Sharding = Literal["", "FSDP", "DeepSpeed"]
"""What divides frozen weights among the processes; empty for nothing."""

FSDP = "ACCELERATE_USE_FSDP"
DEEPSPEED = "ACCELERATE_USE_DEEPSPEED"
MEGATRON = "ACCELERATE_USE_MEGATRON_LM"


def is_launched() -> bool:
    """Tell whether a launcher has started this process as one of several."""
    return count_launched("WORLD_SIZE", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE") > 1


def count_local() -> int:
    """Return how many processes were started on this machine."""
    return count_launched("LOCAL_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS")


def count_launched(*names: str) -> int:
    """Return the first of these environment variables that holds a number, or else 1."""
    return next((int(text) for name in names if (text := os.environ.get(name, "")).isdigit()), 1)


def is_restarted() -> bool:
    """Tell whether torchrun has started the processes anew, after one of them had died."""
    is_watched = "TORCHELASTIC_RUN_ID" in os.environ
    return is_watched and os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0"


def choose_sharding() -> Sharding:
    """Return what the launcher wants frozen weights divided by.

    Raises:
        SettingsError: it is not what this program can do, or not installed.
    """
    if _is_set(MEGATRON):
        raise SettingsError(
            f"{MEGATRON} is set: Megatron-LM has models of its own. Launch without it; what "
            "divides the frozen weights here is FSDP (--use_fsdp --fsdp_version 2) or DeepSpeed "
            "(--use_deepspeed --zero_stage 3)."
        )
    if _is_set(DEEPSPEED):
        read_deepspeed_settings()
        return "DeepSpeed"
    if not _is_set(FSDP):
        return ""
    if os.environ.get("FSDP_VERSION", "1") != "2":
        raise SettingsError(
            f"{FSDP} is set and FSDP_VERSION is {os.environ.get('FSDP_VERSION', '1')}, but "
            "adapters need version 2, which divides weight by weight. Launch with --fsdp_version 2."
        )
    return "FSDP"


def read_deepspeed_settings() -> dict[str, Any]:
    """Return DeepSpeed's settings, as Accelerate reads them from its variables and its file.

    Raises:
        SettingsError: DeepSpeed is not installed, they can't be read, or are not those of stage 3.
    """
    if importlib.util.find_spec("deepspeed") is None:
        raise build_missing_error("--use_deepspeed needs", "DeepSpeed", "deepspeed")
    from accelerate import DeepSpeedPlugin

    try:
        plugin = DeepSpeedPlugin()
    except (ValueError, OSError, AttributeError) as error:
        raise SettingsError(f"Accelerate can't read the settings of DeepSpeed: {error}") from error
    if plugin.zero_stage != 3:
        raise SettingsError(
            f"DeepSpeed is asked for with ZeRO stage {plugin.zero_stage}, but here only stage 3 "
            "has anything to divide: the frozen weights. What the others divide belongs to trained "
            "weights, which are few. Launch with --zero_stage 3, or without --use_deepspeed."
        )
    settings: dict[str, Any] = plugin.deepspeed_config
    return settings


@contextmanager
def sharding_untold() -> Iterator[None]:
    """Hide from all libraries, for this block, that the launcher wants weights divided.

    transformers would load the model into the first process alone, and Accelerate would wrap it.
    """
    told = {name: os.environ.pop(name) for name in (FSDP, DEEPSPEED) if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(told)


def _is_set(variable: str) -> bool:
    return os.environ.get(variable, "").lower() in ("1", "true")
