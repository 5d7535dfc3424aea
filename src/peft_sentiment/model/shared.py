"""One encoder in memory for several adapters: what they have in common is there once.

What is shared is found by its values, not by the method of an adapter: weights of the same name
that are equal bit for bit. An adapter that has changed weights of the base keeps its own.
"""

import copy
from collections.abc import Iterator
from typing import Any, TypeVar

import torch
from peft import PeftModel
from torch import nn

from peft_sentiment.model.attention import ChooseForm
from peft_sentiment.model.linear import FrozenLinear, Projection
from peft_sentiment.model.lora import build_merged_projection
from peft_sentiment.model.packed import PackedModel
from peft_sentiment.model.readers import read_packed_model

Model = TypeVar("Model", bound=nn.Module)

OWN_PART = "default"
"""peft's name for what belongs to an adapter and not to its base."""

WRAPPERS = frozenset({"base_model", "model", "base_layer", "original_module"})
"""Parts of a weight's name that peft adds when it wraps a module."""


class SharedEncoder:
    """The weights of a base, and its linear layers as the fast path computes them.

    Weights must not be trained once they are shared.
    """

    def __init__(self) -> None:
        self._weights: dict[str, torch.Tensor] = {}
        self._places: frozenset[int] = frozenset()
        self._layers: dict[tuple[int, torch.dtype], FrozenLinear] = {}

    def share(self, model: nn.Module) -> int:
        """Let a model's weights lie where equal ones lie already; the first model's are kept.

        Returns:
            Bytes that are in memory once instead of twice.
        """
        if not self._weights:
            self._weights = {name: weight.data for name, weight in _iterate_base_weights(model)}
            self._places = frozenset(weight.data_ptr() for weight in self._weights.values())
            return 0
        saved = 0
        for name, weight in _iterate_base_weights(model):
            known = self._weights.get(name)
            if known is not None and _are_equal(known, weight.data):
                weight.data = known
                saved += known.nbytes
        return saved

    def build_packed_model(
        self, model: nn.Module, dtype: torch.dtype, choose_form: ChooseForm
    ) -> PackedModel:
        """Return the fast form of a shared model with its adapter merged.

        Layers without an adapter are the same objects in all models.

        Args:
            model: given to `share` before, of an architecture that `can_score_packed`.
            dtype: to compute in.
            choose_form: which form of attention a review takes.
        """
        return read_packed_model(model, dtype, choose_form, self._build_layer)

    def holds_frame(self, model: nn.Module) -> bool:
        """Tell whether embeddings and norms of a model are the shared ones.

        Then only its linear layers and its head are its own, and its reviews can be computed
        together with those of another such model.
        """
        return all(self._is_shared(part) for part in _iterate_frame(model))

    def _build_layer(self, module: nn.Module, dtype: torch.dtype) -> Projection:
        if type(module) is not nn.Linear or not self._is_shared(module):
            return build_merged_projection(module, dtype)
        key = (module.weight.data_ptr(), dtype)
        if key not in self._layers:
            self._layers[key] = FrozenLinear(module.weight, module.bias, dtype)
        return self._layers[key]

    def _is_shared(self, module: nn.Module) -> bool:
        return all(weight.data_ptr() in self._places for weight in module.parameters())


def copy_modules(model: Model) -> Model:
    """Return a copy of a model's modules around the same weights and buffers."""
    tensors = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    return copy.deepcopy(model, tensors)  # what a memo names is not copied


def _iterate_base_weights(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Yield the weights that are not an adapter's own, by the names that they have in the base."""
    for name, weight in model.named_parameters():
        parts = name.split(".")
        if OWN_PART not in parts:
            yield ".".join(part for part in parts if part not in WRAPPERS), weight


def _iterate_frame(model: nn.Module) -> Iterator[nn.Module]:
    """Yield embeddings and norms of the encoder, and what lies between the two."""
    bare: Any = model.get_base_model() if isinstance(model, PeftModel) else model
    for name, module in bare.base_model.named_modules():
        if isinstance(module, nn.Embedding | nn.LayerNorm) or "embeddings_project" in name:
            yield module


def _are_equal(one: torch.Tensor, other: torch.Tensor) -> bool:
    is_like = one.shape == other.shape and one.dtype == other.dtype and one.device == other.device
    return is_like and torch.equal(one, other)
