"""The first stage brings reviews of one label together, and a regression becomes the head."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_models import PADDING
from tiny_training import (
    FLOAT32,
    IDENTITY,
    build_tiny_adapter,
    build_tiny_training,
    compute_logits,
    copy_weights,
    tokenize_tiny,
)

from peft_sentiment.config import AdapterSettings, OutputSettings
from peft_sentiment.data.batching import LabelledTokens
from peft_sentiment.errors import SettingsError
from peft_sentiment.evaluation.prediction import predict_logits
from peft_sentiment.records import ContrastRecord, StepRecord
from peft_sentiment.records.reviews import Reviews
from peft_sentiment.training import gradients
from peft_sentiment.training.checkpoints import Event, load_checkpoint
from peft_sentiment.training.contrast import derive_settings, train_contrast
from peft_sentiment.training.fit import fit_adapter
from peft_sentiment.training.loop import TrainingRun, prepared_training, start_training
from peft_sentiment.training.objectives import LikenessObjective
from peft_sentiment.training.probing import read_states
from peft_sentiment.training.saving import CheckpointSaver

EVERY_STEP = OutputSettings(save_steps=1, save_total_limit=9)
READING_FIRST = ("distilbert", "bert", "roberta", "electra")


@pytest.fixture(scope="module")
def train(tiny_distilbert: Path, tiny_reviews: Reviews) -> LabelledTokens:
    return tokenize_tiny(tiny_distilbert, tiny_reviews.take(range(60)))


def build_run(folder: Path, train: LabelledTokens, epochs: float = 6.0) -> TrainingRun:
    model = build_tiny_adapter(folder, AdapterSettings(r=4, lora_dropout=0.0))
    return build_tiny_training(model, train, contrastive_epochs=epochs, crop_length=16)


def measure_likeness(run: TrainingRun) -> tuple[float, float]:
    """Return the mean cosine of two reviews of one label, and of two of unlike labels."""
    states = read_states(run)
    directions = states / np.linalg.norm(states, axis=1, keepdims=True)
    cosines, same = directions @ directions.T, run.train.targets[:, None] == run.train.targets
    others = ~np.eye(len(states), dtype=bool)
    return float(cosines[same & others].mean()), float(cosines[~same].mean())


def test_labels_part_and_unseen_reviews_are_told_apart(
    tiny_distilbert: Path, tiny_reviews: Reviews, train: LabelledTokens
) -> None:
    run = build_run(tiny_distilbert, train, epochs=15.0)
    alike, unlike = measure_likeness(run)
    records = list(train_contrast(run))
    alike_after, unlike_after = measure_likeness(run)
    assert alike_after - unlike_after > alike - unlike + 0.2
    assert records[-1].step == records[-1].steps == len(records) == 30  # 60 reviews, 32 a step
    test = tokenize_tiny(tiny_distilbert, tiny_reviews.take(range(60, 200)))
    logits = predict_logits(run.model, test.reviews, PADDING, 16, FLOAT32)
    assert (logits.argmax(1) == test.targets).mean() > 0.8


def test_a_step_has_one_loss_whichever_way_it_is_computed(
    tiny_distilbert: Path, train: LabelledTokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without padding, and by the model itself, which gradient checkpointing makes it be."""
    # Pairs are those of a batch, so both must have the same batch.
    monkeypatch.setattr(gradients, "count_streams", lambda: 1)
    of_ways = []
    for checkpointing in (False, True):
        run = build_run(tiny_distilbert, train)
        settings = dataclasses.replace(run.settings, gradient_checkpointing=checkpointing)
        run = dataclasses.replace(run, settings=settings, objective=LikenessObjective(train))
        with prepared_training(run, start_training(run)) as (_, _, source):
            run.model.train()
            loss = source.compute(np.array([3, 8, 21, 22]), 1)
        found = {
            name: weight.grad.clone()
            for name, weight in run.model.named_parameters()
            if weight.grad is not None
        }
        of_ways.append((loss, found))
    (fast, of_fast), (padded, of_padded) = of_ways
    assert fast == pytest.approx(padded, rel=1e-4)
    assert of_fast.keys() == of_padded.keys()
    for name, gradient in of_padded.items():
        torch.testing.assert_close(of_fast[name], gradient, atol=1e-5, rtol=1e-3, msg=name)
    assert all("lora_" in name for name in of_fast)


def test_a_step_has_pairs_enough_in_no_more_memory_than_was_asked_for(
    tiny_distilbert: Path, train: LabelledTokens
) -> None:
    """The fast path goes by tokens; elsewhere no batch has more reviews than the training's."""
    run = build_run(tiny_distilbert, train)
    small = dataclasses.replace(
        run.settings, per_device_train_batch_size=4, gradient_checkpointing=True
    )
    settings = derive_settings(dataclasses.replace(run, settings=small))
    assert settings.per_device_train_batch_size == 4
    assert settings.gradient_accumulation_steps == 8
    fast = dataclasses.replace(small, gradient_checkpointing=False)
    settings = derive_settings(dataclasses.replace(run, settings=fast))
    assert settings.per_device_train_batch_size == 32
    assert settings.gradient_accumulation_steps == 1


