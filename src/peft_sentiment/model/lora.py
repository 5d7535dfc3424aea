"""Layers with adapters as the fast path computes them: trained, or merged for scoring.

Shapes: N tokens, I inputs, O outputs, r rank of the update.
"""

import threading
import typing
from collections.abc import Iterable
from typing import Any

import torch
from peft.tuners.lora import Linear as PeftLoraLinear
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn
from torch.nn.functional import linear

from peft_sentiment.model.dropout import draw_keep_bits
from peft_sentiment.model.linear import FrozenLinear, Projection, Tape


class LoraLinear(Projection):
    """A frozen linear layer with one trained LoRA update, as plain as peft has it.

    y = x W' + b + s (keep x) A' B', where `keep` is the dropout's mask and s its scale as well.
    """

    def __init__(self, module: PeftLoraLinear, dtype: torch.dtype) -> None:
        """Copy the frozen weights; the update stays where it is."""
        name, base = module.active_adapters[0], typing.cast("nn.Linear", module.base_layer)
        self.base = FrozenLinear(base.weight, base.bias, dtype)
        self.module = module
        lora: Any = module
        self.down: nn.Parameter = lora.lora_A[name].weight  # A: (r, I), float32
        self.up: nn.Parameter = lora.lora_B[name].weight  # B: (O, r), float32
        self.p = float(getattr(lora.lora_dropout[name], "p", 0.0))
        self.scaling = float(lora.scaling[name])
        self.trained = [self.down, self.up]

    def push(self, x: torch.Tensor, tape: Tape) -> tuple[torch.Tensor, Any]:
        """Return (N, O) for (N, I), and what `pull` needs."""
        is_dropped = self.module.training and self.p > 0
        bits = draw_keep_bits(x, self.p) if is_dropped else None
        scaling = self.scaling / (1 - self.p) if is_dropped else self.scaling
        down, up = self.down.detach().to(x.dtype), (self.up.detach() * scaling).to(x.dtype)
        dropped = x if bits is None else drop(x, bits)
        inner = linear(dropped, down)  # (N, r)
        y = self.base.multiply(x).addmm_(inner, up.t())
        return y, (x, inner, down, up, bits, scaling)

    def pull(
        self,
        gradient: torch.Tensor,
        kept: Any,  # noqa: ANN401 - what `push` returned
        tape: Tape,
        onto: torch.Tensor | None,
    ) -> torch.Tensor:
        """Return the gradient of the input, and add those of A and B to the tape."""
        of_inner = self.pull_update(gradient, kept, tape)
        _, _, down, _, bits, _ = kept
        of_x = self.base.pull(gradient, None, tape, onto)
        if bits is None:
            return of_x.addmm_(of_inner, down)
        return of_x.add_(drop(of_inner @ down, bits))

    def pull_weights(self, gradient: torch.Tensor, kept: Any, tape: Tape) -> None:  # noqa: ANN401
        """Add the gradients of A and B to the tape."""
        self.pull_update(gradient, kept, tape)

    def pull_update(self, gradient: torch.Tensor, kept: Any, tape: Tape) -> torch.Tensor:  # noqa: ANN401
        """Add the gradients of A and B to the tape; return that of (keep x) A', (N, r)."""
        x, inner, _, up, bits, scaling = kept
        of_inner: torch.Tensor = gradient @ up
        dropped = x if bits is None else drop(x, bits)
        tape.add(self.up, (gradient.t() @ inner).float().mul_(scaling))
        tape.add(self.down, (of_inner.t() @ dropped).float())
        return of_inner


def build_projection(module: nn.Module, dtype: torch.dtype) -> Projection:
    """Return what computes a layer while it is trained or its adapter is: frozen parts apart."""
    if type(module) is nn.Linear and not _is_trained(module.parameters()):
        return FrozenLinear(module.weight, module.bias, dtype)
    if isinstance(module, BaseTunerLayer) and module.disable_adapters:
        return build_projection(module.get_base_layer(), dtype)
    if _is_plain_lora(module):
        return LoraLinear(module, dtype)  # type: ignore[arg-type]
    return Projection(module, dtype)


def build_merged_projection(module: nn.Module, dtype: torch.dtype) -> Projection:
    """Return what computes a layer with its adapter merged, in float32, and then cast."""
    if isinstance(module, BaseTunerLayer):
        if module.disable_adapters:
            return build_merged_projection(module.get_base_layer(), dtype)
        with _MERGING:
            merged = _merge(module)
        return Projection(module, dtype) if merged is None else FrozenLinear(*merged, dtype)
    if type(module) is nn.Linear:
        return FrozenLinear(module.weight, module.bias, dtype)
    return Projection(module, dtype)


def _merge(module: BaseTunerLayer) -> tuple[torch.Tensor, torch.Tensor | None] | None:
    """Return weight and bias with the adapter merged, and leave the layer bit for bit as it was.

    None where the method can't be merged.
    """
    base: Any = module.get_base_layer()
    if type(base) is not nn.Linear:
        return None
    weight, bias = base.weight.data, None if base.bias is None else base.bias.data
    base.weight.data = weight.clone()
    if bias is not None:
        base.bias.data = bias.clone()
    try:
        module.merge()
        return base.weight.data, None if bias is None else base.bias.data
    except (NotImplementedError, ValueError, AttributeError):
        return None
    finally:
        module.merged_adapters.clear()
        base.weight.data = weight
        if bias is not None:
            base.bias.data = bias


_MERGING = threading.Lock()
"""Held while peft merges into a layer for a moment: another thread must not take that for its
weights."""


def _is_trained(weights: Iterable[nn.Parameter]) -> bool:
    return any(weight.requires_grad for weight in weights)


def _is_plain_lora(module: nn.Module) -> bool:
    """Tell whether a layer is one frozen linear layer with one LoRA update and nothing else."""
    if type(module) is not PeftLoraLinear or len(module.active_adapters) != 1:
        return False
    name = module.active_adapters[0]
    base = module.base_layer
    return (
        name in module.lora_A
        and name not in module.lora_variant
        and not module.merged
        and not module.lora_bias[name]
        and type(base) is nn.Linear
        and not _is_trained(base.parameters())
    )


def drop(x: torch.Tensor, bits: torch.Tensor) -> torch.Tensor:
    """Return x where `bits` has all of them set, and 0 where it has none."""
    return torch.bitwise_and(x.view(bits.dtype), bits).view(x.dtype)
