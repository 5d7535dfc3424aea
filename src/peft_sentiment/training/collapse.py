"""Whether a training has lost what it had learned.

At too high a learning rate a head can die: what it says is then the same of every review, no
gradient comes back, and the loss stays at that of guessing until the end. Nothing becomes infinite,
so without a look at the losses hours go by for a coin.
"""

from dataclasses import dataclass, field
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from peft_sentiment.errors import DivergenceError
from peft_sentiment.records import StepRecord
from peft_sentiment.training.loop import TrainingRun
from peft_sentiment.training.objectives import build_label_objective

BLOCK = 25
"""Steps whose mean loss is looked at."""

BLOCKS = 4
"""Blocks in a row over which a loss has come down, or is that of guessing."""

LEARNED = 0.8
"""Share of the loss of guessing below which something has been learned."""

DEVIATIONS = 6.0
"""Standard deviations below the loss of guessing, besides: where a label is rare, a mean over 100
steps comes far down by chance."""

NEAR = 0.05
"""Share by which each block's loss may differ from that of guessing, to be taken for it."""


@dataclass
class CollapseWatch:
    """Looks at the losses of a training.

    Attributes:
        guessing: loss of one who knows nothing but how frequent each label is.
        learned: mean loss of `BLOCKS` blocks that only one who has learned comes to.
        lowest: mean loss of the best `BLOCKS` blocks in a row so far.
    """

    guessing: float
    learned: float
    lowest: float = float("inf")
    _blocks: list[float] = field(default_factory=list)
    _losses: list[float] = field(default_factory=list)

    def note(self, step: StepRecord) -> None:
        """Look at the loss of the next step.

        Raises:
            DivergenceError: for `BLOCK` * `BLOCKS` steps it has been that of guessing, and it had
                been far below.
        """
        self._losses.append(step.loss)
        if len(self._losses) < BLOCK:
            return
        self._blocks = [*self._blocks[1 - BLOCKS :], fmean(self._losses)]
        self._losses.clear()
        if len(self._blocks) < BLOCKS:
            return
        self.lowest = min(self.lowest, fmean(self._blocks))
        is_guessing = all(abs(loss / self.guessing - 1) < NEAR for loss in self._blocks)
        if is_guessing and self.lowest < self.learned:
            raise DivergenceError(
                f"The loss of the last {BLOCK * BLOCKS} steps is {fmean(self._blocks):.3f}, that "
                f"of guessing, where it had come down to {self.lowest:.3f}: by step {step.step} "
                "the training has lost what it had learned, and would hardly find it again. Try a "
                "third of --learning-rate.",
                step=step.step,
            )


def watch_for_collapse(run: TrainingRun) -> CollapseWatch:
    """Return what looks at the losses of a training from its first step on."""
    objective = build_label_objective(run.train, run.settings.class_weights)
    weights = objective.weigh(np.arange(len(run.train))).double().numpy()
    of_labels = np.bincount(run.train.targets, weights, len(run.train.label_names))
    shares = of_labels[of_labels > 0] / of_labels.sum()
    return build_watch(shares, BLOCK * BLOCKS * run.reviews_per_step)


def build_watch(shares: NDArray[np.float64], reviews: int) -> CollapseWatch:
    """Return what looks at losses where the labels have these shares.

    Args:
        shares: (C,), of each label; all above 0.
        reviews: of `BLOCK` * `BLOCKS` steps.
    """
    losses = -np.log(shares)
    guessing = float(shares @ losses)
    deviation = float(np.sqrt(shares @ np.square(losses - guessing) / reviews))
    # With one label alone guessing costs nothing, and nothing can be lost.
    return CollapseWatch(
        max(guessing, 1e-9), min(LEARNED * guessing, guessing - DEVIATIONS * deviation)
    )
