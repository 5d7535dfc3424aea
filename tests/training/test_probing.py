"""A training can begin with a head that is fitted to what the encoder says already."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from tiny_training import (
    IDENTITY,
    build_tiny_adapter,
    build_tiny_training,
    compute_logits,
    copy_weights,
    tokenize_tiny,
)
from torch import nn

from peft_sentiment.config import AdapterSettings, OutputSettings
from peft_sentiment.data.batching import LabelledTokens
from peft_sentiment.errors import SettingsError
from peft_sentiment.evaluation.probe import INVERSE_PENALTY
from peft_sentiment.model.adapters import get_bare_model
from peft_sentiment.records.reviews import Reviews
from peft_sentiment.training.checkpoints import load_checkpoint
from peft_sentiment.training.fit import fit_adapter
from peft_sentiment.training.head_fit import regress
from peft_sentiment.training.loop import TrainingRun
from peft_sentiment.training.probing import fit_probe, read_states
from peft_sentiment.training.saving import CheckpointSaver


@pytest.fixture(scope="module")
def train(tiny_distilbert: Path, tiny_reviews: Reviews) -> LabelledTokens:
    return tokenize_tiny(tiny_distilbert, tiny_reviews.take(range(60)))


def build_run(
    folder: Path, train: LabelledTokens, method: str = "lora", **settings: float
) -> TrainingRun:
    model = build_tiny_adapter(folder, AdapterSettings(method=method, lora_dropout=0.0))
    return build_tiny_training(model, train, linear_probing=True, **settings)


def regress_by_hand(
    run: TrainingRun, states: NDArray[np.float32], kind: str
) -> NDArray[np.float64]:
    """Return (N,) log odds of a regression on what the head's last layer reads."""
    if kind == "distilbert":
        inputs = StandardScaler().fit_transform(states).clip(-3)
    else:
        pooler = get_bare_model(run.model).bert.pooler
        with torch.no_grad():
            inputs = pooler(torch.from_numpy(states)[:, None]).numpy()
        inputs = StandardScaler().fit_transform(inputs)
    regression = LogisticRegression(C=INVERSE_PENALTY).fit(inputs, run.train.targets)
    odds: NDArray[np.float64] = regression.decision_function(inputs)
    return odds


@pytest.mark.parametrize("kind", ["distilbert", "bert"])
def test_the_head_says_what_the_regression_says(
    kind: str,
    build_tiny_encoder: Callable[[str, Path], Path],
    tiny_reviews: Reviews,
    tmp_path: Path,
) -> None:
    folder = build_tiny_encoder(kind, tmp_path / kind)
    train = tokenize_tiny(folder, tiny_reviews.take(range(60)))
    run = build_run(folder, train)
    odds = regress_by_hand(run, read_states(run), kind)
    fit_probe(run)
    logits = compute_logits(run.model, train)
    np.testing.assert_allclose(logits[:, 1] - logits[:, 0], odds, atol=2e-3)


@pytest.mark.parametrize("method", ["lora", "dora", "ia3", "bitfit", "head", "full"])
def test_a_training_begins_with_it(
    tiny_distilbert: Path, train: LabelledTokens, method: str
) -> None:
    run = build_run(tiny_distilbert, train, method, learning_rate=1e-12)
    odds = regress_by_hand(run, read_states(run), "distilbert")
    list(fit_adapter(run, None))
    logits = compute_logits(run.model, train)
    np.testing.assert_allclose(logits[:, 1] - logits[:, 0], odds, atol=2e-3)


def test_only_the_head_is_fitted(tiny_distilbert: Path, train: LabelledTokens) -> None:
    run = build_run(tiny_distilbert, train)
    before = copy_weights(run.model)
    fit_probe(run)
    after = copy_weights(run.model)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert all("classifier.modules_to_save." in name for name in changed)


def test_a_training_that_goes_on_does_not_begin_again(
    tiny_distilbert: Path, train: LabelledTokens, tmp_path: Path
) -> None:
    whole, every_step = build_run(tiny_distilbert, train), OutputSettings(save_steps=1)
    events = list(fit_adapter(whole, None, CheckpointSaver(tmp_path, every_step, IDENTITY)))
    start = load_checkpoint(tmp_path / "checkpoint-3")
    resumed = build_run(tiny_distilbert, train)
    saver = CheckpointSaver(tmp_path / "again", every_step, IDENTITY, start)
    rest = list(fit_adapter(resumed, None, saver))
    assert len(rest) == len(events) - 3
    weights = copy_weights(resumed.model)
    for name, weight in copy_weights(whole.model).items():
        assert torch.equal(weights[name], weight), name


def test_a_label_without_reviews_is_never_chosen() -> None:
    head = nn.Linear(4, 3)
    rng = np.random.default_rng(0)
    inputs, targets = rng.normal(size=(30, 4)).astype(np.float32), np.repeat([0, 2], 15)
    with torch.no_grad():
        regress(head, inputs, targets, np.ones(30))
        chosen = head(torch.from_numpy(inputs)).argmax(1)
    assert 1 not in chosen.tolist()


def test_what_can_not_be_probed_is_refused(
    build_tiny_encoder: Callable[[str, Path], Path],
    tiny_distilbert: Path,
    tiny_reviews: Reviews,
    tmp_path: Path,
) -> None:
    folder = build_tiny_encoder("gpt2", tmp_path / "gpt2")
    run = build_run(folder, tokenize_tiny(folder, tiny_reviews.take(range(10))))
    with pytest.raises(SettingsError, match=r"linear_probing is on.*gpt2"):
        list(fit_adapter(run, None))
    one = tokenize_tiny(tiny_distilbert, tiny_reviews.take(range(0, 20, 2)))
    run = build_run(tiny_distilbert, one)
    with pytest.raises(SettingsError, match="all training reviews have one label"):
        list(fit_adapter(run, None))
