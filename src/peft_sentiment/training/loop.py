"""The training loop: takes steps and yields what each one did.

Progress, validation, saving and stopping belong to whoever iterates.
Shapes: C labels.
"""

import itertools
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from numpy.typing import NDArray
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from transformers import get_linear_schedule_with_warmup

from peft_sentiment.config import TrainingSettings
from peft_sentiment.data.batching import LabelledTokens
from peft_sentiment.data.shuffling import iterate_shuffled_steps
from peft_sentiment.errors import DivergenceError, SettingsError
from peft_sentiment.model.precision import Precision
from peft_sentiment.processes import Processes, get_processes
from peft_sentiment.records import StepRecord
from peft_sentiment.training.exchange import SharedGradients
from peft_sentiment.training.gradients import (
    GradientSource,
    PaddedGradients,
    build_packed_gradients,
    can_use_packed,
)
from peft_sentiment.training.method_steps import AdaLoraSteps, begin_adalora, build_optimizer
from peft_sentiment.training.objectives import Objective, build_label_objective
from peft_sentiment.training.random_states import restore_random_states
from peft_sentiment.training.sharding import computing_model
from peft_sentiment.training.stretches import Stretches, build_stretches

MIXED_PRECISION = {"float32": "no", "bfloat16": "bf16", "float16": "fp16"}
"""torch's dtype -> Accelerate's name."""


@dataclass(frozen=True)
class TrainingRun:
    """What a training is made of.

    Attributes:
        model: a sequence-classification model on the precision's device; those of its weights
            that require a gradient are trained.
        train: N reviews.
        settings: of the run; the seed governs the order of the reviews and, through torch's
            global generator, dropout.
        precision: device and dtype.
        pad_id: token that fills up short reviews.
        clock: seconds, for the records.
        learning_rate_ratios: module -> factor of its weights' learning rate.
        processes: at work, all with the same model and reviews; each has a share of every step.
        objective: what is lowered; by default the cross-entropy of the labels.
        began_with: number of processes for which the steps are laid out, as a training that is
            resumed by more or fewer keeps its steps; by default that of `processes`.
    """

    model: nn.Module
    train: LabelledTokens
    settings: TrainingSettings
    precision: Precision
    pad_id: int
    clock: Callable[[], float] = time.perf_counter
    learning_rate_ratios: Mapping[str, float] = field(default_factory=dict)
    processes: Processes = field(default_factory=get_processes)
    objective: Objective | None = None
    began_with: int | None = None

    @cached_property
    def stretches(self) -> Stretches:
        """What each step reads of its reviews."""
        return build_stretches(self.train.reviews, self.settings)

    @property
    def reviews_per_step(self) -> int:
        """Reviews that one optimizer step sees, over all processes."""
        settings, began_with = self.settings, self.began_with or self.processes.count
        of_one = settings.per_device_train_batch_size * settings.gradient_accumulation_steps
        return of_one * began_with

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps of one pass over the reviews."""
        return math.ceil(len(self.train) / self.reviews_per_step)

    @property
    def steps(self) -> int:
        """Optimizer steps of the run; a part of a step counts as one."""
        epochs = self.settings.choose_epochs(len(self.train))
        return max(1, count_steps(epochs, self.steps_per_epoch))

    @property
    def first_averaged_step(self) -> int:
        """The first optimizer step after which the weights count in the average; 0 for none."""
        share = self.settings.weight_averaging
        return self.steps - count_steps(share, self.steps) + 1 if share else 0

    @property
    def warmup_steps(self) -> int:
        """Optimizer steps over which the learning rate rises; a share leaves one to learn in."""
        warmup = self.settings.warmup_steps
        if warmup >= 1:
            return int(warmup)
        return min(count_steps(warmup, self.steps), self.steps - 1)


def count_steps(share: float, steps: int) -> int:
    """Return how many steps a share of them is; a part of a step counts as one."""
    # 0.07 * 100 is 7.000000000000001, which is 7 steps and not 8.
    return math.ceil(round(share * steps, 6))


@dataclass
class TrainingState:
    """How far a training has come, its weights aside.

    Attributes:
        optimizer: of the weights that are trained, with their moments.
        schedule: of its learning rate.
        step: optimizer steps done.
        adalora: AdaLoRA's part, with that method.
        scaler: of the gradients in fp16, once the training has begun.
        scaler_state: of an earlier scaler, to go on from.
        random_states: by `capture_random_states`, to go on from; None starts by the seed.
    """

    optimizer: Optimizer
    schedule: LRScheduler
    step: int = 0
    adalora: AdaLoraSteps | None = None
    scaler: torch.amp.GradScaler | None = None
    scaler_state: Mapping[str, Any] | None = None
    random_states: Mapping[str, torch.Tensor] | None = None


def start_training(run: TrainingRun) -> TrainingState:
    """Return the state before the first step.

    Raises:
        SettingsError: the phases of the method do not fit into the steps.
    """
    optimizer = build_optimizer(run.model, run.settings, run.learning_rate_ratios)
    schedule = get_linear_schedule_with_warmup(optimizer, run.warmup_steps, run.steps)
    return TrainingState(optimizer, schedule, adalora=begin_adalora(run.model, run.steps))


def list_trained(model: nn.Module) -> list[nn.Parameter]:
    """Return the weights that are trained, in the model's order."""
    return [weight for weight in model.parameters() if weight.requires_grad]


