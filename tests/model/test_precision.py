"""Devices and dtypes: what is asked for, or what is measured to be fast."""

import pytest
import torch
from tiny_training import CPU

from peft_sentiment.config import TrainingSettings
from peft_sentiment.errors import SettingsError
from peft_sentiment.model import precision
from peft_sentiment.model.precision import choose_precision, measure_matmul_rates, pick_device


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
def test_a_dtype_set_by_hand_is_not_measured(
    monkeypatch: pytest.MonkeyPatch, bf16: bool, dtype: torch.dtype
) -> None:
    monkeypatch.delattr(precision, "measure_matmul_rates")
    chosen = choose_precision(CPU, TrainingSettings(bf16=bf16))
    assert (chosen.device, chosen.dtype) == (CPU, dtype)


@pytest.mark.parametrize(("speed_up", "dtype_name"), [(3.0, "bfloat16"), (1.2, "float32")])
def test_bfloat16_is_used_only_where_it_is_measured_to_be_worth_it(
    monkeypatch: pytest.MonkeyPatch, speed_up: float, dtype_name: str
) -> None:
    rates = {torch.float32: 1e9, torch.bfloat16: speed_up * 1e9}
    monkeypatch.setattr(precision, "measure_matmul_rates", lambda _: rates)
    chosen = choose_precision(CPU, TrainingSettings())
    assert chosen.dtype_name == dtype_name
    assert f"{speed_up:.2f}" in chosen.reason


def test_the_measured_rates_are_of_both_dtypes() -> None:
    rates = measure_matmul_rates(CPU)
    assert rates.keys() == {torch.float32, torch.bfloat16}
    assert all(1e8 < rate < 1e15 for rate in rates.values())


@pytest.mark.parametrize(("bf16", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_matrix_products_compute_in_the_chosen_dtype(bf16: bool, dtype: torch.dtype) -> None:
    layer = torch.nn.Linear(4, 4)
    with choose_precision(CPU, TrainingSettings(bf16=bf16)).autocast():
        assert layer(torch.ones(2, 4)).dtype == dtype
    assert layer.weight.dtype == torch.float32
