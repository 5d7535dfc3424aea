"""Attention of each review's first token alone, over reviews laid end to end.

The last layer needs no more: the head reads what it says at the first token.

Shapes: B reviews, n tokens of all of them, N rows with those that fill up, D width, H heads,
d = D / H.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class FirstKept:
    """What the backward pass of `attend_first` needs; n tokens of the reviews.

    Attributes:
        query_rows: (n, H, d), for each token the query of its review.
        key: (n, H, d); value alike.
        weights: (n, H), float32.
        owners: (n,), number of each token's review.
    """

    query_rows: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor
    weights: torch.Tensor
    owners: torch.Tensor


def attend_first(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, lengths: Sequence[int], heads: int
) -> tuple[torch.Tensor, FirstKept]:
    """Return the attention of each review's first token over the review's tokens.

    One query a review is no product of matrices; row by row it is a few passes over memory.

    Args:
        query: (B, D), of the first tokens.
        key: (N, D), of all tokens.
        value: (N, D).
        lengths: tokens of each of the B reviews.
        heads: H.

    Returns:
        (B, D), and what `pull_first_attention` needs.
    """
    n, width = sum(lengths), query.shape[1] // heads
    owners = torch.repeat_interleave(torch.tensor(lengths))
    key, value = (x[:n].view(n, heads, width) for x in (key, value))
    query_rows = query.view(-1, heads, width)[owners]
    scores = (query_rows * key).sum(-1, dtype=torch.float32) * width**-0.5  # (n, H)
    weights = torch.cat([torch.softmax(part, dim=0) for part in scores.split(list(lengths))])
    attended = _sum_by_review(value * weights[..., None].to(value.dtype), lengths)
    kept = FirstKept(query_rows, key, value, weights, owners)
    return attended.view_as(query), kept


def pull_first(
    gradient: torch.Tensor, kept: FirstKept, lengths: Sequence[int], rows: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the gradients of the (B, D) query and of the (N, D) key and value.

    Args:
        gradient: (B, D), of what `attend_first` returned.
        kept: by it.
        lengths: as there.
        rows: N.
    """
    dtype, (n, heads, width) = gradient.dtype, kept.key.shape
    g = gradient.view(-1, heads, width)[kept.owners]  # (n, H, d)
    of_weights = (g * kept.value).sum(-1, dtype=torch.float32)  # (n, H)
    means = _sum_by_review(of_weights * kept.weights, lengths)[kept.owners]
    of_scores = (kept.weights * (of_weights - means) * width**-0.5)[..., None].to(dtype)
    of_query = _sum_by_review(of_scores * kept.key, lengths).view_as(gradient)
    of_key, of_value = (gradient.new_zeros(rows, heads * width) for _ in range(2))
    torch.mul(of_scores, kept.query_rows, out=of_key[:n].view(n, heads, width))
    torch.mul(g, kept.weights[..., None].to(dtype), out=of_value[:n].view(n, heads, width))
    return of_query, of_key, of_value


def _sum_by_review(x: torch.Tensor, lengths: Sequence[int]) -> torch.Tensor:
    """Return (B, ...), the sums of (n, ...) over each review's tokens."""
    return torch.stack([part.sum(0) for part in torch.split(x, list(lengths))])
