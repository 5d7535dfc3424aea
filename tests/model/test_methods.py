"""What each method must hold to on one encoder, and what is refused before any training."""

import dataclasses
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel
from tiny_training import (
    LABELS,
    build_tiny_training,
    compute_logits,
    copy_weights,
    describe_base,
    draw_tokens,
    load_by_plain_peft,
    load_tiny_encoder,
)

from peft_sentiment.config import METHODS as NAMES
from peft_sentiment.config import AdapterSettings, ModelSettings
from peft_sentiment.data.batching import LabelledTokens, iterate_padded_batches
from peft_sentiment.errors import SettingsError
from peft_sentiment.model.adapters import adapter_off, add_adapter, alters_base, count_parameters
from peft_sentiment.model.architectures import find_head_modules
from peft_sentiment.model.encoder import Encoder
from peft_sentiment.model.learning_rates import get_learning_rate_ratios
from peft_sentiment.model.method_config import build_config
from peft_sentiment.model.methods import METHODS
from peft_sentiment.model.readers import can_score_packed, can_score_packed_with
from peft_sentiment.model.saved_adapters import load_adapter, save_adapter
from peft_sentiment.training.loop import train_steps
from peft_sentiment.training.method_steps import build_optimizer

LENGTHS = [12, 30, 7, 30, 18, 9, 25, 14]
EXACT = {"atol": 1e-6, "rtol": 1e-5}
DISTILBERT_METHODS = [name for name in NAMES if name != "prefix_tuning"]
DRAWN_STARTS = ("fourierft", "vblora", "prompt_tuning", "p_tuning")
"""Methods that peft starts by chance, so that a new adapter changes what the encoder says."""


@pytest.fixture(scope="module")
def train() -> LabelledTokens:
    tokens = draw_tokens(np.random.default_rng(0), LENGTHS)
    return LabelledTokens(tokens, np.arange(len(LENGTHS)) % 2, LABELS)


def add(encoder: Encoder, train: LabelledTokens, method: str, **settings: Any) -> PeftModel:  # noqa: ANN401
    batches = iterate_padded_batches(train.reviews, 8, 1, np.random.default_rng(0))
    values = {"r": 4, "lora_dropout": 0.0, **settings}
    return add_adapter(encoder, AdapterSettings(method=method, **values), 0, batches)


def train_three_steps(model: PeftModel, train: LabelledTokens) -> None:
    run = build_tiny_training(
        model, train, per_device_train_batch_size=4, warmup_steps=0.0, num_train_epochs=1.5
    )
    assert len(list(train_steps(run))) == 3


def test_every_name_of_a_method_is_known() -> None:
    assert tuple(METHODS) == NAMES


@pytest.mark.parametrize("architecture", ["distilbert", "bert", "mpnet"])
@pytest.mark.parametrize(
    "method",
    [name for name in DISTILBERT_METHODS if name != "eva"],  # which needs reviews
)
def test_what_can_be_scored_without_padding_is_known_before_the_adapter_is_there(
    build_tiny_encoder: Callable[[str, Path], Path], tmp_path: Path, method: str, architecture: str
) -> None:
    encoder = load_tiny_encoder(build_tiny_encoder(architecture, tmp_path / architecture))
    settings = AdapterSettings(method=method)
    expected = can_score_packed_with(encoder.model, build_config(encoder, settings))
    assert can_score_packed(add_adapter(encoder, settings, 0)) == expected
    assert expected == (
        architecture != "mpnet" and method not in ("ln_tuning", "prompt_tuning", "p_tuning")
    )


