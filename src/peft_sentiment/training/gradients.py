"""The gradient of one optimizer step, by the fast path where there is one.

Shapes: B reviews of a batch, N tokens of them, T tokens of the longest, D width, C labels.
"""

import math
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import nn

from peft_sentiment.config import TrainingSettings
from peft_sentiment.data.batching import LabelledTokens, balance_batches, pad_batch
from peft_sentiment.model.dropout import drawing_from
from peft_sentiment.model.first_token import read_first_states
from peft_sentiment.model.linear import Projection
from peft_sentiment.model.lora import LoraLinear
from peft_sentiment.model.packed import PackedModel
from peft_sentiment.model.packing import PackedReviews, pack_reviews
from peft_sentiment.model.precision import Precision
from peft_sentiment.model.readers import build_packed_model, can_train_packed
from peft_sentiment.model.streams import count_streams, map_streams
from peft_sentiment.model.workspace import Workspace
from peft_sentiment.processes import Processes, get_processes
from peft_sentiment.training.lower_layers import LowerLayersCache
from peft_sentiment.training.objectives import Objective
from peft_sentiment.training.stretches import Stretches, build_stretches

Job = TypeVar("Job")


class GradientSource(Protocol):
    """What computes the loss of a step, and its gradient into the weights' `grad`."""

    def compute(self, chosen: NDArray[np.int64], step: int) -> float:
        """Return the mean loss over a step's reviews, each counted with its label's weight.

        Args:
            chosen: places of the reviews.
            step: number of the step, from 1.
        """

    def recall(self, chosen: NDArray[np.int64]) -> None:
        """Make up for a step that was done before an interruption: compute what it left behind."""


@dataclass(frozen=True)
class PaddedGradients:
    """Batches padded to their longest review, by the model itself; for any model and device.

    Attributes:
        model: as Accelerate has prepared it.
        objective: what is lowered.
        stretches: what is read of the reviews.
        precision: device and dtype.
        pad_id: token that fills up short reviews.
        processes: at work; each computes its share of a step.
    """

    model: nn.Module
    objective: Objective
    stretches: Stretches
    settings: TrainingSettings
    precision: Precision
    accelerator: Accelerator
    pad_id: int
    processes: Processes

    def compute(self, chosen: NDArray[np.int64], step: int) -> float:
        """Return the loss of a step, as `GradientSource` has it."""
        # Summed and divided by the whole step's weight, every review counts the same,
        # however the step is divided into batches.
        total = self.objective.weigh_step(chosen)
        loss = 0.0
        for batch, share in self._take_share(chosen):
            batch_loss = share * self._compute_loss(batch, step, total)
            self.accelerator.backward(batch_loss)
            loss += float(batch_loss.detach())
        return loss

    def recall(self, chosen: NDArray[np.int64]) -> None:
        """Do nothing: a step leaves nothing behind but weights."""

    def _take_share(self, chosen: NDArray[np.int64]) -> Iterator[tuple[NDArray[np.int64], float]]:
        """Yield this process's batches of a step, and what each counts.

        Where a layer's weights are gathered from all processes, all compute equally many batches:
        one that has a batch less computes a review once more, which counts nothing.
        """
        processes, size = self.processes, self.settings.per_device_train_batch_size
        own = [*split_batches(chosen[processes.rank :: processes.count], size)]
        yield from ((batch, 1.0) for batch in own)
        most = math.ceil(len(chosen[:: processes.count]) / size)
        if processes.sharding and len(own) < most:
            yield chosen[:1], 0.0

    def _compute_loss(self, batch: NDArray[np.int64], step: int, total: float) -> torch.Tensor:
        """Return a batch's part of the step's loss."""
        token_ids = self.stretches.read(batch, step)
        ids, mask = pad_batch(token_ids, self.pad_id)  # (B, T)
        ids, mask = self._move(ids), None if mask is None else self._move(mask)
        if self.objective.reads_states:
            outputs = read_first_states(self.model, ids, mask, self.precision)  # (B, D)
        else:
            outputs = self.model(input_ids=ids, attention_mask=mask).logits  # (B, C)
        return self.objective.compute(outputs.float(), batch, total)

    def _move(self, part: torch.Tensor) -> torch.Tensor:
        """Bring a batch to the device; from pinned memory to a GPU, which need not wait for it."""
        device = self.precision.device
        if device.type != "cuda":
            return part.to(device)
        return part.pin_memory().to(device, non_blocking=True)


