"""`peft-sentiment doctor`: what this machine has, what it costs, and what is missing."""

import platform
from collections.abc import Iterator

import psutil
import torch
from huggingface_hub import constants, get_session, scan_cache_dir
from huggingface_hub.errors import CacheNotFound, HTTPError  # type: ignore[attr-defined]
from rich.console import Console
from rich.table import Table
from rich.text import Text

from peft_sentiment.config import PACKAGED_MODELS, TrainingSettings
from peft_sentiment.errors import PeftSentimentError
from peft_sentiment.inference.environment import read_versions
from peft_sentiment.model.packaged import get_cache_folder, load_packaged_folder
from peft_sentiment.model.precision import choose_precision, pick_device
from peft_sentiment.model.speed import EncoderShape, load_measurement

HUB_TIMEOUT = 3.0
"""Seconds that the hub has for an answer."""

Finding = tuple[str, str]
"""What was looked at, and what was found."""


def show_diagnosis(console: Console) -> None:
    """Look at everything a run depends on, and show what was found."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(overflow="fold")
    grid.add_column(overflow="fold")
    for name, finding in examine():
        grid.add_row(Text(name, "bold"), Text(finding))
    console.print(grid)


def examine() -> Iterator[Finding]:
    """Yield one finding after the other."""
    yield "Python", f"{platform.python_version()} on {platform.platform()}"
    yield "Libraries", ", ".join(f"{name} {version}" for name, version in read_versions().items())
    memory = psutil.virtual_memory()
    yield "Memory", f"{memory.available / 2**30:.1f} of {memory.total / 2**30:.1f} GiB free"
    yield from _examine_device()
    yield from _examine_packaged_models()
    yield "Cached models", _list_cached_models()
    yield "Hub", _ask_hub()


def _examine_device() -> Iterator[Finding]:
    device = pick_device("auto")
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    yield "Device", f"{name}, {torch.get_num_threads()} threads"
    measured = load_measurement(device, EncoderShape())
    for dtype_name, rate in measured.matmul_rates.items():
        yield f"  {dtype_name}", f"{rate / 1e9:,.0f} GFLOP/s in matrix products"
    for what, timings in (
        ("scoring", measured.scoring_seconds),
        ("training", measured.training_seconds),
    ):
        for dtype_name, lengths in timings.items():
            yield (
                f"  attention, {what}, {dtype_name}",
                "; ".join(
                    f"{length} tokens: "
                    + ", ".join(f"{form} {1e3 * seconds:.1f} ms" for form, seconds in forms.items())
                    for length, forms in lengths.items()
                ),
            )
    precision = choose_precision(device, TrainingSettings())
    yield "  in use", f"{precision.dtype_name} ({precision.reason})"
    yield "  ", f"attention: {precision.attention_forms.describe()}"


def _examine_packaged_models() -> Iterator[Finding]:
    for name in PACKAGED_MODELS:
        try:
            yield name, f"whole, in {load_packaged_folder(name)}"
        except PeftSentimentError as error:
            yield name, str(error)
    yield "Own cache", f"{get_cache_folder()} (PEFT_SENTIMENT_CACHE names another)"


def _list_cached_models() -> str:
    try:
        repositories = scan_cache_dir().repos
    except CacheNotFound:
        return f"none in {constants.HF_HUB_CACHE}"
    names = sorted(f"{repository.repo_type} {repository.repo_id}" for repository in repositories)
    return f"{', '.join(names) or 'none'} in {constants.HF_HUB_CACHE}"


def _ask_hub() -> str:
    if constants.HF_HUB_OFFLINE:
        return "not asked: HF_HUB_OFFLINE is set"
    try:
        answer = get_session().get(f"{constants.ENDPOINT}/api/models?limit=1", timeout=HUB_TIMEOUT)
    except (HTTPError, OSError) as error:
        return (
            f"{constants.ENDPOINT} can't be reached ({type(error).__name__}); "
            "packaged and cached models work"
        )
    return f"{constants.ENDPOINT} answers with status {answer.status_code}"
