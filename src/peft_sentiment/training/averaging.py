"""The mean of the trained weights over the last steps, which labels better than the last ones.

Each step follows its own few reviews some way; the mean over many steps follows all of them
(Polyak and Juditsky, 1992; for networks Izmailov et al., 2018, arXiv:1803.05407).
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import nn


@dataclass
class WeightAverage:
    """The mean of a model's trained weights after each step from `first_step` on.

    Attributes:
        model: in training.
        first_step: the first step that counts; 0 averages nothing.
        means: the mean so far, by name; empty before the first step that counts.
    """

    model: nn.Module
    first_step: int
    means: dict[str, torch.Tensor] = field(default_factory=dict)

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take the weights after a step into the mean."""
        if not self.first_step or step < self.first_step:
            return
        share = 1 / (step - self.first_step + 1)
        for name, weight in self.model.named_parameters():
            if not weight.requires_grad:
                continue
            known = self.means.get(name)
            mean = weight.clone() if known is None else known.to(weight.device).lerp_(weight, share)
            self.means[name] = mean

    def apply(self) -> None:
        """Give the mean to the model for good, if there is one."""
        restore_trained_weights(self.model, self.means)

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Let the model have the mean within this block, and its own weights again after it."""
        if not self.means:
            yield
            return
        own = copy_trained_weights(self.model)
        self.apply()
        try:
            yield
        finally:
            restore_trained_weights(self.model, own)


def copy_trained_weights(model: nn.Module) -> dict[str, torch.Tensor]:
    """Return a copy of the weights that are trained, by name, in main memory."""
    return {
        name: weight.detach().to("cpu", copy=True)
        for name, weight in model.named_parameters()
        if weight.requires_grad
    }


def restore_trained_weights(model: nn.Module, weights: Mapping[str, torch.Tensor]) -> None:
    """Put copied weights back."""
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name in weights:
                weight.copy_(weights[name])