@pytest.mark.parametrize("method", DISTILBERT_METHODS)
def test_a_trained_method_comes_back_as_it_was_saved_and_leaves_frozen_weights_alone(
    tiny_distilbert: Path, train: LabelledTokens, tmp_path: Path, method: str
) -> None:
    encoder = load_tiny_encoder(tiny_distilbert, seed=3)
    base = compute_logits(encoder.model, train)
    model = add(encoder, train, method)
    if method not in DRAWN_STARTS:
        torch.testing.assert_close(compute_logits(model, train), base, atol=1e-5, rtol=1e-4)
    before = copy_weights(model)
    train_three_steps(model, train)
    for name, weight in model.named_parameters():
        # Layers that the first token is not read from, or that pass nothing on at the start.
        assert weight.requires_grad or torch.equal(weight, before[name]), name
    trained = compute_logits(model, train)
    assert (trained - base).abs().max() > 1e-3
    if not alters_base(model):
        with adapter_off(model):
            torch.testing.assert_close(compute_logits(model, train), base, **EXACT)
        torch.testing.assert_close(compute_logits(model, train), trained, **EXACT)
    metadata = dataclasses.replace(describe_base(encoder), method=method)
    save_adapter(model, encoder, metadata, tmp_path / "adapter")
    loaded, _, found = load_adapter(tmp_path / "adapter", ModelSettings())
    plain = load_by_plain_peft(tiny_distilbert, tmp_path / "adapter")
    assert dataclasses.replace(found, files=None, sha256=None) == metadata
    torch.testing.assert_close(compute_logits(loaded, train), trained, **EXACT)
    torch.testing.assert_close(compute_logits(plain, train), trained, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("method", "trained"),
    [
        ("head", lambda name: False),
        ("bitfit", lambda name: name.endswith("bias")),
        ("ln_tuning", lambda name: "norm" in name.lower()),
        ("full", lambda name: True),
    ],
)
def test_methods_without_an_update_train_what_they_say_in_the_encoder(
    tiny_distilbert: Path, train: LabelledTokens, method: str, trained: Callable[[str], bool]
) -> None:
    encoder = load_tiny_encoder(tiny_distilbert)
    names = {n for n, _ in encoder.model.distilbert.named_parameters()}
    sizes = {n: w.numel() for n, w in encoder.model.distilbert.named_parameters()}
    model = add(encoder, train, method)
    found = {
        name.replace("modules_to_save.default.", "")
        .replace("ln_tuning_layers.default.", "")
        .partition("distilbert.")[2]
        for name, weight in model.named_parameters()
        if weight.requires_grad and "distilbert." in name
    }
    assert found == {name for name in names if trained(name)}
    counts = count_parameters(model)
    assert counts.adapter == sum(sizes[name] for name in found)
    assert counts.head == 32 * 32 + 32 + 32 * 2 + 2


def test_lora_plus_gives_b_a_learning_rate_of_its_own(
    tiny_distilbert: Path, train: LabelledTokens
) -> None:
    settings = AdapterSettings(method="lora+", method_options={"loraplus_lr_ratio": 8})
    model = add_adapter(load_tiny_encoder(tiny_distilbert), settings, 0)
    run = build_tiny_training(model, train)
    ratios = get_learning_rate_ratios(settings, run.settings, ())
    optimizer = build_optimizer(model, run.settings, ratios)
    rates = {id(w): group["lr"] for group in optimizer.param_groups for w in group["params"]}
    for name, weight in model.named_parameters():
        if weight.requires_grad:
            expected = 8e-2 if ".lora_B." in name else 1e-2
            assert rates[id(weight)] == pytest.approx(expected), name
    assert get_learning_rate_ratios(AdapterSettings(), run.settings, ("classifier",)) == {}


@pytest.mark.parametrize("method", ["lora", "lora+", "bitfit", "full", "head"])
@pytest.mark.parametrize("kind", ["tiny_distilbert", "tiny_bert"])
def test_the_head_has_a_rate_of_its_own_unless_nothing_else_learns(
    request: pytest.FixtureRequest, train: LabelledTokens, kind: str, method: str
) -> None:
    encoder = load_tiny_encoder(request.getfixturevalue(kind))
    settings, head = AdapterSettings(method=method), find_head_modules(encoder, None)
    model = add_adapter(encoder, settings, 0)
    run = build_tiny_training(model, train, head_learning_rate=1e-3)
    ratios = get_learning_rate_ratios(settings, run.settings, head)
    optimizer = build_optimizer(model, run.settings, ratios)
    rates = {id(w): group["lr"] for group in optimizer.param_groups for w in group["params"]}
    of_head = {
        name: rates[id(weight)]
        for name, weight in model.named_parameters()
        if weight.requires_grad and any(part in name for part in ("classifier", "pooler"))
    }
    assert len(of_head) == 4
    expected = 1e-2 if method == "head" else 1e-3
    assert list(of_head.values()) == pytest.approx([expected] * 4)
    assert [rate for rate in rates.values() if rate < 1e-2] == pytest.approx(
        [1e-3] * (0 if method == "head" else 4)
    )


