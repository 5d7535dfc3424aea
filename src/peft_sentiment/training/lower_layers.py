"""What the layers below the first adapter say of each review, kept on disk from pass to pass.

They are frozen and drop nothing, so they say the same every time. The file lies in the user's cache
without a name: it is gone with the process, however that ends. Several processes on one machine
have one file in common.

Shapes: N tokens of a batch, rounded up, D width.
"""

import os
import tempfile
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from peft_sentiment.errors import OutputError
from peft_sentiment.model.packaged import get_cache_folder
from peft_sentiment.processes import Processes

ALONE = Processes()


class LowerLayersCache:
    """The hidden states of all reviews at one layer; a `with` block, which frees the disk."""

    def __init__(
        self,
        lengths: NDArray[np.int32],
        width: int,
        dtype: torch.dtype,
        processes: Processes = ALONE,
    ) -> None:
        """Make room on disk.

        Args:
            lengths: tokens of each review.
            width: D.
            dtype: of the hidden states, of 16 or 32 bits.
            processes: that use the file, all on one machine.

        Raises:
            OutputError: there is no room.
        """
        self._ends = np.cumsum(lengths, dtype=np.int64)
        self._starts = self._ends - lengths
        self._dtype = dtype
        rows, stored = int(self._ends[-1]), np.uint16 if dtype.itemsize == 2 else np.float32
        size = rows * width * dtype.itemsize
        self._file = _open_file(size + len(lengths), processes)
        self._states = np.memmap(self._file, stored, "r+", shape=(rows, width))
        self._is_known = np.memmap(self._file, np.bool_, "r+", size, shape=(len(lengths),))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        del self._states, self._is_known
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


def _open_file(size: int, processes: Processes) -> IO[bytes]:
    """Return a file of so many zeros without a name, the same one in every process."""
    if processes.count == 1:
        return _make_file(size, is_named=False)
    made: list[IO[bytes]] = []

    def make() -> str:
        made.append(_make_file(size, is_named=True))
        return str(made[0].name)

    path = Path(processes.agree(make))
    try:
        file = made[0] if made else path.open("r+b")
        processes.wait()
    finally:
        if processes.is_main:
            path.unlink()
    return file


def _make_file(size: int, *, is_named: bool) -> IO[bytes]:
    folder = get_cache_folder()
    make = tempfile.NamedTemporaryFile if is_named else tempfile.TemporaryFile
    options: dict[str, Any] = {"dir": folder, **({"delete": False} if is_named else {})}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            file: IO[bytes] = stack.enter_context(make(**options))
            if is_named:
                stack.callback(lambda: Path(file.name).unlink(missing_ok=True))
            _make_room(file.fileno(), size)
            stack.pop_all()  # closed by the cache's end
    except OSError as error:
        raise OutputError(
            f"{folder}: no room for {size / 1e9:.1f} GB of the lower layers' output "
            f"({error.strerror}). Free the disk, name another folder with "
            "PEFT_SENTIMENT_CACHE, or set --lower-layers-cache-gb 0."
        ) from error
    return file


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
