"""The same result each time: no choice by speed, and no algorithm that depends on chance."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def deterministic_algorithms(is_on: bool) -> Iterator[None]:
    """Let torch use algorithms only that give the same result each time, for the time of a block.

    An operation that has none ends in a RuntimeError, which names it.

    Args:
        is_on: whether to; if not, nothing is changed.
    """
    if not is_on:
        yield
        return
    # Read by cuBLAS when its first handle is made; needed there by torch.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before = torch.are_deterministic_algorithms_enabled()
    is_benchmarking = torch.backends.cudnn.benchmark
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
        torch.backends.cudnn.benchmark = is_benchmarking