def test_adalora_ends_with_the_ranks_it_was_to_end_with(
    tiny_distilbert: Path, train: LabelledTokens, tmp_path: Path
) -> None:
    encoder = load_tiny_encoder(tiny_distilbert)
    options = {"init_r": 6, "target_r": 2, "tfinal": 2}
    model = add(encoder, train, "adalora", method_options=options)
    run = build_tiny_training(
        model, train, per_device_train_batch_size=1, warmup_steps=0.0, num_train_epochs=2
    )
    list(train_steps(run))
    save_adapter(model, encoder, describe_base(encoder), tmp_path / "adapter")
    loaded, _, _ = load_adapter(tmp_path / "adapter", ModelSettings())
    ranks = [weight.shape[0] for name, weight in loaded.named_parameters() if "lora_E" in name]
    assert sum(ranks) == 2 * len(ranks) == 8
    torch.testing.assert_close(compute_logits(loaded, train), compute_logits(model, train), **EXACT)
    save_adapter(loaded, encoder, describe_base(encoder), tmp_path / "again")
    again, _, _ = load_adapter(tmp_path / "again", ModelSettings())
    torch.testing.assert_close(compute_logits(again, train), compute_logits(model, train), **EXACT)


def test_the_penalty_of_adalora_draws_its_vectors_towards_orthogonal(
    tiny_distilbert: Path, train: LabelledTokens
) -> None:
    skews = []
    for weight in (0.0, 5.0):
        model = add(
            load_tiny_encoder(tiny_distilbert), train, "adalora",
            method_options={"orth_reg_weight": weight},
        )  # fmt: skip
        with torch.no_grad():
            for name, vectors in model.named_parameters():
                if ".lora_A." in name:
                    vectors.fill_(0.3)
        train_three_steps(model, train)
        vectors = [w for n, w in model.named_parameters() if ".lora_A." in n]
        skews.append(sum(float((v @ v.T - torch.eye(len(v))).norm().detach()) for v in vectors))
    assert skews[1] < skews[0] - 0.1


def test_adalora_is_refused_where_its_phases_leave_no_step(
    tiny_distilbert: Path, train: LabelledTokens
) -> None:
    options = {"tinit": 2, "tfinal": 2}
    model = add(load_tiny_encoder(tiny_distilbert), train, "adalora", method_options=options)
    with pytest.raises(SettingsError, match="leave none of the 3 steps"):
        train_three_steps(model, train)


def test_eva_starts_from_the_training_reviews(tiny_distilbert: Path, train: LabelledTokens) -> None:
    started = copy_weights(add(load_tiny_encoder(tiny_distilbert), train, "eva"))
    other = LabelledTokens(
        draw_tokens(np.random.default_rng(5), LENGTHS), train.targets, train.label_names
    )
    from_others = copy_weights(add(load_tiny_encoder(tiny_distilbert), other, "eva"))
    down = [name for name in started if ".lora_A." in name and name in from_others]
    assert any(not torch.allclose(started[name], from_others[name]) for name in down)
    rows = next(started[name] for name in down)
    torch.testing.assert_close(rows @ rows.T, torch.eye(len(rows)), atol=1e-4, rtol=0)
    with pytest.raises(SettingsError, match="eva starts from training reviews"):
        add_adapter(load_tiny_encoder(tiny_distilbert), AdapterSettings(method="eva"), 0)


def test_vectors_of_vblora_fit_the_layers(tiny_distilbert: Path) -> None:
    encoder = load_tiny_encoder(tiny_distilbert)
    config: Any = build_config(encoder, AdapterSettings(method="vblora"))
    sizes = itertools.chain(*(layer.weight.shape for layer in find_linear(encoder)))
    assert all(size % config.vector_length == 0 for size in sizes)
    assert config.vector_length == 32


def find_linear(encoder: Encoder) -> list[torch.nn.Linear]:
    inside = encoder.model.base_model.modules()
    return [part for part in inside if isinstance(part, torch.nn.Linear)]
