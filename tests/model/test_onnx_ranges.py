"""Narrowing what int8 has to hold changes nothing in exact numbers, and leaves it less to lose."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

from peft_sentiment.config import ModelSettings
from peft_sentiment.model.encoder import load_encoder
from peft_sentiment.model.onnx_graph import write_fused_graph
from peft_sentiment.model.onnx_ranges import (
    SIDE_CHANNELS,
    InputRange,
    choose_divisors,
    choose_side_channels,
)

WIDE = 3
"""The channel that is far wider than the others."""


def see(x: np.ndarray) -> InputRange:
    seen = InputRange.start(x.shape[1])
    seen.add(torch.from_numpy(x))
    return seen


def round_product(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Multiply as int8 does: inputs in 256 steps, weights in 255 an output."""
    low, high = min(x.min(), 0), max(x.max(), 0)
    step = (high - low) / 255
    steps = np.abs(weight).max(axis=1, keepdims=True) / 127
    return (np.round(x / step) * step) @ (np.round(weight / steps) * steps).T


def test_a_wide_channel_is_divided_and_the_product_loses_less() -> None:
    rng = np.random.default_rng(0)
    x, weight = rng.normal(size=(200, 32)), rng.normal(size=(24, 32))
    x[0, WIDE] = 60
    weight[:, WIDE] *= 0.1
    divisors = choose_divisors(see(x), weight)
    assert divisors is not None
    assert divisors.argmax() == WIDE
    assert np.sort(divisors)[-2] < 0.1 * divisors[WIDE]
    exact = x @ weight.T
    narrowed = round_product(x / divisors, weight * divisors)
    assert np.abs(narrowed - exact).mean() < 0.6 * np.abs(round_product(x, weight) - exact).mean()


def test_inputs_of_like_width_stay_as_they_are() -> None:
    signs = np.where(np.random.default_rng(0).random((200, 32)) < 0.5, -1.0, 1.0)
    assert choose_divisors(see(signs), np.ones((24, 32))) is None
    assert choose_divisors(see(np.zeros((4, 32))), np.ones((24, 32))) is None
    assert not len(choose_side_channels(see(signs)))


def test_the_widest_channels_go_aside() -> None:
    x = np.ones((4, 64))
    x[1, WIDE] = 9
    chosen = choose_side_channels(see(x))
    assert WIDE in chosen
    assert len(chosen) == SIDE_CHANNELS
    assert not len(choose_side_channels(see(x[:, :SIDE_CHANNELS])))


@pytest.mark.parametrize("model_type", ["distilbert", "bert"])
def test_narrowing_changes_nothing_in_exact_numbers(
    build_tiny_encoder: Callable[[str, Path], Path], tmp_path: Path, model_type: str
) -> None:
    folder = build_tiny_encoder(model_type, tmp_path / "base")
    settings = ModelSettings(model_name_or_path=str(folder))
    model: Any = load_encoder(settings, ("a", "b"), seed=0).model
    with torch.no_grad():
        for name, part in model.named_modules():
            if isinstance(part, torch.nn.LayerNorm):
                part.weight[WIDE] *= 30
            if name.endswith(("ffn.lin1", "intermediate.dense")):
                part.bias[WIDE] += 200
    reviews = [np.random.default_rng(seed).integers(5, 100, 24) for seed in range(6)]
    graph = write_fused_graph(model, reviews)
    nodes = graph.graph.node
    assert any(node.op_type == "Mul" and node.input[1].startswith("weight") for node in nodes)
    assert any(node.op_type == "Sum" and len(node.input) == 3 for node in nodes)
    exact = compute(write_fused_graph(model).SerializeToString(), reviews)
    assert np.abs(compute(graph.SerializeToString(), reviews) - exact).max() < 1e-4


def compute(graph: bytes, reviews: list[np.ndarray]) -> np.ndarray:
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    feeds = [{"input_ids": ids[None], "attention_mask": np.ones_like(ids)[None]} for ids in reviews]
    return np.concatenate([session.run(["logits"], feed)[0] for feed in feeds])
