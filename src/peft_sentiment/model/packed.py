"""The encoder without padding: the tokens of all reviews end to end, attention review by review.

The last layer is computed only at the first token of each review, where the head reads it.
Gradients are written out: none is computed for a frozen weight or below the first adapter, and what
they need lies in a workspace. `readers` makes the fast form of a model.

Shapes: N tokens of all reviews, B reviews, D width, C labels.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from peft_sentiment.model.attention import ChooseForm, group_by_length
from peft_sentiment.model.layer import Layer
from peft_sentiment.model.linear import Tape
from peft_sentiment.model.packing import PackedReviews
from peft_sentiment.model.workspace import Workspace


@dataclass(frozen=True)
class PackedModel:
    """A sequence-classification model that reads reviews laid end to end.

    Attributes:
        embed: (N,) ids and places -> (N, D).
        classify: (B, D) outputs at the first tokens -> (B, C) logits.
        head_weights: the trained weights of `classify`.
        dtype: of the activations.
        choose_form: which form of attention a review takes.
    """

    embed: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    layers: tuple[Layer, ...]
    classify: Callable[[torch.Tensor], torch.Tensor]
    head_weights: tuple[nn.Parameter, ...]
    dtype: torch.dtype
    choose_form: ChooseForm

    @property
    def first_trained(self) -> int:
        """Number of the first layer that is trained; of the last one if none is."""
        last = len(self.layers) - 1
        return next((i for i, layer in enumerate(self.layers) if layer.is_trained), last)

    def without_head(self) -> "PackedModel":
        """Return the same model, whose outputs are the (B, D) states that its head would read."""
        return dataclasses.replace(self, classify=lambda first: first, head_weights=())

    @torch.no_grad()
    def score(self, reviews: PackedReviews, workspace: Workspace) -> torch.Tensor:
        """Return (B, C) logits in float32."""
        workspace.release()
        x = self.embed_reviews(reviews)
        tape, groups = Tape(), group_by_length(reviews.lengths, self.choose_form)
        for layer in self.layers[:-1]:
            x, _ = layer.push(x, groups, self.choose_form, workspace, tape)
            workspace.release()
        first, _ = self.layers[-1].push_first(x, reviews, tape)
        return self.classify(first.float())

    def embed_reviews(self, reviews: PackedReviews) -> torch.Tensor:
        """Return the (N, D) input of the first layer."""
        return self.embed(reviews.ids, reviews.places).to(self.dtype)

    @torch.no_grad()
    def run_frozen_layers(self, reviews: PackedReviews, workspace: Workspace) -> torch.Tensor:
        """Return the (N, D) input of the first layer that is trained."""
        workspace.release()
        x, groups = self.embed_reviews(reviews), group_by_length(reviews.lengths, self.choose_form)
        for layer in self.layers[: self.first_trained]:
            x, _ = layer.push(x, groups, self.choose_form, workspace, Tape())
            workspace.release()
        return x

    @torch.no_grad()
    def compute_gradients(
        self,
        x: torch.Tensor,
        reviews: PackedReviews,
        compute_loss: Callable[[torch.Tensor], torch.Tensor],
        workspace: Workspace,
    ) -> tuple[float, dict[nn.Parameter, torch.Tensor]]:
        """Return a batch's loss and the gradient of every trained weight.

        Args:
            x: (N, D), the input of the first layer that is trained, by `run_frozen_layers`.
            reviews: the batch.
            compute_loss: (B, C) logits -> loss.
            workspace: released by this.
        """
        workspace.release()
        start, last = self.first_trained, len(self.layers) - 1
        tape, groups = Tape(is_kept=True), group_by_length(reviews.lengths, self.choose_form)
        kept = []
        for layer in self.layers[start:last]:
            x, kept_layer = layer.push(x, groups, self.choose_form, workspace, tape)
            kept.append(kept_layer)
        first, kept_last = self.layers[last].push_first(x, reviews, tape)
        loss, gradient = self._pull_head(first, compute_loss, tape)
        for number in range(last, start - 1, -1):
            layer, is_first = self.layers[number], number == start
            if number == last:
                pulled = layer.pull_first(gradient, kept_last, reviews, tape, is_first=is_first)
            else:
                pulled = layer.pull(
                    gradient, kept.pop(), groups, workspace, tape, is_first=is_first
                )
            if pulled is not None:
                gradient = pulled
        return loss, tape.gradients

    def _pull_head(
        self, first: torch.Tensor, compute_loss: Callable[[torch.Tensor], torch.Tensor], tape: Tape
    ) -> tuple[float, torch.Tensor]:
        with torch.enable_grad():
            x = first.float().requires_grad_()
            loss = compute_loss(self.classify(x))
            of_x, *of_weights = torch.autograd.grad(
                loss, [x, *self.head_weights], allow_unused=True
            )
        for weight, of_weight in zip(self.head_weights, of_weights, strict=True):
            if of_weight is not None:
                tape.add(weight, of_weight)
        return float(loss.detach()), of_x.to(self.dtype)
