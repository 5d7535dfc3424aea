"""Scoring by the fast path: no padding, a batch a stream; needs neither transformers nor peft."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from peft_sentiment.data.batching import TokenizedReviews, iterate_scoring_batches
from peft_sentiment.model.packed import PackedModel
from peft_sentiment.model.packing import pack_reviews
from peft_sentiment.model.streams import count_streams, map_streams
from peft_sentiment.model.workspace import Workspace

MOST_TOKENS = 2048
"""Tokens that one stream has in memory while scoring; more are not faster."""

BatchLogits = tuple[NDArray[np.int64], NDArray[np.float32]]
"""Places of a batch's reviews, and their logits."""


def score_packed(
    packed: PackedModel, reviews: TokenizedReviews, batch_size: int
) -> Iterator[BatchLogits]:
    """Yield the logits of the reviews, batch by batch.

    Args:
        packed: with adapters merged.
        reviews: to score.
        batch_size: reviews that one stream has in memory at most.
    """

    def score(batch: NDArray[np.int64], workspace: Workspace) -> BatchLogits:
        logits = packed.score(pack_reviews([reviews.token_ids[i] for i in batch]), workspace)
        return batch, logits.numpy()

    batches = iterate_scoring_batches(reviews.lengths, batch_size, MOST_TOKENS)
    yield from map_streams(score, batches, count_streams())
