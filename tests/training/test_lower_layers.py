"""Keeping what frozen lower layers say changes nothing but the time."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_training import FLOAT32, build_tiny_adapter, build_tiny_training, tokenize_tiny

from peft_sentiment.config import AdapterSettings
from peft_sentiment.errors import OutputError
from peft_sentiment.model.precision import Precision
from peft_sentiment.model.speed import AttentionForms
from peft_sentiment.records.reviews import Reviews
from peft_sentiment.training import lower_layers
from peft_sentiment.training.loop import train_steps
from peft_sentiment.training.lower_layers import LowerLayersCache

BFLOAT16 = Precision(
    torch.device("cpu"), torch.bfloat16, "test", AttentionForms(training={64: "products"})
)


@pytest.mark.parametrize("precision", [FLOAT32, BFLOAT16])
def test_losses_are_the_same_with_and_without_the_cache(
    tiny_distilbert: Path, tiny_reviews: Reviews, precision: Precision
) -> None:
    train = tokenize_tiny(tiny_distilbert, tiny_reviews)
    losses = []
    for gigabytes in (0.0, 4.0):
        model = build_tiny_adapter(tiny_distilbert, AdapterSettings(r=4, layers_to_transform=(1,)))
        run = build_tiny_training(
            model, train, precision, num_train_epochs=3.0, lower_layers_cache_gb=gigabytes
        )
        losses.append([step.loss for step in train_steps(run)])
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)


def test_lower_layers_run_once(
    tiny_distilbert: Path, tiny_reviews: Reviews, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = tokenize_tiny(tiny_distilbert, tiny_reviews)
    model = build_tiny_adapter(tiny_distilbert, AdapterSettings(r=4, layers_to_transform=(1,)))
    written = []
    write = LowerLayersCache.write

    def count(self: LowerLayersCache, batch: np.ndarray, x: torch.Tensor) -> None:
        written.extend(batch.tolist())
        write(self, batch, x)

    monkeypatch.setattr(LowerLayersCache, "write", count)
    list(train_steps(build_tiny_training(model, train, num_train_epochs=2.0)))
    assert sorted(written) == list(range(len(train)))


def test_what_is_written_is_read_again_in_any_batch() -> None:
    lengths = np.array([3, 1, 4], np.int32)
    with LowerLayersCache(lengths, 2, torch.bfloat16) as cache:
        x = torch.arange(16, dtype=torch.bfloat16).view(8, 2)
        assert cache.read(np.array([0]), 4) is None
        cache.write(np.array([2, 0, 1]), x)
        found = cache.read(np.array([0, 2]), 8)
        assert found is not None
        assert torch.equal(found, torch.cat([x[4:7], x[:4], torch.zeros(1, 2)]).bfloat16())


def test_no_room_for_the_cache_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(lower_layers.tempfile, "TemporaryFile", refuse)
    with pytest.raises(OutputError, match=r"no room.*--lower-layers-cache-gb 0"):
        LowerLayersCache(np.array([3], np.int32), 2, torch.float32)
