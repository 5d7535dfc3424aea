"""How wide the inputs of an encoder's linear layers are on real reviews, and how to narrow them.

Int8 shares 256 steps among all numbers of an input. In encoders of the BERT family one or two of
some hundred channels are many times as wide as the others, mostly at the tokens that stand in every
review, and leave few steps to the rest. What is chosen here changes nothing in exact numbers:
channels are divided by what their weights are multiplied by, or are computed apart in float32.

Shapes: T tokens, D width of a layer's input, O of its output.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from peft_sentiment.model.layer import Layer

Numbers = NDArray[np.float64]

SIDE_CHANNELS = 8
"""Channels between the feed-forward products that may be computed apart, of some thousand."""

WORTHWHILE = 0.8
"""They are, where the others are narrower than the widest by so much."""

STEPS = 24
"""Divisors tried: those that bring the widest channel down by 2 ** (1/4) again and again."""


@dataclass
class InputRange:
    """What a linear layer has read.

    Attributes:
        low, high: (D,), the smallest and largest number of each channel, zero among them.
        squares: (D,), the sum of each channel's squares.
        tokens: over which.
    """

    low: Numbers
    high: Numbers
    squares: Numbers
    tokens: int = 0

    @classmethod
    def start(cls, width: int) -> "InputRange":
        """Return the range of no input."""
        return cls(np.zeros(width), np.zeros(width), np.zeros(width))

    @property
    def peaks(self) -> Numbers:
        """(D,), the largest absolute number of each channel."""
        return np.maximum(-self.low, self.high)

    def add(self, x: torch.Tensor) -> None:
        """Widen by a (..., D) input."""
        rows = x.detach().reshape(-1, x.shape[-1]).double().numpy()
        self.low = np.minimum(self.low, rows.min(axis=0))
        self.high = np.maximum(self.high, rows.max(axis=0))
        self.squares += (rows**2).sum(axis=0)
        self.tokens += len(rows)


@dataclass(frozen=True)
class LayerPlan:
    """How a layer's inputs are narrowed.

    Attributes:
        attention, inner: (D,) divisors of what query, key and value read, and the first
            feed-forward product; None where nothing is to be gained.
        side: the channels of the second feed-forward product that are computed apart.
    """

    attention: Numbers | None
    inner: Numbers | None
    side: NDArray[np.int64]


NO_PLAN = LayerPlan(None, None, np.zeros(0, np.int64))


def plan_layers(
    model: nn.Module, layers: Sequence[Layer], reviews: Sequence[NDArray[Any]]
) -> list[LayerPlan]:
    """Choose for each layer how its inputs are narrowed.

    Args:
        model: in float32, in evaluation mode; takes ids and mask.
        layers: of the model.
        reviews: token ids of real ones, (T,) each; with none, nothing is narrowed.
    """
    if not reviews:
        return [NO_PLAN] * len(layers)
    with ExitStack() as stack, torch.no_grad():
        ranges = [
            [
                stack.enter_context(_watching(linear))
                for linear in (layer.query, layer.inner, layer.outer)
            ]
            for layer in layers
        ]
        for review in reviews:
            ids = torch.from_numpy(np.asarray(review, np.int64))[None]
            model(input_ids=ids, attention_mask=torch.ones_like(ids))
    return [_plan(layer, *seen) for layer, seen in zip(layers, ranges, strict=True)]


@contextmanager
def _watching(linear: Any) -> Iterator[InputRange]:  # noqa: ANN401 - nn.Linear
    seen = InputRange.start(linear.weight.shape[1])
    hook = linear.register_forward_pre_hook(lambda _, inputs: seen.add(inputs[0]))
    try:
        yield seen
    finally:
        hook.remove()


def _plan(layer: Any, attention: InputRange, inner: InputRange, outer: InputRange) -> LayerPlan:  # noqa: ANN401 - linears
    parts = [part.weight.detach().numpy() for part in (layer.query, layer.key, layer.value)]
    return LayerPlan(
        choose_divisors(attention, np.concatenate(parts)),
        choose_divisors(inner, layer.inner.weight.detach().numpy()),
        choose_side_channels(outer),
    )


def choose_divisors(seen: InputRange, weight: NDArray[Any]) -> Numbers | None:
    """Return the (D,) divisors of channels that lose least to int8, None if that is all ones.

    Channels wider than a bound are brought down to it. Of several bounds the one is taken for which
    the expected squared error of the product is least, that of its weights among it.

    Args:
        seen: what the layer reads.
        weight: its (O, D) weights.
    """
    peaks = seen.peaks
    bounds = peaks.max() * 2.0 ** (-np.arange(STEPS) / 4)
    tried = [np.maximum(peaks / bound, 1.0) for bound in bounds if bound > 0]
    if not tried:
        return None
    errors = [_estimate_error(seen, weight, divisors) for divisors in tried]
    best = int(np.argmin(errors))
    return tried[best] if best else None


def _estimate_error(seen: InputRange, weight: NDArray[Any], divisors: Numbers) -> float:
    """Return the squared error of a token's (O,) outputs, where rounding errors are uniform."""
    scaled = weight.astype(np.float64) * divisors
    step = ((seen.high / divisors).max() - (seen.low / divisors).min()) / 255
    weight_steps = np.abs(scaled).max(axis=1) / 127  # (O,)
    squares = (seen.squares / seen.tokens / divisors**2).sum()
    return float((step**2 * (scaled**2).sum() + (weight_steps**2).sum() * squares) / 12)


def choose_side_channels(seen: InputRange) -> NDArray[np.int64]:
    """Return the few widest channels, none if the others are nearly as wide."""
    order = np.argsort(-seen.peaks, kind="stable")
    widest, rest = order[:SIDE_CHANNELS], order[SIDE_CHANNELS:]
    if not len(rest) or seen.peaks[rest[0]] > WORTHWHILE * seen.peaks[widest[0]]:
        return NO_PLAN.side
    return np.sort(widest)
