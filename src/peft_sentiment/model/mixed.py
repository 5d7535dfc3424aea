"""Reviews for several adapters in one batch, over layers that they have in common.

A layer that no adapter has changed is computed for all rows at once. Where adapters differ, each
computes its own rows, with its weights merged. Every row is computed from the same numbers as in a
batch of its adapter alone.

Shapes: N tokens of all reviews, B reviews, I inputs, O outputs, C labels.
"""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from peft_sentiment.model.attention import ChooseForm, Group, group_by_length, round_up
from peft_sentiment.model.layer import Layer
from peft_sentiment.model.linear import FrozenLinear, Projection, Tape
from peft_sentiment.model.packed import PackedModel
from peft_sentiment.model.packing import ROW_ROUNDING, pack_reviews
from peft_sentiment.model.workspace import Workspace

Share = tuple[PackedModel, Sequence[NDArray[np.int32]]]
"""A model and the token ids of its reviews in a batch."""

PROJECTIONS = ("query", "key", "value", "out", "inner", "outer")


class SegmentedProjection(Projection):
    """A layer that computes one stretch of rows after the other, each by another projection."""

    def __init__(self, parts: Sequence[Projection], rows: Sequence[int]) -> None:
        """Take the projections and the number of rows of each."""
        self.parts, self.rows = parts, list(rows)
        self.trained: list[torch.nn.Parameter] = []

    def push(self, x: torch.Tensor, tape: Tape) -> tuple[torch.Tensor, Any]:
        """Return (N, O) for (N, I)."""
        pieces = zip(self.parts, torch.split(x, self.rows), strict=True)
        return torch.cat([part.push(piece, tape)[0] for part, piece in pieces]), None


class SegmentedLinear(FrozenLinear):
    """The same of merged layers, with all that those compute at once."""

    def __init__(self, parts: Sequence[FrozenLinear], rows: Sequence[int]) -> None:
        """Take the layers and the number of rows of each."""
        self.parts, self.rows = parts, list(rows)
        self.trained: list[torch.nn.Parameter] = []

    def multiply(self, x: torch.Tensor) -> torch.Tensor:
        """Return (N, O) for (N, I)."""
        pieces = zip(self.parts, torch.split(x, self.rows), strict=True)
        return torch.cat([part.multiply(piece) for part, piece in pieces])

    def multiply_onto(self, residual: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """Return residual (N, O) plus the layer's output for x (N, I)."""
        pieces = zip(
            self.parts, torch.split(residual, self.rows), torch.split(x, self.rows), strict=True
        )
        return torch.cat([part.multiply_onto(onto, piece) for part, onto, piece in pieces])

    def activate(self, x: torch.Tensor, name: str, activation: torch.nn.Module) -> torch.Tensor:
        """Return the activation of the layer's output, as `FrozenLinear` does."""
        pieces = zip(self.parts, torch.split(x, self.rows), strict=True)
        return torch.cat([part.activate(piece, name, activation) for part, piece in pieces])


@torch.no_grad()
def score_mixed(shares: Sequence[Share], workspace: Workspace) -> list[torch.Tensor]:
    """Return the (B, C) logits in float32 of each share's reviews.

    Args:
        shares: of models whose embeddings and norms are the same; none without reviews.
        workspace: released by this.
    """
    if len(shares) == 1:
        packed, token_ids = shares[0]
        return [packed.score(pack_reviews(token_ids), workspace)]
    workspace.release()
    models = [packed for packed, _ in shares]
    padded = [_fill_up(token_ids) for _, token_ids in shares]
    reviews = pack_reviews(list(itertools.chain.from_iterable(padded)))
    tokens, counts = [sum(map(len, ids)) for ids in padded], [len(ids) for ids in padded]
    choose_form, tape = models[0].choose_form, Tape()
    groups = _group_by_share([ids for _, ids in shares], tokens, choose_form)
    x = models[0].embed_reviews(reviews)
    for layers in zip(*(model.layers[:-1] for model in models), strict=True):
        joined = _join(layers, dict.fromkeys(PROJECTIONS, tokens))
        x, _ = joined.push(x, groups, choose_form, workspace, tape)
        workspace.release()
    rows = {**dict.fromkeys(PROJECTIONS, counts), "key": tokens, "value": tokens}
    first, _ = _join([model.layers[-1] for model in models], rows).push_first(x, reviews, tape)
    return [
        packed.classify(outputs[: len(token_ids)])
        for (packed, token_ids), outputs in zip(
            shares, torch.split(first.float(), counts), strict=True
        )
    ]


def _join(layers: Sequence[Layer], rows: dict[str, list[int]]) -> Layer:
    """Return one layer that computes each model's rows as that model's own layer does."""
    changed: dict[str, Any] = {}
    for name in PROJECTIONS:
        parts = [getattr(layer, name) for layer in layers]
        if all(part is parts[0] for part in parts):
            continue
        are_frozen = all(isinstance(part, FrozenLinear) for part in parts)
        kind = SegmentedLinear if are_frozen else SegmentedProjection
        changed[name] = kind(parts, rows[name])
    return dataclasses.replace(layers[0], **changed)


def _fill_up(token_ids: Sequence[NDArray[np.int32]]) -> list[NDArray[np.int32]]:
    """Add a review of token 0, which nobody reads, so that the rows of a share are round.

    oneDNN compiles a kernel for each number of rows.
    """
    tokens = sum(map(len, token_ids))
    missing = round_up(tokens, ROW_ROUNDING) - tokens
    return [*token_ids, np.zeros(missing, np.int32)] if missing else list(token_ids)


def _group_by_share(
    shares: Sequence[Sequence[NDArray[np.int32]]], rows: Sequence[int], choose_form: ChooseForm
) -> list[Group]:
    """Return the groups that each share has alone, moved to where its rows lie."""
    groups, start = [], 0
    for token_ids, own_rows in zip(shares, rows, strict=True):
        for group in group_by_length([len(ids) for ids in token_ids], choose_form):
            moved = tuple((row + start, length) for row, length in group.reviews)
            groups.append(Group(moved, group.rounded))
        start += own_rows
    return groups
