"""What is checked of a stranger's files before memory is taken for what they claim."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import nn

from peft_sentiment.files import require_small_config

SIZE_FIELDS = (
    "r", "init_r", "target_r", "rank_pattern", "num_virtual_tokens", "encoder_hidden_size",
    "token_dim", "n_frequency", "num_vectors", "vector_length",
)  # fmt: skip
"""Fields of peft's configs by which it makes room."""

SPARE_WEIGHTS = 50_000_000
"""Weights that a model may have beyond those in its files, for a head that is not trained yet."""


def require_sizes_of_weights(config: Path, shapes: Mapping[str, Sequence[int]]) -> None:
    """Check that an adapter's config claims no size that none of its weights has.

    Args:
        config: adapter_config.json.
        shapes: of the weights in adapter_model.safetensors.

    Raises:
        ValueError: it does; peft would take memory for it.
    """
    require_small_config(config)
    values = json.loads(config.read_text(encoding="utf-8"))
    largest = max((size for shape in shapes.values() for size in shape), default=0)
    for name in SIZE_FIELDS:
        for size in _list_numbers(values.get(name)):
            if size > largest:
                raise ValueError(f"{name} is {size:,}, but no weight is larger than {largest:,}")


def _list_numbers(value: Any) -> list[float]:  # noqa: ANN401 - any JSON value
    if isinstance(value, dict | list):
        items = value.values() if isinstance(value, dict) else value
        return [number for item in items for number in _list_numbers(item)]
    return [value] if isinstance(value, int | float) else []


def require_weights_for(model: nn.Module, folder: Path) -> None:
    """Check that a model is of the size of the weights in its folder.

    Args:
        model: on the meta device, where it takes no memory.
        folder: with its weights.

    Raises:
        ValueError: its config claims far more than there are.
    """
    needed = sum(weight.numel() for weight in model.parameters())
    stored = sum(count_stored_weights(path) for path in folder.glob("*.safetensors"))
    if needed > 2 * stored + SPARE_WEIGHTS:
        raise ValueError(f"config.json asks for {needed:,} weights, but there are {stored:,}")


def count_stored_weights(path: Path) -> int:
    """Return the number of weights in a safetensors file, of which only the header is read."""
    with safe_open(path, framework="pt") as file:
        return sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118


def require_names_inside(folder: Path) -> None:
    """Check that an index of weight files names files of its own folder only.

    Raises:
        ValueError: a name leads elsewhere.
    """
    for index in folder.glob("*.safetensors.index.json"):
        names = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
        for name in set(names):
            if Path(name).name != name:
                raise ValueError(f"{index.name} names {name!r}, which is no file of its folder")
