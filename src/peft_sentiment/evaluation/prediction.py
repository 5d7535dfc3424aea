"""Probabilities for reviews, in the caller's order whatever the batching."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from peft_sentiment.config import Truncation
from peft_sentiment.data.batching import (
    TokenizedReviews,
    iterate_padded_scoring_batches,
    tokenize_reviews,
)
from peft_sentiment.data.windows import divide_reviews
from peft_sentiment.evaluation.packed_scoring import BatchLogits, score_packed
from peft_sentiment.evaluation.probabilities import compute_probabilities
from peft_sentiment.evaluation.shares import score_shares
from peft_sentiment.model.precision import Precision
from peft_sentiment.model.readers import build_packed_model, can_score_packed
from peft_sentiment.records import Predictions


def predict_reviews(
    model: nn.Module,
    tokenizer: Any,  # noqa: ANN401 - any tokenizer of transformers
    texts: Sequence[str],
    *,
    label_names: tuple[str, ...],
    max_length: int,
    truncation: Truncation,
    window_length: int = 0,
    batch_size: int,
    precision: Precision,
    clock: Callable[[], float] = time.perf_counter,
) -> Predictions:
    """Tokenize and score reviews.

    Args:
        model: a sequence-classification model with a logit per label name.
        tokenizer: the one it was trained with.
        texts: N reviews.
        label_names: name of each logit.
        max_length: tokens read of a review.
        truncation: which part of a longer review they are.
        window_length: most tokens that are scored at once; 0 for all.
        batch_size: reviews in memory at once.
        precision: device and dtype.
        clock: seconds, for the rate.
    """
    start = clock()
    reviews = tokenize_reviews(texts, tokenizer, max_length, truncation, window_length)
    logits = predict_logits(model, reviews, tokenizer.pad_token_id, batch_size, precision)
    return Predictions(
        label_names, compute_probabilities(logits), reviews.lengths, reviews.is_cut, clock() - start
    )


def predict_tokens(
    model: nn.Module,
    reviews: TokenizedReviews,
    *,
    label_names: tuple[str, ...],
    pad_id: int,
    batch_size: int,
    precision: Precision,
    clock: Callable[[], float] = time.perf_counter,
) -> Predictions:
    """Score reviews that are tokenized already; arguments as in `predict_reviews`."""
    start = clock()
    logits = predict_logits(model, reviews, pad_id, batch_size, precision)
    return Predictions(
        label_names, compute_probabilities(logits), reviews.lengths, reviews.is_cut, clock() - start
    )


def predict_logits(
    model: nn.Module,
    reviews: TokenizedReviews,
    pad_id: int,
    batch_size: int,
    precision: Precision,
) -> NDArray[np.float32]:
    """Return (N, C) logits in the reviews' order; the model's mode is left as it was.

    Reviews that are to be scored in windows have the mean of these. Several processes score a share
    each, and all return the logits of all reviews.
    """
    windows = divide_reviews(reviews)
    labels = int(model.config.num_labels)  # type: ignore[union-attr, arg-type]

    def score(part: TokenizedReviews) -> Iterator[BatchLogits]:
        if precision.device.type == "cpu" and can_score_packed(model):
            return iterate_packed_logits(model, part, batch_size, precision)
        return iterate_padded_logits(model, part, pad_id, batch_size, precision)

    with evaluation_mode(model):
        return windows.combine(score_shares(windows.reviews, labels, score))


def iterate_packed_logits(
    model: nn.Module, reviews: TokenizedReviews, batch_size: int, precision: Precision
) -> Iterator[BatchLogits]:
    """Yield logits by the fast path: adapters merged, no padding, a batch a stream."""
    packed = build_packed_model(
        model, precision.dtype, precision.choose_scoring_form, is_merged=True
    )
    yield from score_packed(packed, reviews, batch_size)


def iterate_padded_logits(
    model: nn.Module,
    reviews: TokenizedReviews,
    pad_id: int,
    batch_size: int,
    precision: Precision,
) -> Iterator[BatchLogits]:
    """Yield logits by the model itself; for any model and device."""
    batches = iterate_padded_scoring_batches(reviews, batch_size, pad_id, precision.device)
    for batch, ids, mask in batches:
        with torch.inference_mode(), precision.autocast():
            logits = model(input_ids=ids, attention_mask=mask).logits
        yield batch, logits.float().cpu().numpy()


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Turn dropout off, and put every module back into the mode it was in."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, was_training in modes.items():
            module.training = was_training
