"""The cheap dropout is a dropout, and takes the place of torch's everywhere."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tiny_models import MODEL_TYPES
from tiny_training import load_tiny_encoder
from torch import nn

from peft_sentiment.config import AdapterSettings
from peft_sentiment.model.adapters import add_adapter
from peft_sentiment.model.dropout import CheapDropout, draw_keep_mask, replace_dropouts

N = 200_000


@pytest.mark.parametrize("p", [0.01, 0.1, 0.5, 0.9])
def test_the_asked_share_is_dropped_and_the_mean_is_kept(p: float) -> None:
    torch.manual_seed(0)
    mask = draw_keep_mask(torch.ones(N), p)
    dropped = (mask == 0).float().mean().item()
    assert abs(dropped - p) < 4 * math.sqrt(p * (1 - p) / N)
    assert abs(mask.mean().item() - 1) < 4 * math.sqrt(p / (1 - p) / N)
    torch.testing.assert_close(mask[mask != 0].unique(), torch.tensor([1 / (1 - p)]))


def test_neighbours_are_dropped_independently() -> None:
    # Four elements share one draw of 64 bits; their fates must not.
    torch.manual_seed(0)
    kept = (draw_keep_mask(torch.ones(N), 0.5) != 0).view(-1, 4).float()
    correlations = torch.corrcoef(kept.T) - torch.eye(4)
    assert correlations.abs().max() < 4 / math.sqrt(N / 4)


@pytest.mark.parametrize("shape", [(1,), (3,), (5, 7), (2, 3, 5), (0,), (2, 0)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_any_shape_and_dtype_is_kept(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    x = torch.ones(shape, dtype=dtype)
    dropped = CheapDropout(0.5)(x)
    assert (dropped.shape, dropped.dtype) == (x.shape, dtype)


def test_nothing_is_dropped_when_not_training_or_at_rate_0() -> None:
    x = torch.randn(100)
    assert CheapDropout(0.5).eval()(x) is x
    assert CheapDropout(0.0).train()(x) is x


def test_the_same_seed_drops_the_same_elements() -> None:
    masks = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        masks.append(draw_keep_mask(torch.ones(1000), 0.5))
    assert torch.equal(masks[0], masks[1])
    assert not torch.equal(masks[0], masks[2])


def test_the_gradient_flows_through_the_kept_elements_only() -> None:
    x = torch.randn(1000, requires_grad=True)
    y = CheapDropout(0.3).train()(x)
    y.sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad, (y.detach() != 0).float() / 0.7)


def test_every_dropout_is_replaced_at_its_rate() -> None:
    model = nn.Sequential(
        nn.Dropout(0.1), nn.ModuleDict({"a": nn.Dropout(0.2)}), nn.ModuleList([nn.Dropout(0.0)])
    )
    replace_dropouts(model)
    assert [m.p for m in model.modules() if isinstance(m, CheapDropout)] == [0.1, 0.2, 0.0]
    assert not any(isinstance(module, nn.Dropout) for module in model.modules())


HEAD_DROPOUTS = {"gpt2": 0.0, "llama": 0.0, "distilbert": 0.2, "modernbert": 0.0}
"""Model type -> rate before its classifier; 0.1 for the others."""


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_body_dropout_off_and_an_adapter_leave_the_heads_dropout(
    model_type: str, build_tiny_encoder: Callable[[str, Path], Path], tmp_path: Path
) -> None:
    encoder = load_tiny_encoder(build_tiny_encoder(model_type, tmp_path / model_type))
    model = add_adapter(encoder, AdapterSettings(lora_dropout=0.3), seed=0)
    prefix = f"base_model.model.{encoder.model.base_model_prefix}."
    rates: dict[str, set[float]] = {"adapter": set(), "body": set(), "head": set()}
    for name, module in model.named_modules():
        assert not isinstance(module, nn.Dropout), name
        if isinstance(module, CheapDropout):
            place = "body" if name.startswith(prefix) else "head"
            rates["adapter" if "lora_dropout" in name else place].add(module.p)
    assert rates["adapter"] == {0.3}
    # Llama drops out by a function, and a decoder's head not at all.
    assert rates["body"] == {0.0} or model_type == "llama"
    # DeBERTa's pooler has a dropout of its own, at 0.
    assert max(rates["head"], default=0.0) == HEAD_DROPOUTS.get(model_type, 0.1)


@pytest.mark.parametrize("use_dora", [False, True])
def test_peft_computes_the_same_with_replaced_dropouts(
    tiny_distilbert: Path, use_dora: bool
) -> None:
    """At rate 0 an adapter in training mode must give what it gives without any dropout."""
    outputs = []
    for rate in (0.0, 0.5):
        settings = AdapterSettings(
            r=4, lora_dropout=rate, use_dora=use_dora, init_lora_weights=False
        )
        model = add_adapter(load_tiny_encoder(tiny_distilbert), settings, seed=0).train()
        for module in model.modules():
            if isinstance(module, CheapDropout):
                module.p = 0.0
        outputs.append(model(input_ids=torch.arange(5, 25)[None]).logits)
    torch.testing.assert_close(outputs[0], outputs[1], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("use_dora", [False, True])
def test_the_adapters_dropout_drops_while_training_only(
    tiny_distilbert: Path, use_dora: bool
) -> None:
    settings = AdapterSettings(r=4, lora_dropout=0.5, use_dora=use_dora, init_lora_weights=False)
    model = add_adapter(load_tiny_encoder(tiny_distilbert), settings, seed=0)
    model.base_model.model.dropout.p = 0.0
    ids = torch.arange(5, 25)[None]
    training = [model.train()(input_ids=ids).logits for _ in range(2)]
    scoring = [model.eval()(input_ids=ids).logits for _ in range(2)]
    assert not torch.equal(*training)
    assert torch.equal(*scoring)
