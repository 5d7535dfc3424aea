"""Linear layers as the fast path computes them, with their gradients written out.

A frozen layer computes from a copy of its weights in the chosen dtype, laid out once in the blocks
that oneDNN multiplies by, where it can: faster than from the rows that torch keeps, and with the
activation or the residual added while the result is still in the registers. Of its gradients only
that of its input is ever computed.

Shapes: N tokens, I inputs, O outputs, r rank of the update.
"""

import threading
import typing
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from peft.tuners.lora import Linear as PeftLoraLinear
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn
from torch.nn.functional import linear

from peft_sentiment.model.dropout import draw_keep_bits

FUSED_ACTIVATIONS = {"gelu": ("gelu", "none"), "relu": ("relu", "")}
"""transformers' name of an activation -> what oneDNN computes with the product: post-op, kind."""


@dataclass
class Tape:
    """What one pass over a batch writes down for its gradients, and the gradients themselves.

    Attributes:
        is_kept: whether anything is written down: not in scoring, nor below the first adapter.
        gradients: weight -> its gradient over the batch.
    """

    is_kept: bool = False
    gradients: dict[nn.Parameter, torch.Tensor] = field(default_factory=dict)

    def add(self, weight: nn.Parameter, gradient: torch.Tensor) -> None:
        """Add to a weight's gradient."""
        known = self.gradients.get(weight)
        self.gradients[weight] = gradient if known is None else known + gradient


class Projection:
    """A linear layer of the fast path; the base class is one that is computed by its module.

    That is slow and right for whatever there is: layers trained whole, or adapted by any method
    of peft.
    """

    def __init__(self, module: nn.Module, dtype: torch.dtype) -> None:
        self.module = module
        self.dtype = dtype
        self.trained = [weight for weight in module.parameters() if weight.requires_grad]

    def push(self, x: torch.Tensor, tape: Tape) -> tuple[torch.Tensor, Any]:
        """Return (N, O) for (N, I), and what `pull` needs."""
        with torch.set_grad_enabled(tape.is_kept):
            x = x.detach().requires_grad_(tape.is_kept)
            is_low = self.dtype != torch.float32
            with torch.autocast(x.device.type, self.dtype if is_low else None, enabled=is_low):
                y = self.module(x).to(self.dtype)
        return y.detach(), (x, y)

    def pull(
        self,
        gradient: torch.Tensor,
        kept: Any,  # noqa: ANN401 - what `push` returned
        tape: Tape,
        onto: torch.Tensor | None,
    ) -> torch.Tensor:
        """Return the gradient of the input, and add those of the trained weights to the tape.

        Args:
            gradient: (N, O), of the output.
            kept: by `push`.
            tape: takes the gradients of the weights.
            onto: (N, I), added to what is returned.
        """
        x, y = kept
        of_x, *of_weights = torch.autograd.grad(y, [x, *self.trained], gradient, allow_unused=True)
        for weight, of_weight in zip(self.trained, of_weights, strict=True):
            if of_weight is not None:
                tape.add(weight, of_weight)
        return of_x if onto is None else of_x + onto


class FrozenLinear(Projection):
    """A linear layer whose weights do not change."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None, dtype: torch.dtype) -> None:
        """Copy the weights.

        Args:
            weight: (O, I).
            bias: (O,).
            dtype: to compute in.
        """
        self.weight = weight.detach().to(dtype)
        self.bias = None if bias is None else bias.detach().to(dtype)
        self.blocks = lay_out_in_blocks(self.weight)
        self.blocks_back: torch.Tensor | None = None
        self.trained: list[nn.Parameter] = []

    def push(self, x: torch.Tensor, tape: Tape) -> tuple[torch.Tensor, None]:
        """Return (N, O) for (N, I)."""
        return self.multiply(x), None

    def multiply(self, x: torch.Tensor) -> torch.Tensor:
        """Return (N, O) for (N, I)."""
        if self.blocks is None:
            return linear(x, self.weight, self.bias)
        return _multiply(x, self.blocks, self.bias, "none", "")

    def multiply_onto(self, residual: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """Return residual (N, O) plus the layer's output for x (N, I)."""
        if self.blocks is None:
            return self.multiply(x).add_(residual)
        return _multiply_onto(residual, x, self.blocks, self.bias)

    def activate(self, x: torch.Tensor, name: str, activation: nn.Module) -> torch.Tensor:
        """Return the activation of the layer's output.

        Args:
            x: (N, I).
            name: of the activation, as transformers has it.
            activation: the same as a module, for where it can't be computed with the product.
        """
        if self.blocks is None or name not in FUSED_ACTIVATIONS:
            y: torch.Tensor = activation(self.multiply(x))
            return y
        return _multiply(x, self.blocks, self.bias, *FUSED_ACTIVATIONS[name])

    def pull(
        self,
        gradient: torch.Tensor,
        kept: Any,  # noqa: ANN401 - what `push` returned
        tape: Tape,
        onto: torch.Tensor | None,
    ) -> torch.Tensor:
        """Return the gradient of the input, as in the base class."""
        if self.blocks is None:
            of_x = gradient @ self.weight
            return of_x if onto is None else of_x.add_(onto)
        if self.blocks_back is None:
            self.blocks_back = lay_out_in_blocks(self.weight.t().contiguous())
        if onto is None:
            return _multiply(gradient, self.blocks_back, None, "none", "")
        return _multiply_onto(onto, gradient, self.blocks_back, None)


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


def lay_out_in_blocks(weight: torch.Tensor) -> torch.Tensor | None:
    """Return an (O, I) weight in oneDNN's own layout, or None where that is not to be had."""
    if weight.device.type != "cpu" or weight.dtype != torch.bfloat16 or not CAN_LAY_OUT:
        return None
    blocks: torch.Tensor = torch.ops.mkldnn._reorder_linear_weight(weight, None)
    return blocks


def _multiply(
    x: torch.Tensor, blocks: torch.Tensor | None, bias: torch.Tensor | None, post_op: str, kind: str
) -> torch.Tensor:
    y: torch.Tensor = torch.ops.mkldnn._linear_pointwise(x, blocks, bias, post_op, [], kind)
    return y


def _multiply_onto(
    residual: torch.Tensor, x: torch.Tensor, blocks: torch.Tensor | None, bias: torch.Tensor | None
) -> torch.Tensor:
    y: torch.Tensor = torch.ops.mkldnn._linear_pointwise.binary(x, residual, blocks, bias, "add")
    return y


def _can_lay_out() -> bool:
    """Try the operations, which torch has for its compiler and does not promise to keep."""
    try:
        if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
            return False
        ones = torch.ones(16, 16, dtype=torch.bfloat16)
        blocks = torch.ops.mkldnn._reorder_linear_weight(ones, None)
        product = _multiply(ones, blocks, None, "none", "")
        total = _multiply_onto(ones, ones, blocks, None)
    except (AttributeError, RuntimeError, TypeError):
        return False
    return bool((product == 16).all() and (total == 17).all())


CAN_LAY_OUT = _can_lay_out()
