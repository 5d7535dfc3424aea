"""Reviews scored in shares, one a process, each review once."""

from collections.abc import Callable, Iterable

import numpy as np
import torch
from numpy.typing import NDArray

from peft_sentiment.data.batching import TokenizedReviews
from peft_sentiment.processes import get_processes


def score_shares(
    reviews: TokenizedReviews,
    width: int,
    score: Callable[[TokenizedReviews], Iterable[tuple[NDArray[np.int64], NDArray[np.float32]]]],
) -> NDArray[np.float32]:
    """Return (N, width) numbers, a row per review in the reviews' order.

    Args:
        reviews: N reviews, the same in every process.
        width: numbers of a review.
        score: reviews -> batch by batch, their places among these and their numbers.
    """
    processes = get_processes()
    rows = np.zeros((len(reviews), width), np.float32)
    # Dealt out from the longest to the shortest, so that all have about as much to do.
    own = np.argsort(-reviews.lengths, kind="stable")[processes.rank :: processes.count]
    is_whole = processes.count == 1
    for batch, of_batch in score(reviews if is_whole else reviews.take(own)):
        rows[batch if is_whole else own[batch]] = of_batch
    processes.add_up(torch.from_numpy(rows))  # What is another's share is 0 here.
    return rows
