"""What computes: libraries, device, and the commit of the source tree."""

import importlib.metadata
import subprocess
from pathlib import Path

import torch

from peft_sentiment.model.precision import Precision
from peft_sentiment.records import Environment

GIT_TIMEOUT = 5.0
"""Seconds that the question for the source tree's commit may take."""


def read_versions() -> dict[str, str]:
    """Return the versions of the libraries that results depend on, by distribution."""
    names = ("peft-sentiment", "torch", "transformers", "peft", "accelerate", "tokenizers")
    return {name: importlib.metadata.version(name) for name in names}


def describe_environment(precision: Precision) -> Environment:
    """Make the record of what computes."""
    return Environment(
        versions=read_versions(),
        device=str(precision.device),
        dtype=precision.dtype_name,
        dtype_reason=precision.reason,
        attention=precision.attention_forms.describe(),
        threads=torch.get_num_threads(),
        commit=find_commit(),
    )


def find_commit() -> str | None:
    """Return the git commit of the source tree, or None for an installed package."""
    folder = Path(__file__).parents[3]
    if not (folder / ".git").exists():
        return None
    try:
        answer = subprocess.run(  # noqa: S603 - fixed words
            ["git", "-C", str(folder), "rev-parse", "HEAD"],  # noqa: S607 - the git of PATH
            capture_output=True,
            text=True,
            timeout=GIT_TIMEOUT,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()
