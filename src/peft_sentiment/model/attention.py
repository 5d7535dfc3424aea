"""Attention over reviews laid end to end, each over its own tokens.

Two forms compute the same. `fused` is torch's own kernel, which never holds the attention weights.
`products` is two batched matrix products around a softmax, which keeps the weights for the
backward pass. Which one is faster depends on machine, dtype, head width and length, by up to four
times either way; `speed.py` measures it.

Products are made at lengths rounded up to `ROUNDING`: oneDNN compiles a kernel for each shape it
meets, which takes time and up to 1 MB, and reviews come in all lengths.

Shapes: N tokens of all reviews, D width, H heads, d = D / H, T tokens of a review, R of them when
rounded up, G reviews of like length that are multiplied together.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch

from peft_sentiment.model.workspace import Workspace

AttentionForm = Literal["fused", "products"]
ChooseForm = Callable[[int], AttentionForm]
"""Tokens of a review -> the form of its attention."""

ROUNDING = 32
GROUP_TOKENS = 512
"""Short reviews are multiplied together up to this many tokens; for long ones it gains nothing."""

FUSED_ROUNDING = 16
"""Keys of torch's kernel; a tail of fewer is computed one by one there."""

MOST_PADDING = 0.99
"""Share of a row's sum of exponentials that may come from padding; float32 has digits for it."""


class Group(NamedTuple):
    """Neighbouring reviews of the same rounded length: first row and tokens of each."""

    reviews: tuple[tuple[int, int], ...]
    rounded: int


def round_up(length: int, step: int) -> int:
    """Return the next multiple of `step`."""
    return -(-length // step) * step


def group_by_length(lengths: Sequence[int], choose_form: ChooseForm) -> tuple[Group, ...]:
    """Return the groups to attend within, in order.

    Args:
        lengths: tokens of each review, in the order in which they lie.
        choose_form: how each is computed; a review in the fused form is a group of its own.
    """
    starts = [0, *itertools.accumulate(lengths)]
    reviews = zip(starts, lengths, strict=False)
    groups = []
    for rounded, run in itertools.groupby(reviews, lambda item: round_up(item[1], ROUNDING)):
        members, most = tuple(run), max(1, GROUP_TOKENS // rounded)
        most = 1 if choose_form(rounded) == "fused" else most
        groups += [Group(members[i : i + most], rounded) for i in range(0, len(members), most)]
    return tuple(groups)


@dataclass(frozen=True)
class Kept:
    """What the backward pass needs of one group.

    Attributes:
        inputs: query, key and value, (G H, R, d) each.
        outputs: (G H, R, d).
        weights: (G H, R, R), of the values; None for a fused group.
        logarithms: of each row's sum of exponentials, as torch's kernel returns them; None else.
    """

    inputs: tuple[torch.Tensor, ...]
    outputs: torch.Tensor
    weights: torch.Tensor | None
    logarithms: torch.Tensor | None


def attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    groups: Sequence[Group],
    heads: int,
    choose_form: ChooseForm,
    workspace: Workspace,
    keep: bool,
) -> tuple[torch.Tensor, list[Kept]]:
    """Return the attention of every token over the tokens of its own review.

    Args:
        query: (N, D). Rows of no group get zeros.
        key: (N, D).
        value: (N, D).
        groups: where the reviews lie.
        heads: H.
        choose_form: how each group is computed.
        workspace: for what is kept, until the caller releases it, and for what is not.
        keep: whether `pull_attention` is to follow.

    Returns:
        (N, D), and what `pull_attention` needs of each group.
    """
    attended, everything = torch.zeros_like(query), []
    for group in groups:
        place = workspace.mark()
        if choose_form(group.rounded) == "fused":
            kept = _attend_fused((query, key, value), group, heads, workspace, keep)
        else:
            kept = _attend_by_products((query, key, value), group, heads, workspace)
        _put_by_token(kept.outputs, attended, group, heads)
        if keep:
            everything.append(kept)
        else:
            workspace.release(place)
    return attended, everything


def _attend_by_products(
    inputs: Sequence[torch.Tensor], group: Group, heads: int, workspace: Workspace
) -> Kept:
    q, k, v = (_by_head(x, group, heads, group.rounded, workspace) for x in inputs)
    outputs = workspace.take(*q.shape, dtype=q.dtype)
    weights = workspace.take(len(q), group.rounded, group.rounded, dtype=q.dtype)
    place = workspace.mark()
    scores = workspace.take(*weights.shape, dtype=q.dtype)
    scale = q.shape[-1] ** -0.5
    torch.baddbmm(_nothing(q), q, k.transpose(1, 2), beta=0, alpha=scale, out=scores)
    for review, (_, length) in enumerate(group.reviews):
        if length < group.rounded:
            scores[review * heads : (review + 1) * heads, :, length:].fill_(-torch.inf)
    torch.softmax(scores, -1, out=weights)
    workspace.release(place)
    torch.bmm(weights, v, out=outputs)
    return Kept((q, k, v), outputs, weights, None)


def _attend_fused(
    inputs: Sequence[torch.Tensor], group: Group, heads: int, workspace: Workspace, keep: bool
) -> Kept:
    """Attend within a group of one review, by torch's kernel."""
    if not keep and inputs[0].dtype == torch.bfloat16:
        filled_up = _attend_filled_up(inputs, group, heads, workspace)
        if filled_up is not None:
            return filled_up
    q, k, v = (_as_heads(x, group, heads) for x in inputs)
    outputs, logarithms = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, k, v)
    return Kept((q, k, v), outputs, None, logarithms)


