"""Every method on every architecture, of a few thousand random weights: what holds of each pair.

`make verify-matrix` runs it as a program and prints the table.
"""

import sys
import tempfile
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from peft import PeftModel
from tiny_models import MODEL_TYPES, PADDING, build_tiny_encoder
from tiny_training import (
    LABELS,
    build_tiny_training,
    describe_base,
    draw_tokens,
    load_tiny_encoder,
)

from peft_sentiment.config import METHODS, AdapterSettings
from peft_sentiment.data.batching import LabelledTokens, iterate_padded_batches
from peft_sentiment.errors import SettingsError
from peft_sentiment.evaluation.fresh_process import Job, check_answer, load_elsewhere
from peft_sentiment.evaluation.verification import Check, check_model, compute_padded_logits
from peft_sentiment.model.adapters import add_adapter
from peft_sentiment.model.encoder import Encoder
from peft_sentiment.model.saved_adapters import save_adapter
from peft_sentiment.reporting.verification import Cell, render_matrix
from peft_sentiment.training.loop import train_steps

LENGTHS = [12, 30, 7, 30, 18, 9, 25, 14]
HEAD_SEED = 3
"""Not that of a base loaded without a word, so that a head that was not saved is seen."""


@dataclass(frozen=True)
class Trained:
    """A trained and saved cell, with what its model in memory says."""

    job: Job
    logits: NDArray[np.float32]


def draw_reviews() -> LabelledTokens:
    """Return a few reviews of chance tokens."""
    tokens = draw_tokens(np.random.default_rng(0), LENGTHS)
    return LabelledTokens(tokens, np.arange(len(LENGTHS)) % 2, LABELS)


def verify_cells(cells: Iterable[Cell], folder: Path) -> dict[Cell, list[Check]]:
    """Train, save and check each pair of method and model type; one process loads them all."""
    train, checks, trained = draw_reviews(), {}, {}
    bases: dict[str, Encoder] = {}
    for cell in cells:
        method, model_type = cell
        if model_type not in bases:
            place = build_tiny_encoder(model_type, folder / model_type)
            bases[model_type] = load_tiny_encoder(place, HEAD_SEED)
        base = bases[model_type]
        try:
            encoder, model = train_cell(method, base.folder, train)
        except SettingsError as error:
            checks[cell] = [Check("training", "refused", reason=find_reason(error))]
            continue
        place = folder / "adapters" / f"{method}-{model_type}"
        logits = compute_padded_logits(model, train.reviews, PADDING)
        checks[cell] = list(check_model(model, base.model, method, train.reviews, PADDING))
        metadata = replace(describe_base(encoder), method=method, head_seed=HEAD_SEED)
        save_adapter(model, encoder, metadata, place)
        trained[cell] = Trained(Job(str(place), str(base.folder), PADDING), logits)
    answers = load_elsewhere([one.job for one in trained.values()], train.reviews)
    for (cell, one), answer in zip(trained.items(), answers, strict=True):
        checks[cell] += check_answer(answer, one.logits)
    return checks


def train_cell(method: str, base: Path, train: LabelledTokens) -> tuple[Encoder, PeftModel]:
    """Train two steps, after which no part of an adapter is as it began."""
    encoder = load_tiny_encoder(base, HEAD_SEED)
    batches = iterate_padded_batches(train.reviews, 8, PADDING, np.random.default_rng(0))
    settings = AdapterSettings(method=method, r=4)
    model = add_adapter(encoder, settings, 0, batches)
    run = build_tiny_training(model, train, per_device_train_batch_size=4, warmup_steps=0.0)
    list(train_steps(run))
    return encoder, model


def find_reason(error: SettingsError) -> str:
    """Return the middle of a refusal: what stands between the colon and what to do."""
    return str(error).partition(": ")[2].partition(". ")[0]


def list_cells() -> Iterator[Cell]:
    """Yield every method on every model type."""
    for method in METHODS:
        for model_type in MODEL_TYPES:
            yield method, model_type


def main() -> int:
    """Print the table; 1 if a cell has failed."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        checks = verify_cells(list_cells(), Path(folder))
    print(render_matrix(checks), end="")  # noqa: T201 - a program
    return int(any(check.status == "fail" for found in checks.values() for check in found))


if __name__ == "__main__":
    sys.exit(main())
