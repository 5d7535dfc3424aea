"""A first stage for few labels: the adapter learns which reviews are alike, then the head follows.

A hundred reviews tell a whole network little of a label, but make five thousand pairs of one label
or of two. SetFit (Tunstall et al., 2022, arXiv:2209.11055) trains an encoder on such pairs and fits
a logistic regression on what it then says. Here an adapter is trained instead, and the regression
becomes the head that the model has anyway.

Shapes: N reviews, D width of the encoder, C labels.
"""

import dataclasses
import math
from collections.abc import Iterator

from peft_sentiment.config import TrainingSettings
from peft_sentiment.records import StepRecord
from peft_sentiment.training.gradients import can_use_packed
from peft_sentiment.training.loop import TrainingRun, train_steps
from peft_sentiment.training.objectives import LikenessObjective
from peft_sentiment.training.probing import PAIRS, fit_probe, require_probing

REVIEWS_PER_STEP = 32
"""Fewest reviews of a step: their pairs are all that it learns from."""


def train_contrast(run: TrainingRun) -> Iterator[StepRecord]:
    """Train the adapter to tell labels apart, then fit the head; yield a record of every step.

    Whoever leaves off before the last record leaves the head as it was.

    Args:
        run: of the training that is to follow; its settings hold those of this stage.

    Raises:
        DivergenceError: the loss or the gradient is no number any more.
        SettingsError: as in `require_probing`.
    """
    require_probing(run, PAIRS)
    stage = dataclasses.replace(
        run,
        settings=derive_settings(run),
        objective=LikenessObjective(run.train),
    )
    yield from train_steps(stage)
    fit_probe(run)


def derive_settings(run: TrainingRun) -> TrainingSettings:
    """Return the settings of the stage, from those of the training that follows it.

    Its reviews are read whole, as they are for the head that is fitted in the end.
    """
    settings, size = run.settings, run.settings.per_device_train_batch_size
    if can_use_packed(run.model, settings, run.precision, run.processes):
        size = max(size, REVIEWS_PER_STEP)  # Memory is bounded by tokens there.
    batches = max(settings.gradient_accumulation_steps, math.ceil(REVIEWS_PER_STEP / size))
    return dataclasses.replace(
        settings,
        num_train_epochs=settings.contrastive_epochs,
        per_device_train_batch_size=size,
        gradient_accumulation_steps=batches,
        crop_length=0,
    )
