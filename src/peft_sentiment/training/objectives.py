"""What a training lowers: the cross-entropy of labels, or how unlike reviews of one label are.

Shapes: B reviews of a batch, C labels, D width of the encoder.
"""

from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import cross_entropy, normalize

from peft_sentiment.data.batching import LabelledTokens


class Objective(Protocol):
    """A loss that is the sum over a step's batches, however the step is divided into them."""

    reads_states: ClassVar[bool]
    """Whether it is computed from what the encoder says at the first token, without the head."""

    def weigh_step(self, chosen: NDArray[np.int64]) -> float:
        """Return what the reviews of a step weigh together.

        Args:
            chosen: places of the reviews.
        """

    def compute(
        self, outputs: torch.Tensor, batch: NDArray[np.int64], total: float
    ) -> torch.Tensor:
        """Return a batch's part of the step's mean loss.

        Args:
            outputs: (B, C) logits, or (B, D) states.
            batch: places of its reviews.
            total: by `weigh_step`.
        """


@dataclass(frozen=True)
class LabelObjective:
    """Cross-entropy, each review counted with the weight of its label and its own.

    Attributes:
        train: the reviews.
        label_weights: (C,).
    """

    reads_states: ClassVar[bool] = False

    train: LabelledTokens
    label_weights: torch.Tensor

    def weigh_step(self, chosen: NDArray[np.int64]) -> float:
        """Return the sum of the reviews' weights."""
        return float(self.weigh(chosen).sum())

    def compute(
        self, outputs: torch.Tensor, batch: NDArray[np.int64], total: float
    ) -> torch.Tensor:
        """Return the part of (B, C) logits in the step's loss."""
        targets = torch.from_numpy(self.train.targets[batch]).to(outputs.device)
        weights = self.weigh(batch).to(outputs.device)
        return (cross_entropy(outputs, targets, reduction="none") * weights).sum() / total

    def weigh(self, chosen: NDArray[np.int64]) -> torch.Tensor:
        """Return how much each of these reviews counts."""
        weights = self.label_weights[self.train.targets[chosen]]
        if self.train.weights is None:
            return weights
        return weights * torch.from_numpy(self.train.weights[chosen])


@dataclass(frozen=True)
class LikenessObjective:
    """Cosines of all pairs of a batch: 1 for reviews of one label, 0 for others.

    The loss of SetFit's first stage (Tunstall et al., 2022, arXiv:2209.11055). A few reviews make
    many pairs, which is why it learns from few labels.

    Attributes:
        train: the reviews.
    """

    reads_states: ClassVar[bool] = True

    train: LabelledTokens

    def weigh_step(self, chosen: NDArray[np.int64]) -> float:
        """Return the number of reviews."""
        return float(len(chosen))

    def compute(
        self, outputs: torch.Tensor, batch: NDArray[np.int64], total: float
    ) -> torch.Tensor:
        """Return the part of (B, D) states in the step's loss; 0 for a review without a pair."""
        targets = torch.from_numpy(self.train.targets[batch]).to(outputs.device)
        directions = normalize(outputs, dim=1)
        wanted = (targets[:, None] == targets).to(outputs.dtype)
        errors = (directions @ directions.T - wanted).square().fill_diagonal_(0.0)  # (B, B)
        return errors.sum() / max(1, len(batch) - 1) / total


def build_label_objective(train: LabelledTokens, class_weights: str) -> LabelObjective:
    """Return the usual objective.

    Args:
        train: the reviews.
        class_weights: as in the settings.
    """
    return LabelObjective(train, compute_label_weights(train, class_weights))


def compute_label_weights(train: LabelledTokens, kind: str) -> torch.Tensor:
    """Return (C,) weights: all 1, or for `balanced` N / (C * count), as scikit-learn has it."""
    labels = len(train.label_names)
    if kind == "none":
        return torch.ones(labels)
    counts = np.bincount(train.targets, minlength=labels).clip(min=1)  # a label may be absent
    return torch.from_numpy((len(train) / (labels * counts)).astype(np.float32))
