"""Dropout whose mask is cheap on a CPU.

`torch.nn.Dropout` draws one random number for every element on one thread there, at about 8 ns
each: an eighth of a whole training step. One 64-bit draw holds four 16-bit ones.
"""

import torch
from torch import nn

LEVELS = 1 << 16
"""Values of a 16-bit draw: the rate is met to within 1 / 65536."""


class CheapDropout(nn.Module):
    """Set a share `p` of the elements to 0 while training, and scale the others by 1 / (1 - p)."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return `x`, of any shape, with elements dropped; unchanged when not training."""
        if not self.training or self.p == 0:
            return x
        return x * draw_keep_mask(x, self.p)


def draw_keep_mask(x: torch.Tensor, p: float) -> torch.Tensor:
    """Return a tensor like `x` of zeros, with chance `p`, and of 1 / (1 - p).

    Draws from torch's global generator, as `torch.nn.Dropout` does.
    """
    if x.device.type != "cpu":
        return torch.nn.functional.dropout(torch.ones_like(x), p)
    words = torch.empty((x.numel() + 3) // 4, dtype=torch.int64)
    draws = words.random_(-(2**63), None).view(torch.int16)[: x.numel()].view(x.shape)
    keep = draws >= round(p * LEVELS) - LEVELS // 2
    return keep.to(x.dtype).mul_(1 / (1 - p))


def replace_dropouts(model: nn.Module) -> None:
    """Put `CheapDropout` in the place of every `torch.nn.Dropout` in the model."""
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.Dropout):
                setattr(parent, name, CheapDropout(child.p))