def _attend_filled_up(
    inputs: Sequence[torch.Tensor], group: Group, heads: int, workspace: Workspace
) -> Kept | None:
    """Attend over one review whose keys and values are filled up with zeros.

    In bfloat16 the kernel is up to twice as fast over a round number of keys, and compiles for
    fewer numbers. A key of zeros has the score 0: it adds 1 to the sum of a row's exponentials,
    whose logarithm the kernel gives, and a value of zeros adds nothing. So the rows are off by a
    factor that is known. None where they are next to nothing but padding.
    """
    ((start, length),) = group.reviews
    keys = round_up(length, FUSED_ROUNDING)
    query, *others = (x[start : start + length] for x in inputs)
    key, value = (_fill_up(x, keys, workspace) for x in others)
    q, k, v = (x.view(1, len(x), heads, -1).transpose(1, 2) for x in (query, key, value))
    outputs, logarithms = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, k, v)
    if keys > length:
        of_padding = (keys - length) * torch.exp(-logarithms)  # (1, H, T), share of each sum
        if float(of_padding.amax()) > MOST_PADDING:
            return None
        outputs.mul_((1 / (1 - of_padding)).to(outputs.dtype)[..., None])
    return Kept((q, k, v), outputs, None, logarithms)


def _fill_up(x: torch.Tensor, rows: int, workspace: Workspace) -> torch.Tensor:
    """Return so many rows: those of x, and zeros."""
    if len(x) == rows:
        return x
    filled = workspace.take(rows, x.shape[1], dtype=x.dtype)
    filled[: len(x)].copy_(x)
    filled[len(x) :].zero_()
    return filled


