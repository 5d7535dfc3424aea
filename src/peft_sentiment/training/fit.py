"""Training with validation: the loop's steps and, between them, what validation said of them."""

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn

from peft_sentiment.data.batching import LabelledTokens
from peft_sentiment.evaluation.metrics import compute_scores
from peft_sentiment.evaluation.prediction import predict_logits
from peft_sentiment.evaluation.probabilities import compute_probabilities
from peft_sentiment.records import Predictions, StepRecord, TrainingRecord, ValidationRecord
from peft_sentiment.training.loop import TrainingRun, train_steps

Event = StepRecord | ValidationRecord

FINAL_SHARE = 0.1
"""Share of the steps, from the end, whose mean loss is reported as the final one."""


def fit_adapter(run: TrainingRun, validation: LabelledTokens | None) -> Iterator[Event]:
    """Train, validate and stop early; yield every step and every validation.

    When the last event has been taken, the model holds the weights of the best validation, or
    the last ones where there is no validation or `load_best_model_at_end` is off.

    Args:
        run: model, reviews and settings.
        validation: reviews to choose the best weights by.
    """
    if validation is None or not len(validation):
        yield from train_steps(run)
        return
    interval = run.settings.eval_steps or run.steps_per_epoch
    best = BestWeights(run)
    for step in train_steps(run):
        yield step
        if step.step % interval == 0 or step.step == step.steps:
            yield best.offer(validate(run, validation, step))
            if best.is_given_up:
                break
    if run.settings.load_best_model_at_end:
        best.restore()


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

    @property
    def is_given_up(self) -> bool:
        """Whether the patience with validations that are no better is at its end."""
        return 0 < self.run.settings.early_stopping_patience <= self.waited

    def restore(self) -> None:
        """Put the best weights back into the model."""
        restore_trained_weights(self.run.model, self.weights)

    def _rank(self, record: ValidationRecord) -> tuple[float, float]:
        metric = self.run.settings.metric_for_best_model
        value = getattr(record, metric)
        return (-value if metric == "log_loss" else value, -record.log_loss)


def copy_trained_weights(model: nn.Module) -> dict[str, torch.Tensor]:
    """Return a copy of the weights that are trained, by name, in main memory."""
    return {
        name: weight.detach().to("cpu", copy=True)
        for name, weight in model.named_parameters()
        if weight.requires_grad
    }


def restore_trained_weights(model: nn.Module, weights: dict[str, torch.Tensor]) -> None:
    """Put copied weights back."""
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name in weights:
                weight.copy_(weights[name])


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
    )
