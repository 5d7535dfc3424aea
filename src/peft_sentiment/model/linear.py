"""Linear layers as the fast path computes them, with their gradients written out.

A frozen layer computes from a copy of its weights in the chosen dtype, laid out once in the blocks
that oneDNN multiplies by, where it can: faster than from the rows that torch keeps, and with the
activation or the residual added while the result is still in the registers. Of its gradients only
that of its input is ever computed.

Shapes: N tokens, I inputs, O outputs.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.nn.functional import linear

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

    def pull_weights(self, gradient: torch.Tensor, kept: Any, tape: Tape) -> None:  # noqa: ANN401
        """Add the gradients of the weights to the tape, where that of the input is not needed."""
        if self.trained:
            self.pull(gradient, kept, tape, None)


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