def pull_attention(
    gradient: torch.Tensor,
    kept: Sequence[Kept],
    groups: Sequence[Group],
    heads: int,
    workspace: Workspace,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the gradients of query, key and value, (N, D) each.

    Args:
        gradient: (N, D), of what `attend` returned.
        kept: by it.
        groups: as there.
        heads: as there.
        workspace: as there.
    """
    of_query, of_key, of_value = (torch.zeros_like(gradient) for _ in range(3))
    for group, of_group in zip(groups, kept, strict=True):
        place = workspace.mark()
        pull = _pull_fused if of_group.weights is None else _pull_products
        parts = pull(gradient, of_group, group, heads, workspace)
        for part, target in zip(parts, (of_query, of_key, of_value), strict=True):
            _put_by_token(part, target, group, heads)
        workspace.release(place)
    return of_query, of_key, of_value


def _pull_products(
    gradient: torch.Tensor, kept: Kept, group: Group, heads: int, workspace: Workspace
) -> tuple[torch.Tensor, ...]:
    """Return the gradients of a group's query, key and value, (G H, R, d) each.

    With the weights P and the outputs O = P V:
    dV = P' dO, dS = P * (dO V' - delta), delta = sum(dO * O), dQ = s dS K, dK = s dS' Q.
    """
    q, k, v = kept.inputs
    weights = kept.weights
    assert weights is not None  # noqa: S101 - only for groups that have them
    g = _by_head(gradient, group, heads, group.rounded, workspace)
    delta = (g * kept.outputs).sum(-1, keepdim=True)  # (G H, R, 1)
    of_scores = workspace.take(*weights.shape, dtype=q.dtype)
    of_query = workspace.take(*q.shape, dtype=q.dtype)
    # dV' = dO' P and dK' = s Q' dS: the large matrix is not turned round for the product.
    of_key, of_value = (
        workspace.take(len(q), q.shape[2], q.shape[1], dtype=q.dtype) for _ in range(2)
    )
    scale = q.shape[-1] ** -0.5
    torch.bmm(g.transpose(1, 2), weights, out=of_value)
    torch.baddbmm(delta, g, v.transpose(1, 2), beta=-1, out=of_scores)
    of_scores.mul_(weights)
    torch.baddbmm(_nothing(q), of_scores, k, beta=0, alpha=scale, out=of_query)
    torch.baddbmm(_nothing(q), q.transpose(1, 2), of_scores, beta=0, alpha=scale, out=of_key)
    return of_query, of_key.transpose(1, 2), of_value.transpose(1, 2)


def _pull_fused(
    gradient: torch.Tensor, kept: Kept, group: Group, heads: int, _workspace: Workspace
) -> tuple[torch.Tensor, ...]:
    q, k, v = kept.inputs
    g = _as_heads(gradient, group, heads)
    parts: tuple[torch.Tensor, ...] = (
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(
            g, q, k, v, kept.outputs, kept.logarithms, 0.0, False
        )
    )
    return parts


def _nothing(x: torch.Tensor) -> torch.Tensor:
    """Return what `baddbmm` adds with beta 0."""
    return x.new_empty(1, 1, 1)


def _by_head(
    x: torch.Tensor, group: Group, heads: int, rows: int, workspace: Workspace
) -> torch.Tensor:
    """Copy a group's rows of (N, D) to (G H, rows, d), with zeros after each review's end."""
    width = x.shape[1] // heads
    copied = workspace.take(len(group.reviews), heads, rows, width, dtype=x.dtype)
    for target, (start, length) in zip(copied, group.reviews, strict=True):
        target[:, :length].copy_(
            x[start : start + length].view(length, heads, width).transpose(0, 1)
        )
        if length < rows:
            target[:, length:].zero_()
    return copied.view(-1, rows, width)


def _as_heads(x: torch.Tensor, group: Group, heads: int) -> torch.Tensor:
    """Return the rows of a group of one review as a (1, H, T, d) view."""
    start, length = group.reviews[0]
    return x[start : start + length].view(1, length, heads, -1).transpose(1, 2)


def _put_by_token(x: torch.Tensor, target: torch.Tensor, group: Group, heads: int) -> None:
    """Write the real rows of (G H, R, d) into a group's rows of (N, D)."""
    by_review = x.view(len(group.reviews), heads, *x.shape[-2:])
    for source, (start, length) in zip(by_review, group.reviews, strict=True):
        rows = target[start : start + length].view(length, heads, -1)
        rows.transpose(0, 1).copy_(source[:, :length])
