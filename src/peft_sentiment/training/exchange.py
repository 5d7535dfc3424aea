"""The gradient of a step over several processes: the sum of what each has computed of it.

A loss is divided by the weight of the whole step wherever a part of it is computed, so the sum over
the processes is the step's mean, however unequal their shares are.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from peft_sentiment.processes import Processes
from peft_sentiment.training.gradients import GradientSource


@dataclass(frozen=True)
class SharedGradients:
    """What all processes have computed of a step; as a `GradientSource`.

    Attributes:
        source: of this process's share.
        trained: the weights, in the same order everywhere.
        seed: of the training.
        processes: at work.
    """

    source: GradientSource
    trained: Sequence[nn.Parameter]
    seed: int
    processes: Processes

    def compute(self, chosen: NDArray[np.int64], step: int) -> float:
        """Return the loss of a step, as `GradientSource` has it; the same in every process."""
        # Each process draws its own dropout, the same one again after an interruption.
        seeds = np.random.SeedSequence([self.seed, step, self.processes.rank])
        torch.manual_seed(int(seeds.generate_state(1, np.uint64)[0] >> np.uint64(1)))
        return self._add_up(self.source.compute(chosen, step))

    def recall(self, chosen: NDArray[np.int64]) -> None:
        """Make up for this process's share of a step that was done before an interruption."""
        self.source.recall(chosen)

    @torch.no_grad()
    def _add_up(self, loss: float) -> float:
        """Put the sums into the weights' `grad` in one exchange; return the sum of the losses.

        A weight that is used in no process keeps having no gradient.
        """
        device = self.trained[0].device
        used = torch.tensor([weight.grad is not None for weight in self.trained], device=device)
        parts = [
            (torch.zeros_like(weight) if weight.grad is None else weight.grad).float().flatten()
            for weight in self.trained
        ]
        flat = torch.cat([torch.tensor([loss], device=device), used.float(), *parts])
        self.processes.add_up(flat)
        sizes = [1, len(self.trained), *(weight.numel() for weight in self.trained)]
        total, used, *sums = torch.split(flat, sizes)
        for weight, is_used, of_weight in zip(self.trained, used.tolist(), sums, strict=True):
            weight.grad = of_weight.view_as(weight).to(weight.dtype) if is_used else None
        return float(total)
