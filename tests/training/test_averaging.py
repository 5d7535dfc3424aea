"""What is validated and kept is the mean of the weights over the last steps."""

from pathlib import Path

import pytest
import torch
from tiny_training import build_tiny_adapter, build_tiny_training, copy_weights, tokenize_tiny

from peft_sentiment.config import AdapterSettings, TrainingSettings
from peft_sentiment.data.batching import LabelledTokens
from peft_sentiment.errors import SettingsError
from peft_sentiment.records import StepRecord, ValidationRecord
from peft_sentiment.records.reviews import Reviews
from peft_sentiment.training import fit
from peft_sentiment.training.fit import fit_adapter
from peft_sentiment.training.loop import TrainingRun


@pytest.fixture(scope="module")
def train(tiny_distilbert: Path, tiny_reviews: Reviews) -> LabelledTokens:
    return tokenize_tiny(tiny_distilbert, tiny_reviews.take(range(80)))


def build_run(folder: Path, train: LabelledTokens, share: float, **settings: float) -> TrainingRun:
    model = build_tiny_adapter(folder, AdapterSettings(r=4))
    return build_tiny_training(model, train, weight_averaging=share, **settings)


def collect_weights(run: TrainingRun) -> list[dict[str, torch.Tensor]]:
    """Fit without validation; return the weights after each step."""
    return [copy_weights(run.model) for event in fit_adapter(run, None) if event.step]


@pytest.mark.parametrize(("share", "averaged"), [(0.4, 2), (0.5, 3), (1.0, 5)])
def test_training_ends_with_the_mean_of_the_weights_after_the_last_steps(
    tiny_distilbert: Path, train: LabelledTokens, share: float, averaged: int
) -> None:
    run = build_run(tiny_distilbert, train, share)
    weights = collect_weights(run)
    assert len(weights) == run.steps == 5
    last = weights[-averaged:]
    expected = {name: torch.stack([w[name] for w in last]).mean(0) for name in last[0]}
    torch.testing.assert_close(copy_weights(run.model), expected, atol=1e-7, rtol=1e-5)
    plain = build_run(tiny_distilbert, train, 0.0)
    assert any(
        not torch.equal(weight, expected[name])
        for name, weight in collect_weights(plain)[-1].items()
    )


def test_averaging_changes_no_step(tiny_distilbert: Path, train: LabelledTokens) -> None:
    plain, averaged = (
        [event.loss for event in fit_adapter(build_run(tiny_distilbert, train, share), None)
         if isinstance(event, StepRecord)]
        for share in (0.0, 1.0)
    )  # fmt: skip
    assert plain == averaged


def test_frozen_weights_stay_bit_identical(tiny_distilbert: Path, train: LabelledTokens) -> None:
    run = build_run(tiny_distilbert, train, 0.5)
    frozen = {n: w.clone() for n, w in run.model.named_parameters() if not w.requires_grad}
    list(fit_adapter(run, None))
    assert all(torch.equal(w, frozen[n]) for n, w in run.model.named_parameters() if n in frozen)


def test_validation_sees_the_mean_and_training_goes_on_from_its_own_weights(
    tiny_distilbert: Path, train: LabelledTokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def look(run: TrainingRun, _: LabelledTokens, step: StepRecord) -> ValidationRecord:
        seen.append(copy_weights(run.model))
        score = len(seen) / 10  # each one better than the one before
        return ValidationRecord(step.step, step.epoch, score, score, 0.5, is_best=False, seconds=1)

    monkeypatch.setattr(fit, "validate", look)
    run = build_run(tiny_distilbert, train, 1.0, eval_steps=2)
    own = [
        copy_weights(run.model)
        for event in fit_adapter(run, train)
        if isinstance(event, StepRecord)
    ]
    plain = collect_weights(build_run(tiny_distilbert, train, 0.0, eval_steps=2))
    for mine, theirs in zip(own, plain, strict=True):
        torch.testing.assert_close(mine, theirs, atol=0, rtol=0)
    for mean, steps in zip(seen, (2, 4, 5), strict=True):
        expected = {n: torch.stack([w[n] for w in own[:steps]]).mean(0) for n in mean}
        torch.testing.assert_close(mean, expected, atol=1e-7, rtol=1e-5)
    torch.testing.assert_close(copy_weights(run.model), seen[-1], atol=0, rtol=0)


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_no_share_of_the_steps_is_refused(share: float) -> None:
    with pytest.raises(SettingsError, match=r"training\.weight_averaging .*from 0 to 1"):
        TrainingSettings(weight_averaging=share)
