"""Frozen weights divided among processes: the same training with a part of the model."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from several_processes import run_together
from tiny_training import (
    FLOAT32,
    build_tiny_adapter,
    build_tiny_training,
    copy_weights,
    make_dropout_zero,
    tokenize_tiny,
)
from torch import nn

from peft_sentiment.config import AdapterSettings
from peft_sentiment.data.batching import LabelledTokens
from peft_sentiment.errors import SettingsError
from peft_sentiment.processes import get_processes
from peft_sentiment.records import StepRecord, ValidationRecord
from peft_sentiment.records.reviews import Reviews
from peft_sentiment.training.fit import fit_adapter
from peft_sentiment.training.loop import TrainingRun
from peft_sentiment.training.sharding import computing_model

METHODS: dict[str, tuple[AdapterSettings, dict[str, Any]]] = {
    "lora": (AdapterSettings(r=4), {}),
    "upper layer": (AdapterSettings(r=4, layers_to_transform=(1,)), {}),
    "computed twice": (AdapterSettings(r=4), {"gradient_checkpointing": True}),
    "bias only": (AdapterSettings(method="bitfit"), {}),
    "ia3": (AdapterSettings(method="ia3"), {}),
    "adalora": (AdapterSettings(method="adalora", method_options={"tinit": 2, "tfinal": 3}), {}),
}


LAUNCHED = {
    "FSDP": {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"},
    "DeepSpeed": {"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_ZERO_STAGE": "3"},
}
"""What `accelerate launch` sets, with --use_fsdp --fsdp_version 2 and --use_deepspeed --zero_stage
3."""

needs_compiler = pytest.mark.skipif(
    not (shutil.which("g++") and shutil.which("ninja")),
    reason="on CPUs DeepSpeed compiles a part of itself",
)
ignore_old_name = pytest.mark.filterwarnings("ignore:.*all_gather_into_tensor:FutureWarning")
ENGINES = ["FSDP", pytest.param("DeepSpeed", marks=[needs_compiler, ignore_old_name])]


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A launch that wants frozen weights divided, by each engine in turn."""
    name: str = request.param
    for variable, value in LAUNCHED[name].items():
        monkeypatch.setenv(variable, value)
    return name


@pytest.fixture(scope="module")
def train(tiny_distilbert: Path, tiny_reviews: Reviews) -> LabelledTokens:
    """61 reviews: in the last step of a pass one of two processes has a batch less."""
    return tokenize_tiny(tiny_distilbert, tiny_reviews.take(range(61)))


@pytest.fixture(scope="module")
def validation(tiny_distilbert: Path, tiny_reviews: Reviews) -> LabelledTokens:
    return tokenize_tiny(tiny_distilbert, tiny_reviews.take(range(61, 98)))


def build_tiny(folder: Path, method: str, train: LabelledTokens, batch: int) -> TrainingRun:
    adapter, settings = METHODS[method]
    model = build_tiny_adapter(folder, adapter)
    make_dropout_zero(model)
    settings = {"num_train_epochs": 2.0, "learning_rate": 1e-2, **settings}
    return build_tiny_training(model, train, per_device_train_batch_size=batch, **settings)


def fit_tiny(
    folder: Path, method: str, train: LabelledTokens, validation: LabelledTokens, batch: int
) -> tuple[list[Any], dict[str, Any]]:
    """Return the events, and every weight of the model afterwards."""
    run = build_tiny(folder, method, train, batch)
    frozen = {name: w.clone() for name, w in run.model.named_parameters() if not w.requires_grad}
    events = [dataclasses.replace(e, seconds=0.0) for e in fit_adapter(run, validation)]
    weights = dict(run.model.named_parameters())
    assert all(torch.equal(weights[name], weight) for name, weight in frozen.items())
    return events, {name: weight.numpy() for name, weight in copy_weights(run.model).items()}


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("method", METHODS)
def test_divided_weights_train_as_whole_ones(
    tiny_distilbert: Path,
    train: LabelledTokens,
    validation: LabelledTokens,
    method: str,
) -> None:
    events, expected = fit_tiny(tiny_distilbert, method, train, validation, 6)
    (first, weights), (second, others) = run_together(
        lambda: fit_tiny(tiny_distilbert, method, train, validation, 3)
    )
    assert first == second
    assert [type(event) for event in first] == [type(event) for event in events]
    for kind, name in ((StepRecord, "loss"), (StepRecord, "grad_norm"), (ValidationRecord, "f1")):
        found, known = ([getattr(e, name) for e in es if type(e) is kind] for es in (first, events))
        assert found == pytest.approx(known, rel=1e-5, abs=1e-5)
    for name, weight in weights.items():
        np.testing.assert_array_equal(weight, others[name])
        if name.endswith("k_lin.bias"):
            continue  # It adds the same to every score: its gradient is 0, but for rounding.
        np.testing.assert_allclose(weight, expected[name], atol=1e-4)


