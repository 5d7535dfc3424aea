"""Devices and dtypes: what is asked for, or what is measured to be fast."""

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_training import CPU

from peft_sentiment.config import TrainingSettings
from peft_sentiment.errors import SettingsError
from peft_sentiment.model import precision, speed
from peft_sentiment.model.precision import Precision, choose_precision, pick_device
from peft_sentiment.model.speed import (
    FORMS,
    PROBE_LENGTHS,
    AttentionForms,
    EncoderShape,
    Measurement,
    load_measurement,
    measure,
)

SHAPE = EncoderShape(width=16, inner=32, heads=2)


def set_devices(monkeypatch: pytest.MonkeyPatch, cuda: int = 0, mps: bool = False) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)


@pytest.mark.parametrize(
    ("cuda", "mps", "kind"), [(1, True, "cuda"), (0, True, "mps"), (0, False, "cpu")]
)
def test_auto_takes_the_fastest_kind_of_device(
    monkeypatch: pytest.MonkeyPatch, cuda: int, mps: bool, kind: str
) -> None:
    set_devices(monkeypatch, cuda, mps)
    assert pick_device("auto") == torch.device(kind)
    assert pick_device("cpu") == CPU


def test_a_second_gpu_can_be_asked_for_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    set_devices(monkeypatch, cuda=2)
    assert pick_device("cuda:1") == torch.device("cuda", 1)
    with pytest.raises(SettingsError, match="'cuda:2'"):
        pick_device("cuda:2")


@pytest.mark.parametrize("asked", ["cuda", "mps", "gpu", "", "meta", "cpu:x"])
def test_a_device_that_is_not_here_is_refused_with_those_that_are(
    monkeypatch: pytest.MonkeyPatch, asked: str
) -> None:
    set_devices(monkeypatch)
    with pytest.raises(SettingsError, match=r"this machine has: cpu.*--device"):
        pick_device(asked)


def test_fp16_is_refused_on_a_cpu_and_taken_on_a_gpu() -> None:
    settings = TrainingSettings(fp16=True)
    with pytest.raises(SettingsError, match=r"fp16.*CUDA.*cpu"):
        choose_precision(CPU, settings)
    assert choose_precision(torch.device("cuda"), settings).dtype == torch.float16


@pytest.mark.parametrize(("bf16", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_a_dtype_set_by_hand_is_taken_whatever_is_measured(
    monkeypatch: pytest.MonkeyPatch, bf16: bool, dtype: torch.dtype
) -> None:
    measured = build_measurement(0.1 if bf16 else 10.0)
    monkeypatch.setattr(precision, "load_measurement", lambda *_: measured)
    chosen = choose_precision(CPU, TrainingSettings(bf16=bf16))
    assert (chosen.device, chosen.dtype) == (CPU, dtype)


@pytest.mark.parametrize(("speed_up", "dtype_name"), [(3.0, "bfloat16"), (1.2, "float32")])
def test_bfloat16_is_used_only_where_it_is_measured_to_be_worth_it(
    monkeypatch: pytest.MonkeyPatch, speed_up: float, dtype_name: str
) -> None:
    monkeypatch.setattr(precision, "load_measurement", lambda *_: build_measurement(speed_up))
    chosen = choose_precision(CPU, TrainingSettings())
    assert chosen.dtype_name == dtype_name
    assert f"{speed_up:.2f}" in chosen.reason


def build_measurement(speed_up: float) -> Measurement:
    rates = {"float32": 1e9, "bfloat16": speed_up * 1e9}
    seconds = {"64": {"products": 1.0, "fused": 2.0}, "512": {"products": 4.0, "fused": 3.0}}
    of_dtypes: Any = {"float32": seconds, "bfloat16": seconds}
    fused: Any = {dtype: {"64": {"products": 2.0, "fused": 1.0}} for dtype in of_dtypes}
    return Measurement(rates, scoring_seconds=fused, training_seconds=of_dtypes)


def test_the_measured_rates_and_seconds_are_of_both_dtypes() -> None:
    measured = measure(CPU, SHAPE)
    assert measured.matmul_rates.keys() == {"float32", "bfloat16"}
    assert all(1e6 < rate < 1e15 for rate in measured.matmul_rates.values())
    timings = (measured.scoring_seconds, measured.training_seconds)
    for lengths in itertools.chain.from_iterable(timing.values() for timing in timings):
        assert [int(length) for length in lengths] == list(PROBE_LENGTHS)
        assert all(0 < forms[form] < 10 for forms in lengths.values() for form in FORMS)


def test_each_review_takes_the_form_that_is_faster_near_its_length() -> None:
    forms = build_measurement(1.0).choose_forms("float32")
    chosen = Precision(CPU, torch.float32, "", forms)
    assert [chosen.choose_form(n) for n in (1, 64, 280, 300, 9000)] == [
        "products", "products", "products", "fused", "fused"
    ]  # fmt: skip
    assert {chosen.choose_scoring_form(n) for n in (1, 64, 9000)} == {"fused"}
    assert forms.describe() == (
        "fused to score and products near 64 tokens, fused near 512 tokens to train"
    )
    assert AttentionForms().describe() == "fused to score and fused to train"


def test_a_machine_is_measured_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PEFT_SENTIMENT_CACHE", str(tmp_path))
    first = load_measurement(CPU, SHAPE)
    monkeypatch.delattr(speed, "measure")
    assert load_measurement(CPU, SHAPE) == first


@pytest.mark.parametrize("damaged", ["", "{", "[]", "null", '{"matmul_rates": {}}'])
def test_a_damaged_measurement_is_made_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, damaged: str
) -> None:
    monkeypatch.setenv("PEFT_SENTIMENT_CACHE", str(tmp_path))
    monkeypatch.setattr(speed, "measure", lambda *_: build_measurement(2.0))
    load_measurement(CPU, SHAPE)
    [file] = tmp_path.glob("speed-*.json")
    file.write_text(damaged)
    assert load_measurement(CPU, SHAPE).speed_up == 2.0
    assert load_measurement(CPU, EncoderShape(32, 64, 2)).speed_up == 2.0
    assert len(list(tmp_path.glob("speed-*.json"))) == 2


@pytest.mark.parametrize(("bf16", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_matrix_products_compute_in_the_chosen_dtype(bf16: bool, dtype: torch.dtype) -> None:
    layer = torch.nn.Linear(4, 4)
    with choose_precision(CPU, TrainingSettings(bf16=bf16)).autocast():
        assert layer(torch.ones(2, 4)).dtype == dtype
    assert layer.weight.dtype == torch.float32
