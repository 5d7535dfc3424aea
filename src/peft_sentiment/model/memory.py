"""What to do when memory runs out, said in time."""

import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from peft_sentiment.config import Settings
from peft_sentiment.errors import DeviceMemoryError

SIGNS = ("not enough memory", "can't allocate memory", "out of memory", "alloc_cpu")
"""What torch's allocators say, which raise a plain RuntimeError on the CPU."""

PROCESS_STATUS = Path("/proc/self/status")


@contextmanager
def memory_advice(settings: Settings) -> Iterator[None]:
    """Turn running out of memory into an error that names the flags that help.

    Raises:
        DeviceMemoryError: memory ran out in the block.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        is_memory = isinstance(error, MemoryError | torch.OutOfMemoryError)
        if not is_memory and not any(sign in str(error).lower() for sign in SIGNS):
            raise
        raise DeviceMemoryError(_render_advice(settings)) from error


def _render_advice(settings: Settings) -> str:
    training = settings.training
    batch = max(1, training.per_device_train_batch_size // 2)
    steps = training.gradient_accumulation_steps * (2 if batch > 1 else 1)
    length = max(64, settings.data.max_length // 2)
    return (
        "Memory ran out. Try, one after the other: "
        f"--max-tokens-per-batch {max(256, training.max_tokens_per_batch // 2)}, or on a GPU "
        f"--per-device-train-batch-size {batch} --gradient-accumulation-steps {steps} "
        "(the result stays the same with either); "
        f"--max-length {length} (reads less of long reviews); "
        "--gradient-checkpointing (slower). "
        f"When scoring, --per-device-eval-batch-size "
        f"{max(1, training.per_device_eval_batch_size // 2)}."
    )


def measure_peak_rss() -> int:
    """Return the most memory that this process has held so far, in bytes.

    Linux counts what the process held that started it into `ru_maxrss`, so its own mark is read.
    """
    if PROCESS_STATUS.is_file():
        for line in PROCESS_STATUS.read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