def train_steps(run: TrainingRun, state: TrainingState | None = None) -> Iterator[StepRecord]:
    """Train, and yield a record after every optimizer step.

    Args:
        run: what is trained, on what and how.
        state: to go on from, kept up to date; by default that before the first step.

    Raises:
        DivergenceError: the loss or the gradient is no number any more.
        SettingsError: the model can't do the gradient checkpointing that is asked for.
    """
    state = state or start_training(run)
    trained = list_trained(run.model)
    with prepared_training(run, state) as (accelerator, model, source):
        stepper = accelerator.prepare(state.optimizer)
        for step, chosen in enumerate(plan_steps(run), start=1):
            if step <= state.step:
                continue
            start = run.clock()
            model.train()
            loss = source.compute(chosen, step)
            learning_rate = float(state.schedule.get_last_lr()[0])
            require_finite("loss", loss, step, learning_rate, chosen)
            if state.adalora is not None:
                state.adalora.add_penalty(accelerator.backward)
            grad_norm = float(
                accelerator.clip_grad_norm_(trained, run.settings.max_grad_norm or math.inf)
            )
            if accelerator.scaler is None:  # The scaler of fp16 leaves such a step out by itself.
                require_finite("gradient", grad_norm, step, learning_rate, chosen)
            stepper.step()
            state.schedule.step()
            if state.adalora is not None:
                state.adalora.allocate(step)
            stepper.zero_grad()
            state.step = step
            yield StepRecord(
                step=step,
                steps=run.steps,
                epoch=step / run.steps_per_epoch,
                loss=loss,
                learning_rate=learning_rate,
                grad_norm=grad_norm,
                reviews=len(chosen),
                tokens=int(run.stretches.lengths[chosen].sum()),
                seconds=run.clock() - start,
            )


@contextmanager
def prepared_training(
    run: TrainingRun, state: TrainingState
) -> Iterator[tuple[Accelerator, nn.Module, GradientSource]]:
    """Give what the next step needs, as it would be if the steps before it had been done here."""
    torch.manual_seed(run.settings.seed)
    with (
        prepared_by_accelerate(run) as (accelerator, model),
        gradient_source(run, accelerator, model) as source,
    ):
        run.processes.align(list_trained(run.model))
        state.scaler = accelerator.scaler
        if state.scaler is not None and state.scaler_state is not None:
            state.scaler.load_state_dict(dict(state.scaler_state))
        for chosen in itertools.islice(plan_steps(run), state.step):
            source.recall(chosen)
            run.processes.wait()
        if state.random_states is not None:
            restore_random_states(state.random_states)
        yield accelerator, model, source


