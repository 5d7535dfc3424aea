"""One layer of an encoder over reviews laid end to end, with its gradients written out.

Linear layers, norms and activations see one matrix of real tokens, attention goes review by review.
What the gradients need is kept by `push` and used by `pull`.

Shapes: N tokens of all reviews, B reviews, D width.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from peft_sentiment.model.attention import (
    ChooseForm,
    Group,
    attend,
    pull_attention,
)
from peft_sentiment.model.first_attention import attend_first, pull_first
from peft_sentiment.model.linear import FrozenLinear, Projection, Tape
from peft_sentiment.model.packing import PackedReviews
from peft_sentiment.model.workspace import Workspace


@dataclass(frozen=True)
class Layer:
    """One layer of an encoder whose norms follow its residuals, as BERT's do."""

    query: Projection
    key: Projection
    value: Projection
    out: Projection
    attention_norm: nn.LayerNorm
    inner: Projection
    activation: nn.Module
    activation_name: str
    outer: Projection
    output_norm: nn.LayerNorm
    heads: int

    @property
    def projections(self) -> tuple[Projection, ...]:
        """All six."""
        return (self.query, self.key, self.value, self.out, self.inner, self.outer)

    @property
    def is_trained(self) -> bool:
        """Whether any of its weights is."""
        return any(projection.trained for projection in self.projections)

    def push(
        self,
        x: torch.Tensor,
        groups: Sequence[Group],
        choose_form: ChooseForm,
        workspace: Workspace,
        tape: Tape,
    ) -> tuple[torch.Tensor, Any]:
        """Return the (N, D) output for the (N, D) input, and what `pull` needs."""
        (query, kept_query), (key, kept_key), (value, kept_value) = (
            projection.push(x, tape) for projection in (self.query, self.key, self.value)
        )
        attended, kept_attention = attend(
            query, key, value, groups, self.heads, choose_form, workspace, tape.is_kept
        )
        y, kept_rest = self._push_rest(attended, x, tape)
        return y, (kept_query, kept_key, kept_value, kept_attention, kept_rest)

    def pull(
        self,
        gradient: torch.Tensor,
        kept: Any,  # noqa: ANN401 - what `push` returned
        groups: Sequence[Group],
        workspace: Workspace,
        tape: Tape,
        *,
        is_first: bool,
    ) -> torch.Tensor | None:
        """Return the gradient of the input, or None for the first layer that is trained."""
        kept_query, kept_key, kept_value, kept_attention, kept_rest = kept
        of_attended, of_x = self._pull_rest(gradient, kept_rest, tape)
        pulled = pull_attention(of_attended, kept_attention, groups, self.heads, workspace)
        of_query, of_key, of_value = pulled
        parts = (
            (self.query, of_query, kept_query),
            (self.key, of_key, kept_key),
            (self.value, of_value, kept_value),
        )
        if is_first:
            _pull_weights(parts, tape)
            return None
        for projection, of_output, kept_part in parts:
            of_x = projection.pull(of_output, kept_part, tape, of_x)
        return of_x

    def push_first(
        self, x: torch.Tensor, reviews: PackedReviews, tape: Tape
    ) -> tuple[torch.Tensor, Any]:
        """Return the (B, D) output at the first tokens for the (N, D) input."""
        first = x[reviews.first_rows]
        query, kept_query = self.query.push(first, tape)
        (key, kept_key), (value, kept_value) = (
            projection.push(x, tape) for projection in (self.key, self.value)
        )
        attended, kept_attention = attend_first(query, key, value, reviews.lengths, self.heads)
        y, kept_rest = self._push_rest(attended, first, tape)
        return y, (kept_query, kept_key, kept_value, kept_attention, kept_rest)

    def pull_first(
        self,
        gradient: torch.Tensor,
        kept: Any,  # noqa: ANN401 - what `push_first` returned
        reviews: PackedReviews,
        tape: Tape,
        *,
        is_first: bool,
    ) -> torch.Tensor | None:
        """Return the (N, D) gradient of the input, or None for the first layer that is trained."""
        kept_query, kept_key, kept_value, kept_attention, kept_rest = kept
        of_attended, of_first = self._pull_rest(gradient, kept_rest, tape)
        of_query, of_key, of_value = pull_first(
            of_attended, kept_attention, reviews.lengths, len(reviews.ids)
        )
        parts = ((self.key, of_key, kept_key), (self.value, of_value, kept_value))
        if is_first:
            _pull_weights(((self.query, of_query, kept_query), *parts), tape)
            return None
        of_first = self.query.pull(of_query, kept_query, tape, of_first)
        of_x: torch.Tensor | None = None
        for projection, of_output, kept_part in parts:
            of_x = projection.pull(of_output, kept_part, tape, of_x)
        assert of_x is not None  # noqa: S101 - there are two parts
        of_x[reviews.first_rows] += of_first
        return of_x

    def _push_rest(
        self, attended: torch.Tensor, x: torch.Tensor, tape: Tape
    ) -> tuple[torch.Tensor, Any]:
        """Return what follows attention: its output layer, the feed-forward part, both norms."""
        total, kept_out = _push_onto(self.out, x, attended, tape)
        middle, *moments = _normalise(total, self.attention_norm)
        if isinstance(self.inner, FrozenLinear) and not tape.is_kept:
            active = self.inner.activate(middle, self.activation_name, self.activation)
            raised = kept_inner = None
        else:
            raised, kept_inner = self.inner.push(middle, tape)
            active = self.activation(raised)
        second, kept_outer = _push_onto(self.outer, middle, active, tape)
        y, *second_moments = _normalise(second, self.output_norm)
        return y, (
            (total, *moments), kept_out, raised, kept_inner, kept_outer, (second, *second_moments)
        )  # fmt: skip

    def _pull_rest(
        self,
        gradient: torch.Tensor,
        kept: Any,  # noqa: ANN401 - what `_push_rest` returned
        tape: Tape,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the gradients of attention's output and, by the residual, of the layer's input."""
        first_norm, kept_out, raised, kept_inner, kept_outer, second_norm = kept
        of_second = _pull_norm(gradient, second_norm, self.output_norm)
        of_active = self.outer.pull(of_second, kept_outer, tape, None)
        of_raised = self._pull_activation(of_active, raised)
        of_middle = self.inner.pull(of_raised, kept_inner, tape, of_second)
        of_total = _pull_norm(of_middle, first_norm, self.attention_norm)
        return self.out.pull(of_total, kept_out, tape, None), of_total

    def _pull_activation(self, gradient: torch.Tensor, raised: torch.Tensor) -> torch.Tensor:
        if self.activation_name == "gelu":
            torch.ops.aten.gelu_backward.grad_input(gradient, raised, grad_input=gradient)
            return gradient
        with torch.enable_grad():
            raised = raised.detach().requires_grad_()
            return torch.autograd.grad(self.activation(raised), raised, gradient)[0]


def _pull_weights(parts: Sequence[tuple[Projection, torch.Tensor, Any]], tape: Tape) -> None:
    """Add the gradients of the weights to the tape where that of the input is not needed."""
    for projection, of_output, kept in parts:
        projection.pull_weights(of_output, kept, tape)


def _push_onto(
    projection: Projection, residual: torch.Tensor, x: torch.Tensor, tape: Tape
) -> tuple[torch.Tensor, Any]:
    if isinstance(projection, FrozenLinear):
        return projection.multiply_onto(residual, x), None
    y, kept = projection.push(x, tape)
    return y + residual, kept


def _normalise(x: torch.Tensor, norm: nn.LayerNorm) -> tuple[torch.Tensor, ...]:
    """Return the norm's output, and mean and inverse deviation of each row."""
    outputs: tuple[torch.Tensor, ...] = torch.native_layer_norm(
        x, norm.normalized_shape, norm.weight, norm.bias, norm.eps
    )
    return outputs


def _pull_norm(
    gradient: torch.Tensor, kept: tuple[torch.Tensor, ...], norm: nn.LayerNorm
) -> torch.Tensor:
    x, mean, deviation = kept
    of_x: torch.Tensor = torch.ops.aten.native_layer_norm_backward(
        gradient, x, norm.normalized_shape, mean, deviation, norm.weight, norm.bias,
        [True, False, False],
    )[0]  # fmt: skip
    return of_x
