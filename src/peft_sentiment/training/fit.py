"""Training with validation: the loop's steps and, between them, what validation said of them."""

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import torch
from torch import nn

from peft_sentiment.data.batching import LabelledTokens
from peft_sentiment.errors import CheckpointError, DivergenceError
from peft_sentiment.evaluation.metrics import compute_scores
from peft_sentiment.evaluation.prediction import predict_logits
from peft_sentiment.evaluation.probabilities import compute_probabilities
from peft_sentiment.records import (
    ContrastRecord,
    Predictions,
    StepRecord,
    TrainingRecord,
    ValidationRecord,
)
from peft_sentiment.training.averaging import (
    WeightAverage,
    copy_trained_weights,
    restore_trained_weights,
)
from peft_sentiment.training.checkpoints import BestSoFar, Checkpoint
from peft_sentiment.training.checkpoints import Event as Event
from peft_sentiment.training.collapse import CollapseWatch, watch_for_collapse
from peft_sentiment.training.contrast import train_contrast
from peft_sentiment.training.identity import TrainingIdentity
from peft_sentiment.training.loop import (
    TrainingRun,
    TrainingState,
    start_training,
    train_steps,
)
from peft_sentiment.training.probing import PROBING, fit_probe, require_probing
from peft_sentiment.training.random_states import capture_random_states
from peft_sentiment.training.saving import CheckpointSaver
from peft_sentiment.training.sharding import whole_on_device

EventKind = TypeVar("EventKind", ContrastRecord, StepRecord, ValidationRecord)

FINAL_SHARE = 0.1
"""Share of the steps, from the end, whose mean loss is reported as the final one."""


def fit_adapter(
    run: TrainingRun, validation: LabelledTokens | None, saver: CheckpointSaver | None = None
) -> Iterator[Event]:
    """Train, validate and stop early; yield every step and every validation.

    Where the settings ask for it, a first stage on pairs of reviews comes before, unless there is a
    checkpoint to go on from. The stage has no checkpoints: a training that is stopped in it starts
    anew.

    When the last event has been taken, the model holds the weights of the best validation, or
    the last ones where there is no validation or `load_best_model_at_end` is off. Where weights
    are averaged, those are averages.

    Args:
        run: model, reviews and settings.
        validation: reviews to choose the best weights by.
        saver: writes checkpoints between the steps, and holds the one to go on from; what was
            yielded before that one is not yielded again.

    Raises:
        CheckpointError: the checkpoint to go on from has weights that the model does not have.
        DivergenceError: the loss is no number any more, or that of guessing again; the model then
            has the weights of the best validation, if there was one.
        OutputError: a checkpoint can't be written.
        SettingsError: there is to be a first stage, which the model can't have.
    """
    state = start_training(run)
    # The ranks that AdaLoRA takes away would come back with a mean.
    average = WeightAverage(run.model, 0 if state.adalora else run.first_averaged_step)
    fit = Fit(run, state, BestWeights(run), average, watch_for_collapse(run))
    if saver is not None and saver.start is not None:
        fit.restore(saver.start)
    else:
        yield from fit.train_first_stage(saver)
    if not fit.is_finished and (saver is None or not saver.is_stopped):
        try:
            yield from _train(fit, validation, saver)
        except DivergenceError:
            fit.best.restore()
            raise
    if fit.is_finished:
        average.apply()
        if run.settings.load_best_model_at_end:
            fit.best.restore()


def _train(
    fit: "Fit", validation: LabelledTokens | None, saver: CheckpointSaver | None
) -> Iterator[Event]:
    """Do the steps that are left, with their validations and checkpoints."""
    run = fit.run
    for step in train_steps(run, fit.state):
        fit.average.update(step.step)
        yield fit.note(step)
        fit.watch.note(step)
        if validation is not None and fit.is_validation_due(validation):
            with (
                fit.average.in_use(),
                whole_on_device(run.model, run.precision, run.processes),
            ):
                validated = fit.best.offer(validate(run, validation, step))
            yield fit.note(validated)
        if saver is not None:
            # All stop after the same step, whichever has been asked to.
            saver.is_stopped = run.processes.any(saver.is_stopping())
            is_last = fit.is_finished or saver.is_stopped
            if run.processes.is_main:
                saver.offer(step.step, is_last, lambda: fit.capture(saver.identity))
        if fit.is_finished or (saver is not None and saver.is_stopped):
            break


