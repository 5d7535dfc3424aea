"""Running out of memory ends in advice; every other error passes as it is."""

import pytest
import torch

from peft_sentiment.config import DataSettings, Settings, TrainingSettings
from peft_sentiment.errors import DeviceMemoryError
from peft_sentiment.model.memory import measure_peak_rss, memory_advice

SETTINGS = Settings(
    data=DataSettings(max_length=256),
    training=TrainingSettings(per_device_train_batch_size=16, gradient_accumulation_steps=3),
)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("[enforce fail at alloc_cpu.cpp:121] err == 0. DefaultCPUAllocator"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes"),
        RuntimeError("MPS backend out of memory (MPS allocated: 8.00 GB)"),
        MemoryError(),
    ],
)
def test_running_out_of_memory_names_the_flags_that_help(error: Exception) -> None:
    with pytest.raises(DeviceMemoryError) as caught, memory_advice(SETTINGS):
        raise error
    advice = str(caught.value)
    assert "--per-device-train-batch-size 8 --gradient-accumulation-steps 6" in advice
    assert "--max-length 128" in advice
    assert "--gradient-checkpointing" in advice
    assert caught.value.__cause__ is error


def test_what_torch_really_says_is_understood() -> None:
    with pytest.raises(DeviceMemoryError), memory_advice(SETTINGS):
        torch.empty(2**60)


def test_a_batch_of_one_is_not_halved() -> None:
    settings = Settings(training=TrainingSettings(per_device_train_batch_size=1))
    unchanged = "--per-device-train-batch-size 1 --gradient-accumulation-steps 1"
    with pytest.raises(DeviceMemoryError, match=unchanged), memory_advice(settings):
        raise MemoryError


@pytest.mark.parametrize("error", [RuntimeError("shapes do not fit"), ValueError("out of memory")])
def test_other_errors_pass_as_they_are(error: Exception) -> None:
    with pytest.raises(type(error)) as caught, memory_advice(SETTINGS):
        raise error
    assert caught.value is error


def test_the_peak_counts_bytes() -> None:
    assert 10e6 < measure_peak_rss() < 1e12