def require_finite(
    what: str, value: float, step: int, learning_rate: float, chosen: NDArray[np.int64]
) -> None:
    """Check that a step's loss, or the length of its gradient, is a number to learn from.

    Raises:
        DivergenceError: it is not; it holds the places of the step's reviews.
    """
    if not math.isfinite(value):
        raise DivergenceError(
            f"The {what} of step {step} is {value} at learning rate {learning_rate:.2g}: training "
            "has diverged. Try a third of --learning-rate, or --no-bf16.",
            step=step,
            reviews=chosen.tolist(),
        )


@contextmanager
def gradient_source(
    run: TrainingRun, accelerator: Accelerator, model: nn.Module
) -> Iterator[GradientSource]:
    """Give what computes the gradients: the fast path where the model and the device have one.

    Args:
        run: whose gradients are meant.
        accelerator: with which its model is prepared.
        model: as it is prepared.
    """
    settings, precision = run.settings, run.precision
    processes, stretches = run.processes, run.stretches
    objective = run.objective or build_label_objective(run.train, settings.class_weights)
    with ExitStack() as stack:
        source: GradientSource
        if can_use_packed(run.model, settings, precision, processes):
            source = build_packed_gradients(
                run.model, objective, stretches, settings, precision, stack, processes
            )
        else:
            source = PaddedGradients(
                model, objective, stretches, settings, precision, accelerator, run.pad_id, processes
            )
        if processes.count > 1:
            source = SharedGradients(source, list_trained(run.model), settings.seed, processes)
        yield source


def plan_steps(run: TrainingRun) -> Iterator[NDArray[np.int64]]:
    """Yield the places of the reviews of each step, which do not depend on the batch size."""
    epochs = (
        iterate_shuffled_steps(
            run.stretches.lengths,
            run.reviews_per_step,
            np.random.default_rng([run.settings.seed, epoch]),
            run.train.shuffle_buffer,
        )
        for epoch in itertools.count()
    )
    return itertools.islice(itertools.chain.from_iterable(epochs), run.steps)


@contextmanager
def prepared_by_accelerate(run: TrainingRun) -> Iterator[tuple[Accelerator, nn.Module]]:
    """Give the model to Accelerate for the block, and take it back unchanged but for training.

    Accelerate keeps the first precision of a process for good, so that a later training in
    another one would fail: its state is made anew. Devices are placed by us.
    """
    AcceleratorState._reset_state()
    accelerator = Accelerator(
        mixed_precision=MIXED_PRECISION[run.precision.dtype_name],
        cpu=run.precision.device.type == "cpu",
        device_placement=False,
    )
    with (
        computing_model(run.model, run.precision, run.processes) as computing,
        gradient_checkpointing(computing, run.settings.gradient_checkpointing),
    ):
        # Not wrapped for several processes: `SharedGradients` exchanges gradients once a step.
        # Accelerate's way, at every batch, waits for ever where one has a batch less than another.
        model = accelerator.prepare_model(computing, device_placement=False, evaluation_mode=True)
        try:
            yield accelerator, model
        finally:
            # What Accelerate has set. Its `unwrap_model` would import DeepSpeed where that is
            # installed, which takes seconds and warns.
            for name in ("forward", "_original_forward"):
                vars(computing).pop(name, None)
            run.model.eval()


@contextmanager
def gradient_checkpointing(model: nn.Module, enabled: bool) -> Iterator[None]:
    """Let the model compute its activations twice in this block, where that is asked for.

    Raises:
        SettingsError: transformers can't do it for this architecture.
    """
    if not enabled:
        yield
        return
    if not model.supports_gradient_checkpointing:
        raise SettingsError(
            f"training.gradient_checkpointing is on, but a {model.config.model_type} can't do it. "  # type: ignore[union-attr]
            "Leave it off; when memory is short, lower --max-length or "
            "--per-device-train-batch-size."
        )
    # The re-entrant form would skip the adapters: the frozen embeddings' output has no gradient.
    # It is given one for that form, by a hook that would stay and cost a backward pass down to it.
    model.activation_checkpointing_enable({"use_reentrant": False})  # type: ignore[operator]
    model.disable_input_require_grads()  # type: ignore[operator]
    try:
        yield
    finally:
        model.activation_checkpointing_disable()  # type: ignore[operator]