@dataclass
class Fit:
    """A training with its validations, at one moment.

    Attributes:
        watch: looks at the losses.
        events: all steps and validations so far.
    """

    run: TrainingRun
    state: TrainingState
    best: "BestWeights"
    average: WeightAverage
    watch: CollapseWatch
    events: list[Event] = field(default_factory=list)

    def train_first_stage(self, saver: CheckpointSaver | None) -> Iterator[ContrastRecord]:
        """Do what the settings ask for before the training, unless a process is asked to stop.

        That is to train on pairs of reviews, which ends with fitting the head, or only the latter.
        """
        if not self.run.settings.contrastive_epochs:
            if self.run.settings.linear_probing:
                require_probing(self.run, PROBING)
                fit_probe(self.run)
            return
        for step in train_contrast(self.run):
            yield self.note(ContrastRecord(step))
            if saver is not None and self.run.processes.any(saver.is_stopping()):
                saver.is_stopped = True
                return

    @property
    def is_finished(self) -> bool:
        """Whether no step is left to do, or none is worth doing."""
        return self.state.step >= self.run.steps or self.best.is_given_up

    def is_validation_due(self, validation: LabelledTokens) -> bool:
        """Tell whether the weights are to be validated after the present step."""
        step, interval = self.state.step, self.run.settings.eval_steps or self.run.steps_per_epoch
        return len(validation) > 0 and (step % interval == 0 or step == self.run.steps)

    def note(self, event: EventKind) -> EventKind:
        """Remember an event, and return it."""
        self.events.append(event)
        return event

    def capture(self, identity: TrainingIdentity) -> Checkpoint:
        """Return all that is needed to go on from here."""
        state = self.state
        ranks, rank_pattern = state.adalora.capture() if state.adalora else ({}, {})
        return Checkpoint(
            identity=identity,
            step=state.step,
            events=tuple(self.events),
            weights=copy_trained_weights(self.run.model),
            optimizer=state.optimizer.state_dict(),
            schedule=state.schedule.state_dict(),
            scaler=None if state.scaler is None else state.scaler.state_dict(),
            random_states=capture_random_states(),
            ranks=ranks,
            rank_pattern=rank_pattern,
            best=self.best.describe(),
            average=self.average.means,
        )

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go back to where a checkpoint was made.

        Raises:
            CheckpointError: it has weights that the model does not have.
        """
        require_same_weights(self.run.model, checkpoint)
        restore_trained_weights(self.run.model, checkpoint.weights)
        state, best = self.state, checkpoint.best
        state.optimizer.load_state_dict(checkpoint.optimizer)
        state.schedule.load_state_dict(checkpoint.schedule)
        state.step = checkpoint.step
        state.scaler_state, state.random_states = checkpoint.scaler, checkpoint.random_states
        if state.adalora is not None:
            state.adalora.restore(checkpoint.ranks, checkpoint.rank_pattern)
        self.events = list(checkpoint.events)
        for event in self.events:
            if isinstance(event, StepRecord):
                self.watch.note(event)
        self.average.means = dict(checkpoint.average)
        if best is not None:
            self.best = BestWeights(self.run, best.record, best.waited, best.weights)


def require_same_weights(model: nn.Module, checkpoint: Checkpoint) -> None:
    """Check that a checkpoint holds just the weights that a model trains.

    Raises:
        CheckpointError: it holds others.
    """
    needed = {name: list(w.shape) for name, w in model.named_parameters() if w.requires_grad}
    saved = {name: list(weight.shape) for name, weight in checkpoint.weights.items()}
    wrong = sorted(n for n in needed.keys() | saved.keys() if needed.get(n) != saved.get(n))
    if wrong:
        raise CheckpointError(
            f"The checkpoint of step {checkpoint.step} does not fit the model: {len(wrong)} "
            f"weights differ, {wrong[0]} among them. Start anew without --resume."
        )


def validate(run: TrainingRun, validation: LabelledTokens, step: StepRecord) -> ValidationRecord:
    """Score the validation reviews with the model as it stands."""
    start = run.clock()
    logits = predict_logits(
        run.model,
        validation.reviews,
        run.pad_id,
        run.settings.per_device_eval_batch_size,
        run.precision,
    )
    seconds = run.clock() - start
    names, reviews = validation.label_names, validation.reviews
    predictions = Predictions(
        names, compute_probabilities(logits), reviews.lengths, reviews.is_cut, seconds
    )
    labels = [names[target] for target in validation.targets]
    scores = compute_scores(labels, predictions, confidence_level=0.95)
    return ValidationRecord(
        step=step.step,
        epoch=step.epoch,
        accuracy=scores.accuracy,
        f1=scores.f1,
        log_loss=scores.log_loss,
        is_best=False,
        seconds=seconds,
    )


@dataclass
class BestWeights:
    """The trained weights as they were at the best validation so far.

    Attributes:
        waited: validations since then.
    """

    run: TrainingRun
    record: ValidationRecord | None = None
    waited: int = 0
    weights: dict[str, torch.Tensor] = field(default_factory=dict)

    def offer(self, record: ValidationRecord) -> ValidationRecord:
        """Keep the present weights if they are the best, and return the record that says so."""
        is_best = self.record is None or self._rank(record) > self._rank(self.record)
        record = dataclasses.replace(record, is_best=is_best)
        self.waited = 0 if is_best else self.waited + 1
        if is_best:
            self.record, self.weights = record, copy_trained_weights(self.run.model)
        return record

    def describe(self) -> BestSoFar | None:
        """Return the best validation so far with its weights, if there was one."""
        if self.record is None:
            return None
        return BestSoFar(self.record, self.waited, self.weights)

    @property
    def is_given_up(self) -> bool:
        """Whether the patience with validations that are no better is at its end."""
        return 0 < self.run.settings.early_stopping_patience <= self.waited

    def restore(self) -> None:
        """Put the best weights back into the model, if there was a validation."""
        restore_trained_weights(self.run.model, self.weights)

    def _rank(self, record: ValidationRecord) -> tuple[float, float]:
        metric = self.run.settings.metric_for_best_model
        value = getattr(record, metric)
        return (-value if metric == "log_loss" else value, -record.log_loss)


def summarize_training(events: Sequence[Event], is_best_restored: bool) -> TrainingRecord:
    """Make one record of a whole training.

    Args:
        events: all that `fit_adapter` has yielded.
        is_best_restored: whether it ended with the best weights.
    """
    steps = [event for event in events if isinstance(event, StepRecord)]
    validations = tuple(event for event in events if isinstance(event, ValidationRecord))
    best = [record.step for record in validations if record.is_best] if is_best_restored else []
    seconds = sum(step.seconds for step in steps)
    reviews = sum(step.reviews for step in steps)
    last_losses = [step.loss for step in steps[-max(1, int(len(steps) * FINAL_SHARE)) :]]
    return TrainingRecord(
        seconds=seconds + sum(record.seconds for record in validations),
        reviews=reviews,
        reviews_per_second=reviews / seconds,
        tokens_per_second=sum(step.tokens for step in steps) / seconds,
        steps=len(steps),
        final_loss=float(np.mean(last_losses)),
        best_step=best[-1] if best else len(steps),
        stopped_early=len(steps) < steps[-1].steps,
        validations=validations,
        epochs=steps[-1].epoch,
        learning_rate=max(step.learning_rate for step in steps),
    )
