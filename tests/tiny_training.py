"""Tiny encoders with an adapter, and trainings of them that take a second."""

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from peft import PeftModel
from tiny_models import PADDING
from torch import nn

from peft_sentiment.config import AdapterSettings, ModelSettings, TrainingSettings
from peft_sentiment.data.batching import LabelledTokens, TokenizedReviews, tokenize_reviews
from peft_sentiment.model.adapters import add_adapter
from peft_sentiment.model.dropout import CheapDropout
from peft_sentiment.model.encoder import Encoder, load_encoder
from peft_sentiment.model.precision import Precision
from peft_sentiment.records import Reviews
from peft_sentiment.training.loop import TrainingRun

LABELS = ("negative", "positive")
CPU = torch.device("cpu")
FLOAT32 = Precision(CPU, torch.float32, "test")
BFLOAT16 = Precision(CPU, torch.bfloat16, "test")
MAX_LENGTH = 48


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