@dataclass(frozen=True)
class PackedGradients:
    """Reviews laid end to end, a batch a stream, with the gradients written out; on a CPU.

    Attributes:
        packed: the model's fast form, whose outputs the objective reads.
        objective: what is lowered.
        stretches: what is read of the reviews.
        streams: batches computed at once.
        cache: of what the layers below the first adapter say, if it is kept.
        processes: at work; each computes its share of a step's batches.
    """

    packed: PackedModel
    objective: Objective
    stretches: Stretches
    settings: TrainingSettings
    streams: int
    cache: LowerLayersCache | None
    processes: Processes

    def compute(self, chosen: NDArray[np.int64], step: int) -> float:
        """Return the loss of a step, as `GradientSource` has it."""
        total = self.objective.weigh_step(chosen)
        seeds = np.random.SeedSequence([self.settings.seed, step])
        batches = self._divide(chosen)
        jobs = zip(batches, seeds.generate_state(len(batches), np.uint64).tolist(), strict=True)
        own = self._take_share([*jobs])
        loss = 0.0
        for batch_loss, gradients in map_streams(
            lambda job, workspace: self._compute_batch(*job, step, total, workspace),
            own,
            self.streams,
        ):
            loss += batch_loss
            for weight, gradient in gradients.items():
                weight.grad = gradient if weight.grad is None else weight.grad.add_(gradient)
        return loss

    def recall(self, chosen: NDArray[np.int64]) -> None:
        """Fill the cache of the lower layers as the step has filled it.

        The same batches are computed: in others, the last bits of a review's states would be
        others too, and a resumed training would end elsewhere.
        """
        if self.cache is None or self.cache.knows(chosen):
            return
        batches = self._take_share(self._divide(chosen))
        for _ in map_streams(self._recall_batch, batches, self.streams):
            pass

    def _recall_batch(self, batch: NDArray[np.int64], workspace: Workspace) -> None:
        reviews = pack_reviews(self.stretches.read(batch, 0))
        self._run_lower_layers(batch, reviews, workspace)

    def _divide(self, chosen: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        """Return a step's reviews in batches, one or more for each stream of each process.

        So two processes of one stream compute the same batches as one process of two streams.
        """
        return balance_batches(
            chosen,
            self.stretches.lengths,
            self.streams * self.processes.count,
            max(1, self.settings.max_tokens_per_batch // self.streams),
            max(1, self.settings.per_device_train_batch_size // self.streams),
        )

    def _take_share(self, of_all: list[Job]) -> list[Job]:
        return of_all[self.processes.rank :: self.processes.count]

    def _compute_batch(
        self,
        batch: NDArray[np.int64],
        seed: int,
        step: int,
        total: float,
        workspace: Workspace,
    ) -> tuple[float, dict[nn.Parameter, torch.Tensor]]:
        reviews = pack_reviews(self.stretches.read(batch, step))

        def compute_loss(outputs: torch.Tensor) -> torch.Tensor:
            return self.objective.compute(outputs, batch, total)

        x = self._run_lower_layers(batch, reviews, workspace)
        with drawing_from(torch.Generator().manual_seed(seed)):
            return self.packed.compute_gradients(x, reviews, compute_loss, workspace)

    def _run_lower_layers(
        self, batch: NDArray[np.int64], reviews: PackedReviews, workspace: Workspace
    ) -> torch.Tensor:
        if self.cache is None:
            return self.packed.run_frozen_layers(reviews, workspace)
        known = self.cache.read(batch, len(reviews.ids))
        if known is not None:
            return known
        x = self.packed.run_frozen_layers(reviews, workspace)
        self.cache.write(batch, x)
        return x


def can_use_packed(
    model: nn.Module, settings: TrainingSettings, precision: Precision, processes: Processes
) -> bool:
    """Tell whether the fast path can train a model as the settings and the launcher ask for."""
    is_plain = precision.device.type == "cpu" and not settings.gradient_checkpointing
    return is_plain and not processes.sharding and can_train_packed(model)


def build_packed_gradients(
    model: nn.Module,
    objective: Objective,
    stretches: Stretches,
    settings: TrainingSettings,
    precision: Precision,
    stack: ExitStack,
    processes: Processes,
) -> PackedGradients:
    """Return the fast path of a model that `can_use_packed`.

    Args:
        model: whose weights are trained.
        objective: what is lowered.
        stretches: what is read of the reviews.
        settings: of the run.
        precision: dtype and forms of attention.
        stack: closes the file of the lower layers in the end.
        processes: at work.
    """
    packed = build_packed_model(model, precision.dtype, precision.choose_form, is_merged=False)
    packed = packed.without_head() if objective.reads_states else packed
    cache = None
    # Processes on several machines have no file in common.
    if processes.share_memory and count_cache_bytes(packed, stretches, settings):
        width = model.config.hidden_size  # type: ignore[union-attr]
        lengths = stretches.lengths
        cache = stack.enter_context(
            LowerLayersCache(lengths, int(width), precision.dtype, processes)  # type: ignore[arg-type]
        )
    # Modules of peft's own are not written for several threads at once.
    is_ours = all(_is_ours(part) for layer in packed.layers for part in layer.projections)
    streams = count_streams() if is_ours else 1
    return PackedGradients(packed, objective, stretches, settings, streams, cache, processes)


def count_cache_bytes(packed: PackedModel, stretches: Stretches, settings: TrainingSettings) -> int:
    """Return what keeping the output of the frozen lower layers takes; 0 where it is not kept.

    It is not where there are no such layers, where there is one pass only, where each pass reads
    something else, or above the limit.
    """
    passes = settings.choose_epochs(len(stretches.reviews))
    if packed.first_trained == 0 or passes <= 1 or not stretches.are_whole:
        return 0
    width = packed.layers[0].attention_norm.normalized_shape[0]
    size = int(stretches.lengths.sum()) * width * packed.dtype.itemsize
    return size if size <= settings.lower_layers_cache_gb * 1e9 else 0


def plan_cache_bytes(
    model: nn.Module, train: LabelledTokens, settings: TrainingSettings, precision: Precision
) -> int:
    """Return what a training is going to keep of the frozen lower layers on disk."""
    if not can_use_packed(model, settings, precision, get_processes()):
        return 0
    packed = build_packed_model(model, precision.dtype, precision.choose_form, is_merged=False)
    stretches = build_stretches(train.reviews, settings)
    return count_cache_bytes(packed, stretches, settings)


def _is_ours(projection: Projection) -> bool:
    return isinstance(projection, LoraLinear) or not projection.trained


def split_batches(indices: NDArray[np.int64], size: int) -> Iterator[NDArray[np.int64]]:
    """Yield consecutive parts of at most `size`."""
    for start in range(0, len(indices), size):
        yield indices[start : start + size]
