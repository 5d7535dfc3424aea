"""Tiny encoders with an adapter, and trainings of them that take a second."""

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from peft import PeftModel
from tiny_models import PADDING
from torch import nn
from transformers import AutoModelForSequenceClassification

from peft_sentiment.config import AdapterSettings, ModelSettings, TrainingSettings
from peft_sentiment.data.batching import (
    LabelledTokens,
    TokenizedReviews,
    pad_batch,
    tokenize_reviews,
)
from peft_sentiment.model.adapters import add_adapter, quiet_peft
from peft_sentiment.model.dropout import CheapDropout
from peft_sentiment.model.encoder import Encoder, load_encoder
from peft_sentiment.model.metadata import AdapterMetadata
from peft_sentiment.model.precision import Precision
from peft_sentiment.records.reviews import Reviews
from peft_sentiment.training.identity import TrainingIdentity
from peft_sentiment.training.loop import TrainingRun

LABELS = ("negative", "positive")
CPU = torch.device("cpu")
FLOAT32 = Precision(CPU, torch.float32, "test")
BFLOAT16 = Precision(CPU, torch.bfloat16, "test")
MAX_LENGTH = 48
IDENTITY = TrainingIdentity({"training": {"seed": 1}}, "data", "base", {}, {"threads": 1})
"""Of a training whose checkpoints a test writes."""


def load_tiny_encoder(folder: Path, seed: int = 0, body_dropout: bool = False) -> Encoder:
    """Load a tiny encoder with an untrained head for two labels."""
    settings = ModelSettings(model_name_or_path=str(folder), body_dropout=body_dropout)
    return load_encoder(settings, LABELS, seed)


def build_tiny_adapter(folder: Path, settings: AdapterSettings | None = None) -> PeftModel:
    """Load a tiny encoder and put a new adapter on it."""
    return add_adapter(load_tiny_encoder(folder), settings or AdapterSettings(r=4), seed=0)


def tokenize_tiny(folder: Path, reviews: Reviews) -> LabelledTokens:
    """Tokenize reviews for a tiny encoder."""
    tokenizer = load_tiny_encoder(folder).tokenizer
    tokens = tokenize_reviews(reviews.texts, tokenizer, MAX_LENGTH, "head+tail")
    return LabelledTokens.build(tokens, reviews.labels, LABELS)


def build_tiny_training(
    model: nn.Module,
    train: LabelledTokens,
    precision: Precision = FLOAT32,
    **settings: float | str | bool,
) -> TrainingRun:
    """Return a training of one pass whose clock ticks once a second at every look."""
    values = {"num_train_epochs": 1.0, "learning_rate": 1e-2, **settings}
    return TrainingRun(
        model=model,
        train=train,
        settings=TrainingSettings(**values),  # type: ignore[arg-type]
        precision=precision,
        pad_id=PADDING,
        clock=build_clock(),
    )


def build_clock() -> Callable[[], float]:
    """Return a clock that goes on by a second whenever it is read."""
    seconds = itertools.count()
    return lambda: float(next(seconds))


def make_dropout_zero(model: nn.Module) -> None:
    """Leave no chance in the training of a model."""
    for module in model.modules():
        if isinstance(module, CheapDropout):
            module.p = 0.0


def copy_weights(model: nn.Module) -> dict[str, torch.Tensor]:
    """Return a copy of every weight by name."""
    return {name: weight.detach().clone() for name, weight in model.named_parameters()}


def draw_tokens(rng: np.random.Generator, lengths: list[int]) -> TokenizedReviews:
    """Return reviews of these lengths, made of chance tokens."""
    ids = [rng.integers(5, 50, length).astype(np.int32) for length in lengths]
    return TokenizedReviews(ids, np.zeros(len(ids), np.bool_))


def compute_logits(model: nn.Module, train: LabelledTokens) -> torch.Tensor:
    """Return the (N, C) logits of all reviews in one padded batch."""
    ids, mask = pad_batch(train.reviews.token_ids, pad_id=1)
    with torch.no_grad():
        logits: torch.Tensor = model.eval()(input_ids=ids, attention_mask=mask).logits
    return logits


def describe_base(encoder: Encoder) -> AdapterMetadata:
    """Return the metadata of an adapter on a tiny encoder."""
    return AdapterMetadata(
        format_version=1,
        base_name=encoder.name,
        base_revision=None,
        base_sha256=encoder.sha256,
        head_seed=0,
        label_names=LABELS,
        label_type="str",
        max_length=32,
        truncation="head",
        versions={},
        trained_with=None,
    )


def load_by_plain_peft(base: Path, adapter: Path) -> nn.Module:
    """Load an adapter as the documentation of peft has it."""
    model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=2)
    with quiet_peft():
        return PeftModel.from_pretrained(model, adapter)
