"""What a frozen encoder says of reviews: the mean of each one's hidden states in the last layer.

Shapes: N reviews, B of them in a batch, T tokens of its longest, D width of the encoder.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from peft_sentiment.data.batching import (
    TokenizedReviews,
    iterate_padded_scoring_batches,
    iterate_scoring_batches,
)
from peft_sentiment.evaluation.packed_scoring import MOST_TOKENS
from peft_sentiment.evaluation.prediction import evaluation_mode
from peft_sentiment.evaluation.shares import score_shares
from peft_sentiment.model.attention import group_by_length
from peft_sentiment.model.last_layer import reading_every_token
from peft_sentiment.model.linear import Tape
from peft_sentiment.model.packed import PackedModel
from peft_sentiment.model.packing import PackedReviews, pack_reviews
from peft_sentiment.model.precision import Precision
from peft_sentiment.model.readers import build_packed_model, can_score_packed
from peft_sentiment.model.streams import count_streams, map_streams
from peft_sentiment.model.workspace import Workspace

PooledBatch = tuple[NDArray[np.int64], NDArray[np.float32]]
"""Places of a batch's reviews, and their mean hidden states."""


def pool_reviews(
    model: nn.Module,
    reviews: TokenizedReviews,
    pad_id: int,
    batch_size: int,
    precision: Precision,
) -> NDArray[np.float32]:
    """Return (N, D) means over each review's tokens; the model's mode is left as it was.

    Several processes pool a share each, and all return the means of all reviews.

    Args:
        model: a sequence-classification model; its head is not used.
        reviews: N reviews.
        pad_id: of the tokenizer.
        batch_size: reviews in memory at once.
        precision: device and dtype.
    """
    width = int(model.config.hidden_size)  # type: ignore[union-attr, arg-type]

    def pool(part: TokenizedReviews) -> Iterator[PooledBatch]:
        if precision.device.type == "cpu" and can_score_packed(model):
            return _iterate_packed(model, part, batch_size, precision)
        return _iterate_padded(model, part, pad_id, batch_size, precision)

    with evaluation_mode(model):
        return score_shares(reviews, width, pool)


def _iterate_packed(
    model: nn.Module, reviews: TokenizedReviews, batch_size: int, precision: Precision
) -> Iterator[PooledBatch]:
    packed = build_packed_model(
        model, precision.dtype, precision.choose_scoring_form, is_merged=True
    )

    def pool(batch: NDArray[np.int64], workspace: Workspace) -> PooledBatch:
        laid_out = pack_reviews([reviews.token_ids[i] for i in batch])
        return batch, pool_packed(packed, laid_out, workspace).numpy()

    batches = iterate_scoring_batches(reviews.lengths, batch_size, MOST_TOKENS)
    yield from map_streams(pool, batches, count_streams())


@torch.no_grad()
def pool_packed(packed: PackedModel, reviews: PackedReviews, workspace: Workspace) -> torch.Tensor:
    """Return (B, D) means in float32 of B reviews laid end to end."""
    workspace.release()
    x = packed.embed_reviews(reviews)
    groups = group_by_length(reviews.lengths, packed.choose_form)
    for layer in packed.layers:
        x, _ = layer.push(x, groups, packed.choose_form, workspace, Tape())
        workspace.release()
    real = x[: sum(reviews.lengths)].float()
    return torch.stack([part.mean(0) for part in torch.split(real, list(reviews.lengths))])


def _iterate_padded(
    model: Any,  # noqa: ANN401 - a model of transformers
    reviews: TokenizedReviews,
    pad_id: int,
    batch_size: int,
    precision: Precision,
) -> Iterator[PooledBatch]:
    batches = iterate_padded_scoring_batches(reviews, batch_size, pad_id, precision.device)
    with reading_every_token(model):
        for batch, ids, mask in batches:
            mask = torch.ones_like(ids) if mask is None else mask
            with torch.inference_mode(), precision.autocast():
                states = model.base_model(input_ids=ids, attention_mask=mask).last_hidden_state
            weights = mask[:, :, None].float()  # (B, T, 1)
            means = (states.float() * weights).sum(1) / weights.sum(1)
            yield batch, means.cpu().numpy()
