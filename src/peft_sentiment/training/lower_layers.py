"""What the layers below the first adapter say of each review, kept on disk from pass to pass.

They are frozen and drop nothing, so they say the same every time. The file lies in the user's cache
without a name: it is gone with the process, however that ends.

Shapes: N tokens of a batch, rounded up, D width.
"""

import os
import tempfile
from contextlib import ExitStack
from types import TracebackType
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray

from peft_sentiment.errors import OutputError
from peft_sentiment.model.packaged import get_cache_folder


class LowerLayersCache:
    """The hidden states of all reviews at one layer; a `with` block, which frees the disk."""

    def __init__(self, lengths: NDArray[np.int32], width: int, dtype: torch.dtype) -> None:
        """Make room on disk.

        Args:
            lengths: tokens of each review.
            width: D.
            dtype: of the hidden states, of 16 or 32 bits.

        Raises:
            OutputError: there is no room.
        """
        folder = get_cache_folder()
        self._ends = np.cumsum(lengths, dtype=np.int64)
        self._starts = self._ends - lengths
        self._is_known = np.zeros(len(lengths), np.bool_)
        self._dtype = dtype
        stored = np.uint16 if dtype.itemsize == 2 else np.float32
        size = int(self._ends[-1]) * width * dtype.itemsize
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with ExitStack() as stack:
                self._file = stack.enter_context(tempfile.TemporaryFile(dir=folder))
                _make_room(self._file.fileno(), size)
                shape = (int(self._ends[-1]), width)
                self._states = np.memmap(self._file, stored, "r+", shape=shape)
                stack.pop_all()  # closed by __exit__
        except OSError as error:
            raise OutputError(
                f"{folder}: no room for {size / 1e9:.1f} GB of the lower layers' output "
                f"({error.strerror}). Free the disk, name another folder with "
                "PEFT_SENTIMENT_CACHE, or set --lower-layers-cache-gb 0."
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        del self._states
        self._file.close()

    def knows(self, places: NDArray[np.int64]) -> bool:
        """Tell whether all these reviews have been written."""
        return bool(self._is_known[places].all())

    def read(self, batch: NDArray[np.int64], rows: int) -> torch.Tensor | None:
        """Return (N, D) for the reviews of a batch laid end to end, or None if one is unknown.

        Args:
            batch: places of the reviews.
            rows: N; those after the last review are zeros.
        """
        if not self.knows(batch):
            return None
        states = np.zeros((rows, self._states.shape[1]), self._states.dtype)
        end = 0
        for place in batch:
            start, end = end, end + int(self._ends[place] - self._starts[place])
            states[start:end] = self._states[self._starts[place] : self._ends[place]]
        return torch.from_numpy(states).view(self._dtype)

    def write(self, batch: NDArray[np.int64], x: torch.Tensor) -> None:
        """Keep the (N, D) hidden states of a batch of reviews laid end to end."""
        states = (x.view(torch.uint16) if x.element_size() == 2 else x).numpy()
        end = 0
        for place in batch:
            start, end = end, end + int(self._ends[place] - self._starts[place])
            self._states[self._starts[place] : self._ends[place]] = states[start:end]
        self._is_known[batch] = True


def _make_room(descriptor: int, size: int) -> None:
    """Give a file its size, and the room for it where the system can: a full disk is told now.

    Later, a write to memory that a file stands behind would kill the process.

    Raises:
        OSError: there is no room.
    """
    if hasattr(os, "posix_fallocate") and size:
        os.posix_fallocate(descriptor, 0, size)
    else:
        os.truncate(descriptor, size)
