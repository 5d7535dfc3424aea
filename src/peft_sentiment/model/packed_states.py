"""Gradients of a loss that sees what the last layer says of every token, by the fast path.

Shapes: N tokens of all reviews, B reviews, D width, C labels.
"""

from collections.abc import Callable

import torch
from torch import nn

from peft_sentiment.model.attention import group_by_length
from peft_sentiment.model.linear import Tape
from peft_sentiment.model.packed import PackedModel
from peft_sentiment.model.packing import PackedReviews
from peft_sentiment.model.workspace import Workspace

StatesLoss = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""(B, C) logits, (B, D) means over the tokens and (B, D) first tokens -> loss."""


@torch.no_grad()
def compute_states_gradients(
    packed: PackedModel,
    x: torch.Tensor,
    reviews: PackedReviews,
    compute_loss: StatesLoss,
    workspace: Workspace,
) -> tuple[float, dict[nn.Parameter, torch.Tensor]]:
    """Return a batch's loss and the gradient of every trained weight.

    Args:
        packed: the model's fast form.
        x: (N, D), the input of the first layer that is trained, by `run_frozen_layers`.
        reviews: the batch.
        compute_loss: of the batch.
        workspace: released by this.
    """
    workspace.release()
    tape, groups = Tape(is_kept=True), group_by_length(reviews.lengths, packed.choose_form)
    trained, kept = packed.layers[packed.first_trained :], []
    for layer in trained:
        x, kept_layer = layer.push(x, groups, packed.choose_form, workspace, tape)
        kept.append(kept_layer)
    loss, gradient = _pull_loss(packed, x, reviews, compute_loss, tape)
    for layer in reversed(trained):
        is_first = layer is trained[0]
        pulled = layer.pull(gradient, kept.pop(), groups, workspace, tape, is_first=is_first)
        gradient = gradient if pulled is None else pulled
    return loss, tape.gradients


def _pull_loss(
    packed: PackedModel,
    x: torch.Tensor,
    reviews: PackedReviews,
    compute_loss: StatesLoss,
    tape: Tape,
) -> tuple[float, torch.Tensor]:
    """Return the loss and its (N, D) gradient; that of the head goes to the tape."""
    with torch.enable_grad():
        states = x.float().requires_grad_()
        firsts = states[reviews.first_rows]
        parts = torch.split(states[: sum(reviews.lengths)], list(reviews.lengths))
        means = torch.stack([part.mean(0) for part in parts])
        loss = compute_loss(packed.classify(firsts), means, firsts)
        of_x, *of_weights = torch.autograd.grad(
            loss, [states, *packed.head_weights], allow_unused=True
        )
    for weight, of_weight in zip(packed.head_weights, of_weights, strict=True):
        if of_weight is not None:
            tape.add(weight, of_weight)
    return float(loss.detach()), of_x.to(packed.dtype)
