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

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from peft_sentiment.config import TrainingSettings
from peft_sentiment.data.batching import TokenizedReviews, iterate_padded_scoring_batches
from peft_sentiment.errors import SettingsError
from peft_sentiment.evaluation.packed_scoring import score_packed
from peft_sentiment.evaluation.prediction import evaluation_mode
from peft_sentiment.model.adapters import get_bare_model
from peft_sentiment.model.first_token import read_first_states
from peft_sentiment.model.readers import build_packed_model, can_score_packed
from peft_sentiment.records import StepRecord
from peft_sentiment.training.gradients import can_use_packed
from peft_sentiment.training.head_fit import fit_head
from peft_sentiment.training.loop import TrainingRun, train_steps
from peft_sentiment.training.objectives import LikenessObjective, build_label_objective

REVIEWS_PER_STEP = 32
"""Fewest reviews of a step: their pairs are all that it learns from."""


def train_contrast(run: TrainingRun) -> Iterator[StepRecord]:
    """Train the adapter to tell labels apart, then fit the head; yield a record of every step.

    Whoever leaves off before the last record leaves the head as it was.

    Args:
        run: of the training that is to follow; its settings hold those of this stage.

    Raises:
        DivergenceError: the loss or the gradient is no number any more.
        SettingsError: it is not known where the model's head reads, or there is but one label.
    """
    require_contrast(run)
    stage = dataclasses.replace(
        run,
        settings=derive_settings(run),
        objective=LikenessObjective(run.train),
    )
    yield from train_steps(stage)
    labels = build_label_objective(run.train, run.settings.class_weights)
    weights = labels.weigh(np.arange(len(run.train))).double().numpy()
    fit_head(get_bare_model(run.model), read_states(run), run.train.targets, weights)


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


def require_contrast(run: TrainingRun) -> None:
    """Check that a model can be trained on pairs.

    Raises:
        SettingsError: it can't, also with divided weights, or there are no pairs of unlike labels.
    """
    epochs = run.settings.contrastive_epochs
    if not can_score_packed(run.model):
        kind = get_bare_model(run.model).config.model_type
        raise SettingsError(
            f"training.contrastive_epochs is {epochs:g}, but where the head of a {kind} with this "
            "method reads is not known. It is for DistilBERT, BERT, RoBERTa, XLM-RoBERTa, "
            "CamemBERT and ELECTRA with adapters in linear layers, LoRA for one. Set it to 0."
        )
    if sharding := run.processes.sharding:
        raise SettingsError(
            f"training.contrastive_epochs is {epochs:g}, but this stage reads the encoder "
            f"without its head, and weights that {sharding} divides are gathered for the whole "
            f"model alone. Launch without --use_{sharding.lower()}, or set it to 0."
        )
    if len(np.unique(run.train.targets)) < 2:
        raise SettingsError(
            f"training.contrastive_epochs is {epochs:g}, but all training reviews have one label, "
            "so there are no pairs to tell apart. Raise --train-size, or set it to 0."
        )


def read_states(run: TrainingRun) -> NDArray[np.float32]:
    """Return (N, D) what the encoder with its adapter says of the training reviews, for the head.

    Every process reads all of them, so that all fit the same head.
    """
    reviews, model = run.train.reviews, run.model
    width = int(get_bare_model(model).config.hidden_size)
    states = np.zeros((len(reviews), width), np.float32)
    with evaluation_mode(model):
        for batch, of_batch in _iterate_states(run, model, reviews):
            states[batch] = of_batch
    return states


def _iterate_states(
    run: TrainingRun, model: nn.Module, reviews: TokenizedReviews
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
    precision, size = run.precision, run.settings.per_device_eval_batch_size
    if precision.device.type == "cpu":
        packed = build_packed_model(
            model, precision.dtype, precision.choose_scoring_form, is_merged=True
        )
        yield from score_packed(packed.without_head(), reviews, size)
        return
    batches = iterate_padded_scoring_batches(reviews, size, run.pad_id, precision.device)
    for batch, ids, mask in batches:
        with torch.inference_mode():
            states = read_first_states(model, ids, mask, precision)
        yield batch, states.float().cpu().numpy()
