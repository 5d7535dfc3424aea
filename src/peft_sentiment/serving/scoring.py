"""One batch of texts, each for an adapter of its own."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from peft_sentiment.model.mixed import score_mixed
from peft_sentiment.model.workspace import Workspace
from peft_sentiment.serving.served import Servable

Work = tuple[Servable, NDArray[np.int32]]
"""An adapter and the token ids of one text."""


def score_batch(batch: Sequence[Work], workspace: Workspace) -> list[NDArray[np.float32]]:
    """Return the (C,) logits of each text, C being the labels of its adapter.

    Args:
        batch: adapters and token ids, in any order.
        workspace: of the calling thread.
    """
    places: dict[int, list[int]] = {}
    for place, (served, _) in enumerate(batch):
        places.setdefault(id(served), []).append(place)
    answers: list[NDArray[np.float32]] = [np.empty(0, np.float32)] * len(batch)
    mixed = []
    for own in places.values():
        served, token_ids = batch[own[0]][0], [batch[place][1] for place in own]
        if served.mixable is None:
            _put(answers, own, served.score(token_ids, workspace))
        else:
            mixed.append((own, (served.mixable, token_ids)))
    if mixed:
        scored = score_mixed([share for _, share in mixed], workspace)
        for (own, _), logits in zip(mixed, scored, strict=True):
            _put(answers, own, logits.numpy())
    return answers


def _put(
    answers: list[NDArray[np.float32]], places: Sequence[int], logits: NDArray[np.float32]
) -> None:
    for place, row in zip(places, logits, strict=True):
        answers[place] = row
