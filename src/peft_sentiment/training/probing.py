"""The head from a linear probe: fitted to what the encoder says of the training reviews.

A head at random sends the encoder gradients that say nothing yet, and what the encoder knew is bent
to fit it. With a head that is fitted before, fine-tuning changes less of it (linear probing, then
fine-tuning: Kumar et al., 2022, arXiv:2202.10054). What it gains here: docs/quality.md.

Shapes: N reviews, D width of the encoder.
"""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from peft import PeftConfig
from torch import nn

from peft_sentiment.config import TrainingSettings
from peft_sentiment.data.batching import TokenizedReviews, iterate_padded_scoring_batches
from peft_sentiment.errors import SettingsError
from peft_sentiment.evaluation.packed_scoring import score_packed
from peft_sentiment.evaluation.prediction import evaluation_mode
from peft_sentiment.model.adapters import get_bare_model
from peft_sentiment.model.first_token import read_first_states
from peft_sentiment.model.readers import (
    build_packed_model,
    can_score_packed,
    can_score_packed_with,
)
from peft_sentiment.training.head_fit import fit_head
from peft_sentiment.training.loop import TrainingRun
from peft_sentiment.training.objectives import build_label_objective

PROBING, PAIRS = "linear_probing", "contrastive_epochs"
STAGES = {PROBING: "leave it out with --no-linear-probing", PAIRS: "set it to 0"}
"""Setting that asks for the head to be fitted -> what to do where it can't be."""


def fit_probe(run: TrainingRun) -> None:
    """Fit the head to what the encoder, with its adapter, says of the training reviews.

    Args:
        run: one that passes `require_probing`.
    """
    labels = build_label_objective(run.train, run.settings.class_weights)
    weights = labels.weigh(np.arange(len(run.train))).double().numpy()
    fit_head(get_bare_model(run.model), read_states(run), run.train.targets, weights)


def require_probing(run: TrainingRun, stage: str) -> None:
    """Check that the encoder can be read without its head, and that there is something to fit.

    Args:
        run: of the training.
        stage: the setting that asks for it, one of `STAGES`.

    Raises:
        SettingsError: it can't, also with divided weights, or all reviews have one label.
    """
    asked, otherwise = _describe_stage(run.settings, stage), STAGES[stage]
    if not can_score_packed(run.model):
        raise _describe_unknown(run.model, run.settings, stage)
    if sharding := run.processes.sharding:
        raise SettingsError(
            f"{asked}, but this stage reads the encoder without its head, and weights that "
            f"{sharding} divides are gathered for the whole model alone. Launch without "
            f"--use_{sharding.lower()}, or {otherwise}."
        )
    if len(np.unique(run.train.targets)) < 2:
        raise SettingsError(
            f"{asked}, but all training reviews have one label, so there is nothing to tell "
            f"apart. Raise --train-size, or {otherwise}."
        )


def require_known_head(model: nn.Module, config: PeftConfig, settings: TrainingSettings) -> None:
    """Check the same of an encoder without its adapter, before any time is spent on it.

    Args:
        model: a plain model of transformers.
        config: of the adapter that is to be put on it.
        settings: of the training.

    Raises:
        SettingsError: there is to be a first stage, and it can't be read without its head.
    """
    for stage in STAGES:
        if getattr(settings, stage) and not can_score_packed_with(model, config):
            raise _describe_unknown(model, settings, stage)


def _describe_stage(settings: TrainingSettings, stage: str) -> str:
    value = getattr(settings, stage)
    return f"training.{stage} is {'on' if value is True else format(value, 'g')}"


def _describe_unknown(model: nn.Module, settings: TrainingSettings, stage: str) -> SettingsError:
    kind = get_bare_model(model).config.model_type
    return SettingsError(
        f"{_describe_stage(settings, stage)}, but where the head of a {kind} with this method "
        "reads is not known. It is for DistilBERT, BERT, RoBERTa, XLM-RoBERTa, CamemBERT and "
        "ELECTRA with adapters in linear layers, LoRA for one. Choose another method or encoder, "
        f"or {STAGES[stage]}."
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