def test_the_loss_is_setfits() -> None:
    targets = np.array([0, 0, 1])
    states = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 2.0]])
    train = LabelledTokens(None, targets, ("a", "b"))  # type: ignore[arg-type]
    loss = LikenessObjective(train).compute(states, np.arange(3), 3.0)
    half = 0.5**0.5
    of_pairs = [(half - 1) ** 2, 0.0, half**2]  # of one label; unlike; unlike
    assert float(loss) == pytest.approx(np.mean(of_pairs), rel=1e-6)
    alone = LikenessObjective(train).compute(states[:1], np.array([0]), 1.0)
    assert float(alone) == 0.0


@pytest.mark.parametrize("kind", READING_FIRST)
def test_every_head_of_the_family_learns(
    kind: str,
    build_tiny_encoder: Callable[[str, Path], Path],
    tiny_reviews: Reviews,
    tmp_path: Path,
) -> None:
    folder = build_tiny_encoder(kind, tmp_path / kind)
    train = tokenize_tiny(folder, tiny_reviews.take(range(40)))
    run = build_run(folder, train)
    list(train_contrast(run))
    logits = compute_logits(run.model, train)
    assert (logits.argmax(1).numpy() == train.targets).mean() > 0.8


def test_the_base_stays_as_it_was(tiny_distilbert: Path, train: LabelledTokens) -> None:
    run = build_run(tiny_distilbert, train, epochs=1.0)
    before = copy_weights(run.model)
    list(train_contrast(run))
    after = copy_weights(run.model)
    changed = [name for name in before if not torch.equal(before[name], after[name])]
    assert changed
    assert all("lora_" in name or "modules_to_save" in name for name in changed)


def test_a_model_whose_head_is_not_known_is_refused(
    build_tiny_encoder: Callable[[str, Path], Path], tiny_reviews: Reviews, tmp_path: Path
) -> None:
    folder = build_tiny_encoder("gpt2", tmp_path / "gpt2")
    train = tokenize_tiny(folder, tiny_reviews.take(range(10)))
    run = build_run(folder, train)
    with pytest.raises(SettingsError, match=r"contrastive_epochs is 6.*gpt2"):
        list(train_contrast(run))


def test_reviews_of_one_label_are_refused(tiny_distilbert: Path, tiny_reviews: Reviews) -> None:
    one = [place for place, label in enumerate(tiny_reviews.labels) if label == "positive"][:9]
    run = build_run(tiny_distilbert, tokenize_tiny(tiny_distilbert, tiny_reviews.take(one)))
    with pytest.raises(SettingsError, match="all training reviews have one label"):
        list(train_contrast(run))


def test_the_first_stage_comes_before_the_training_and_not_again_after_a_checkpoint(
    tiny_distilbert: Path, train: LabelledTokens, tmp_path: Path
) -> None:
    """A training that goes on from a checkpoint ends with the same events and weights."""
    whole, folder = build_run(tiny_distilbert, train, epochs=2.0), tmp_path / "checkpoints"
    saver = CheckpointSaver(folder, EVERY_STEP, IDENTITY)
    events = list(fit_adapter(whole, None, saver))
    kinds = [type(event) for event in events]
    assert kinds == [ContrastRecord] * 4 + [StepRecord] * 4
    start = load_checkpoint(folder / "checkpoint-2")
    resumed = build_run(tiny_distilbert, train, epochs=2.0)
    saver = CheckpointSaver(folder, EVERY_STEP, IDENTITY, start)
    rest = list(fit_adapter(resumed, None, saver))
    assert strip_time([*start.events, *rest]) == strip_time(events)
    weights = copy_weights(resumed.model)
    assert all(
        torch.equal(weights[name], weight) for name, weight in copy_weights(whole.model).items()
    )


def test_a_stop_within_the_first_stage_ends_there(
    tiny_distilbert: Path, train: LabelledTokens, tmp_path: Path
) -> None:
    saver = CheckpointSaver(tmp_path, OutputSettings(), IDENTITY)
    seen: list[Event] = []
    saver.is_stopping = lambda: len(seen) >= 2
    for event in fit_adapter(build_run(tiny_distilbert, train), None, saver):
        seen.append(event)
    assert saver.is_stopped
    assert [type(event) for event in seen] == [ContrastRecord] * 2
    assert not list(tmp_path.glob("checkpoint-*"))


def strip_time(events: list[Event]) -> list[Event]:
    steps = [event.step if isinstance(event, ContrastRecord) else event for event in events]
    return [dataclasses.replace(step, seconds=0.0) for step in steps]
