"""Dropout whose mask is cheap on a CPU.

`torch.nn.Dropout` draws one random number for every element on one thread there, at about 8 ns
each: an eighth of a whole training step. One 64-bit draw holds four 16-bit ones.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

LEVELS = 1 << 16
"""Values of a 16-bit draw: the rate is met to within 1 / 65536."""


_chance = threading.local()


@contextmanager
def drawing_from(generator: torch.Generator | None) -> Iterator[None]:
    """Let the dropouts of this block, on this thread, draw from a generator of their own.

    Threads that share one would draw from it in an order that is another one each time.
    """
    before = getattr(_chance, "generator", None)
    _chance.generator = generator
    try:
        yield
    finally:
        _chance.generator = before


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
    """Return a tensor like `x` of zeros, with chance `p`, and of 1 / (1 - p)."""
    if x.device.type != "cpu":
        return torch.nn.functional.dropout(torch.ones_like(x), p)
    keep = draw_int16(x) >= round(p * LEVELS) - LEVELS // 2
    return keep.to(x.dtype).mul_(1 / (1 - p))


def draw_keep_bits(x: torch.Tensor, p: float) -> torch.Tensor:
    """Return integers of the size of x's elements: no bit set, with chance `p`, or all of them.

    `x & bits` drops without a conversion between types; the scale is the caller's.

    Args:
        x: 16 or 32 bits an element, on the CPU.
        p: chance to be dropped.
    """
    draws = draw_int16(x)
    # Halved, so that the difference stays in range; its sign, spread over all bits, is the mask.
    keep = draws.bitwise_right_shift_(1).sub_((round(p * LEVELS) - LEVELS // 2) >> 1)
    keep = keep.bitwise_right_shift_(15).bitwise_not_()
    return keep if x.element_size() == 2 else keep.to(torch.int32)


def draw_int16(x: torch.Tensor) -> torch.Tensor:
    """Return random 16-bit numbers in the shape of `x`, from the thread's `drawing_from`.

    Outside such a block they come from torch's global generator, as those of `torch.nn.Dropout`.
    """
    generator: torch.Generator | None = getattr(_chance, "generator", None)
    words = torch.empty((x.numel() + 3) // 4, dtype=torch.int64, device=x.device)
    return (
        words.random_(-(2**63), None, generator=generator)
        .view(torch.int16)[: x.numel()]
        .view(x.shape)
    )


def replace_dropouts(model: nn.Module) -> None:
    """Put `CheapDropout` in the place of every `torch.nn.Dropout` in the model."""
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.Dropout):
                setattr(parent, name, CheapDropout(child.p))