@pytest.mark.usefixtures("engine")
def test_each_process_holds_its_part_of_the_frozen_weights_and_all_trained_ones(
    tiny_distilbert: Path,
) -> None:
    def count() -> tuple[int, int]:
        model = build_tiny_adapter(tiny_distilbert)
        with computing_model(model, FLOAT32, get_processes()) as divided:
            weights = list_weights(divided)
            parts = sum(_count_here(w) for w in weights if not w.requires_grad)
            trained = {id(w) for w in weights if w.requires_grad}
        own = list_weights(model)
        assert trained == {id(w) for w in own if w.requires_grad}
        return parts, sum(w.numel() for w in own if not w.requires_grad)

    (first, whole), (second, _) = run_together(count)
    assert first + second == whole
    assert abs(first - second) < 0.1 * whole


def list_weights(model: nn.Module) -> list[nn.Parameter]:
    """Return all weights, of those too that a module has without registering them."""
    known = {id(weight): weight for weight in model.parameters()}
    for module in model.modules():
        known.update((id(w), w) for w in vars(module).values() if isinstance(w, nn.Parameter))
    return [*known.values()]


def _count_here(weight: nn.Parameter) -> int:
    if hasattr(weight, "ds_tensor"):  # DeepSpeed's part
        return int(weight.ds_tensor.numel())
    local = weight.to_local() if hasattr(weight, "to_local") else weight
    return int(local.numel())


@pytest.mark.usefixtures("engine")
def test_a_method_that_freezes_little_is_refused(
    tiny_distilbert: Path, train: LabelledTokens
) -> None:
    def refuse() -> str:
        model = build_tiny_adapter(tiny_distilbert, AdapterSettings(method="full"))
        run = build_tiny_training(model, train)
        with pytest.raises(SettingsError) as error:
            list(fit_adapter(run, None))
        return str(error.value)

    assert all("of all. Launch without" in message for message in run_together(refuse))


def test_a_first_stage_on_pairs_is_refused(
    engine: str, tiny_distilbert: Path, train: LabelledTokens
) -> None:
    def refuse() -> str:
        run = build_tiny_training(build_tiny_adapter(tiny_distilbert), train, contrastive_epochs=1)
        with pytest.raises(SettingsError) as error:
            list(fit_adapter(run, None))
        return str(error.value)

    expected = f"without --use_{engine.lower()}"
    assert all(expected in message for message in run_together(refuse))


@pytest.mark.parametrize("engine", ["FSDP"], indirect=True)
@pytest.mark.usefixtures("engine")
def test_a_setting_that_accelerate_does_not_know_is_refused(
    tiny_distilbert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FSDP_AUTO_WRAP_POLICY", "BY_THE_MOON")
    messages = run_together(lambda: refuse_to_divide(tiny_distilbert))
    assert all("BY_THE_MOON" in message for message in messages)


def refuse_to_divide(folder: Path) -> str:
    """Return why a model can't be divided."""
    model = build_tiny_adapter(folder)
    with pytest.raises(SettingsError) as error, computing_model(model, FLOAT32, get_processes()):
        pass
    return str(error.value)


ZERO_FILE = {
    "bf16": {"enabled": "auto"},
    "optimizer": {"type": "AdamW", "params": {"lr": "auto", "weight_decay": "auto"}},
    "scheduler": {"type": "WarmupLR", "params": {"warmup_num_steps": "auto"}},
    "zero_optimization": {
        "stage": 3,
        "contiguous_gradients": True,
        "stage3_prefetch_bucket_size": "auto",
        "stage3_param_persistence_threshold": "auto",
    },
    "gradient_accumulation_steps": "auto",
    "gradient_clipping": "auto",
    "train_batch_size": "auto",
    "train_micro_batch_size_per_gpu": "auto",
}
"""Settings of DeepSpeed as the libraries' guides have them."""


def write_zero_file(path: Path, monkeypatch: pytest.MonkeyPatch, **settings: object) -> None:
    """Write a file of DeepSpeed's settings, as `--deepspeed_config_file` names it."""
    zero = {**ZERO_FILE["zero_optimization"], **settings}
    path.write_text(json.dumps({**ZERO_FILE, "zero_optimization": zero}), encoding="utf-8")
    monkeypatch.setenv("ACCELERATE_DEEPSPEED_CONFIG_FILE", str(path))


@pytest.mark.parametrize("engine", ENGINES[1:], indirect=True)
@pytest.mark.usefixtures("engine")
def test_what_a_file_of_deepspeed_leaves_to_be_chosen_is_chosen(
    tiny_distilbert: Path,
    train: LabelledTokens,
    validation: LabelledTokens,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_zero_file(tmp_path / "zero.json", monkeypatch)
    events, _ = fit_tiny(tiny_distilbert, "lora", train, validation, 6)
    (found, _), _ = run_together(lambda: fit_tiny(tiny_distilbert, "lora", train, validation, 3))
    losses, known = ([e.loss for e in es if type(e) is StepRecord] for es in (found, events))
    assert losses == pytest.approx(known, rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("engine", ENGINES[1:], indirect=True)
@pytest.mark.usefixtures("engine")
def test_a_setting_that_deepspeed_does_not_know_is_refused(
    tiny_distilbert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_zero_file(tmp_path / "zero.json", monkeypatch, stage3_max_live_parameters="the moon")
    messages = run_together(lambda: refuse_to_divide(tiny_distilbert))
    assert all("stage3_max_live_parameters" in message for message in messages)
