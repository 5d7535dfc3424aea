"""Whether an adapter is what was trained: the same wherever it is loaded, merged or turned off.

Shapes: N reviews, T tokens of the longest, C labels, D width.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn

from peft_sentiment.data.batching import TokenizedReviews, pad_batch
from peft_sentiment.evaluation.prediction import evaluation_mode, predict_logits
from peft_sentiment.model.adapters import adapter_off, alters_base, get_bare_model
from peft_sentiment.model.last_layer import reading_every_token
from peft_sentiment.model.merging import merge_adapter
from peft_sentiment.model.methods import METHODS
from peft_sentiment.model.precision import Precision
from peft_sentiment.model.readers import can_score_packed

ROUNDING = 1e-4
"""Difference of logits, relative to the largest one from 1 up, that comes of another order of
adding in float32."""

BATCH = 16

FLOAT32 = Precision(torch.device("cpu"), torch.float32, "verification")

Status = Literal["pass", "fail", "refused"]


@dataclass(frozen=True)
class Check:
    """One question to an adapter, and the answer.

    Attributes:
        name: of the question.
        largest_difference: from the model as it is in memory; of logits, states or weights.
        flips: reviews that get another label.
        reason: why it fails, or why the question can't be put.
    """

    name: str
    status: Status
    largest_difference: float | None = None
    flips: int | None = None
    reason: str = ""


def compute_padded_logits(
    model: nn.Module, reviews: TokenizedReviews, pad_id: int
) -> NDArray[np.float32]:
    """Return (N, C) logits in float32 by the model's own code, in padded batches."""
    rows = []
    with torch.inference_mode(), evaluation_mode(model):
        for batch in _iterate_batches(reviews, pad_id):
            rows.append(model(**batch).logits.float().numpy())
    return np.concatenate(rows)


def _iterate_batches(
    reviews: TokenizedReviews, pad_id: int
) -> Iterator[dict[str, torch.Tensor | None]]:
    for start in range(0, len(reviews), BATCH):
        ids, mask = pad_batch(reviews.token_ids[start : start + BATCH], pad_id)
        yield {"input_ids": ids, "attention_mask": mask}


def compare_logits(name: str, found: NDArray[np.float32], expected: NDArray[np.float32]) -> Check:
    """Return the check that two (N, C) logits are equal but for rounding."""
    difference = float(np.abs(found - expected).max())
    flips = int((found.argmax(axis=1) != expected.argmax(axis=1)).sum())
    limit = ROUNDING * max(1.0, float(np.abs(expected).max()))
    if difference <= limit:  # not so for nan
        return Check(name, "pass", difference, flips)
    reason = f"the logits differ by more than {limit:.1e}"
    return Check(name, "fail", difference, flips, reason)


def check_model(
    model: PeftModel, base: nn.Module, method: str, reviews: TokenizedReviews, pad_id: int
) -> Iterator[Check]:
    """Yield what can be asked of an adapter in this process.

    Args:
        model: trained or loaded, on the CPU in float32.
        base: the same base, loaded anew, with the untrained head of the same seed.
        method: by which it was trained.
        reviews: N reviews.
        pad_id: token that fills up short ones.
    """
    expected = compute_padded_logits(model, reviews, pad_id)
    yield _check_merged(model, method, reviews, pad_id, expected)
    yield _check_fast_path(model, reviews, pad_id, expected)
    yield _check_adapter_off(model, base, method, reviews, pad_id)
    yield check_frozen_weights(model, base)
    again = compute_padded_logits(model, reviews, pad_id)
    yield compare_logits("unchanged by the checks", again, expected)


def _check_merged(
    model: PeftModel,
    method: str,
    reviews: TokenizedReviews,
    pad_id: int,
    expected: NDArray[np.float32],
) -> Check:
    if not METHODS[method].can_merge:
        return Check("merged", "refused", reason="it changes what is read, not the weights")
    merged = compute_padded_logits(merge_adapter(model), reviews, pad_id)
    return compare_logits("merged", merged, expected)


def _check_fast_path(
    model: PeftModel, reviews: TokenizedReviews, pad_id: int, expected: NDArray[np.float32]
) -> Check:
    if not can_score_packed(model):
        reason = "this architecture or method is computed with padding"
        return Check("fast path", "refused", reason=reason)
    found = predict_logits(model, reviews, pad_id, BATCH, FLOAT32)
    return compare_logits("fast path", found, expected)


def _check_adapter_off(
    model: PeftModel, base: nn.Module, method: str, reviews: TokenizedReviews, pad_id: int
) -> Check:
    if alters_base(model):
        return Check("adapter off", "refused", reason=f"{method} changes the base's own weights")
    difference, scale = 0.0, 1.0
    with torch.inference_mode(), evaluation_mode(model), evaluation_mode(base):
        for batch in _iterate_batches(reviews, pad_id):
            with adapter_off(model):
                off = _compute_states(get_bare_model(model), batch)
            expected = _compute_states(base, batch)
            difference = max(difference, float((off - expected).abs().max()))
            scale = max(scale, float(expected.abs().max()))
    # The weights are the same ones, but where they lie can change the order of adding.
    if difference <= ROUNDING * scale:
        return Check("adapter off", "pass", difference)
    return Check(
        "adapter off", "fail", difference, reason="the encoder's states are not the base's"
    )


def _compute_states(model: Any, batch: dict[str, torch.Tensor | None]) -> torch.Tensor:  # noqa: ANN401
    """Return what the encoder says of every token: (B, T, D)."""
    with reading_every_token(model):
        states: torch.Tensor = model.base_model(**batch).last_hidden_state
    return states


def check_frozen_weights(model: PeftModel, base: nn.Module) -> Check:
    """Return the check that every weight that was not to be trained is the base's, bit by bit."""
    of_base = dict(base.named_parameters())
    changed = list(_list_altered(model))
    compared = differing = 0
    difference = 0.0
    for name, weight in get_bare_model(model).named_parameters():
        plain = name.replace(".base_layer.", ".").replace("original_module.", "")
        if plain in of_base and not any(part in f".{name}" for part in changed):
            compared += 1
            gap = (weight.detach() - of_base[plain].detach()).abs().max()
            differing += not torch.equal(weight, of_base[plain])
            difference = max(difference, float(gap))
    name = "frozen weights"
    if not compared:
        return Check(name, "fail", reason="no weight of the base was found in the model")
    if differing:
        return Check(name, "fail", difference, reason=f"{differing} of {compared} have moved")
    return Check(name, "pass", difference)


def _list_altered(model: PeftModel) -> Iterator[str]:
    """Yield parts of the names of the base's weights that a method changes by its nature."""
    if not alters_base(model):
        return
    if getattr(model.active_peft_config, "bias", "none") != "none":
        yield ".bias"
    else:
        for name, module in get_bare_model(model).named_modules():
            if isinstance(module, BaseTunerLayer):
                yield f".{name}.base_layer.weight"
