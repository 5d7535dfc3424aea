"""Attention over reviews end to end: every form gives softmax(q k' / sqrt(d)) v of each review."""

import math
from collections.abc import Sequence

import pytest
import torch

from peft_sentiment.model.attention import AttentionForm, attend, group_by_length
from peft_sentiment.model.workspace import Workspace

HEADS, WIDTH = 3, 48
LENGTHS = (1, 2, 31, 32, 33, 64, 95, 7)


def draw_inputs(lengths: Sequence[int], scale: float = 1.0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    rows = sum(lengths) + 5  # The last rows are of no review.
    return [scale * torch.randn(rows, WIDTH, generator=generator) for _ in range(3)]


def attend_plainly(inputs: Sequence[torch.Tensor], lengths: Sequence[int]) -> torch.Tensor:
    """Return the definition, review by review, in float64."""
    expected, start = torch.zeros(inputs[0].shape, dtype=torch.float64), 0
    for length in lengths:
        q, k, v = (
            x[start : start + length].double().view(length, HEADS, -1).transpose(0, 1)
            for x in inputs
        )
        weights = torch.softmax(q @ k.transpose(1, 2) / math.sqrt(q.shape[-1]), dim=-1)
        expected[start : start + length] = (weights @ v).transpose(0, 1).reshape(length, WIDTH)
        start += length
    return expected


def attend_in(
    form: AttentionForm, inputs: Sequence[torch.Tensor], lengths: Sequence[int], keep: bool
) -> torch.Tensor:
    choose = lambda _: form  # noqa: E731
    groups = group_by_length(lengths, choose)
    attended, _ = attend(*inputs, groups, HEADS, choose, Workspace(), keep)
    return attended.double()


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("form", ["products", "fused"])
@pytest.mark.parametrize(("dtype", "error"), [(torch.float32, 1e-6), (torch.bfloat16, 2e-2)])
def test_each_form_is_the_definition_at_every_length(
    form: AttentionForm, dtype: torch.dtype, error: float, keep: bool
) -> None:
    inputs = [x.to(dtype) for x in draw_inputs(LENGTHS)]
    found = attend_in(form, inputs, LENGTHS, keep)
    torch.testing.assert_close(found, attend_plainly(inputs, LENGTHS), atol=error, rtol=error)
    assert not found[sum(LENGTHS) :].any()


@pytest.mark.parametrize("shift", [-1.0, 1.0])
@pytest.mark.parametrize("form", ["products", "fused"])
def test_scores_far_below_or_above_those_of_padding_are_no_matter(
    form: AttentionForm, shift: float
) -> None:
    """Every score is about -60 or 60, so that padding would weigh all or nothing."""
    query, key, value = (x.bfloat16() for x in draw_inputs(LENGTHS, 0.1))
    per_head = math.sqrt(60 / math.sqrt(WIDTH / HEADS))
    query, key = query + per_head, key + shift * per_head
    inputs = [query, key, value]
    found = attend_in(form, inputs, LENGTHS, keep=False)
    # A score of 60 is off by a quarter of 1 in bfloat16, so weights are, too; sums to 1 are not.
    expected = attend_plainly(inputs, LENGTHS)
    torch.testing.assert_close(found, expected, atol=0.05, rtol=0.1)


@pytest.mark.parametrize("form", ["products", "fused"])
@pytest.mark.parametrize("keep", [False, True])
def test_a_head_whose_exponentials_are_too_large_changes_nothing_for_the_others(
    form: AttentionForm, keep: bool
) -> None:
    query, key, value = draw_inputs(LENGTHS)
    query[:, : WIDTH // HEADS] *= 60  # scores of some 100: float32 ends at exp(88)
    found = attend_in(form, (query, key, value), LENGTHS, keep)
    expected = attend_plainly((query, key, value), LENGTHS)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_a_review_longer_than_any_group_is_the_definition() -> None:
    inputs = [x.bfloat16() for x in draw_inputs((700, 40))]
    found = attend_in("products", inputs, (700, 40), keep=True)
    expected = attend_plainly(inputs, (700, 40))
    torch.testing.assert_close(found, expected, atol=5e-3, rtol=2e-2)
