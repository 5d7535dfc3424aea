"""Memory that is handed out piece by piece and taken back at once.

A training step on a CPU asks the system's allocator for thousands of large pieces of ever other
sizes. It searches its lists for each, and hands out memory that has left the caches or was never
touched: measured, a fifth of the step. The pieces of a workspace lie one behind the other and are
the same ones in every step.
"""

import math

import torch

CHUNK_BYTES = 1 << 26
ALIGNMENT = 64
"""Bytes; a cache line, and the widest vector register."""


class Workspace:
    """Tensors for one stream of work; not to be shared between threads."""

    def __init__(self) -> None:
        self._chunks: list[torch.Tensor] = []
        self._place = (0, 0)

    def take(self, *shape: int, dtype: torch.dtype) -> torch.Tensor:
        """Return an uninitialised tensor, valid until what `mark` gave before it is released."""
        size = math.prod(shape) * dtype.itemsize
        chunk, offset = self._place
        while chunk < len(self._chunks) and offset + size > self._chunks[chunk].numel():
            chunk, offset = chunk + 1, 0
        if chunk == len(self._chunks):
            # Not an inference tensor, whatever mode the caller is in: it is written to in others.
            with torch.inference_mode(False):
                self._chunks.append(torch.empty(max(CHUNK_BYTES, size), dtype=torch.uint8))
        self._place = (chunk, offset + -(-size // ALIGNMENT) * ALIGNMENT)
        return self._chunks[chunk][offset : offset + size].view(dtype).view(shape)

    def mark(self) -> tuple[int, int]:
        """Return the present place, to release all that is taken after it."""
        return self._place

    def release(self, place: tuple[int, int] = (0, 0)) -> None:
        """Take back what was taken since `mark` gave this place; by default everything."""
        self._place = place
