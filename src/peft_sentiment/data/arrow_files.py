"""Columns of unlike lengths in Arrow files: written batch by batch, read where they lie on disk.

A file has one column, of texts or of token ids, in batches of `ROWS` rows. Pages of a file that
have been read count as memory of the process until they are given back, which is done here, so
that reading a file of any size takes little.
"""

import mmap
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROWS = 8192
"""Rows of a batch: so the batch of a row is known by its number."""

_FAULT_BYTES = 1 << 16
"""A read of a page brings in so many bytes around it, where they are in the system's cache."""

_RESIDENT_BYTES = 64 << 20


class ArrowWriter(AbstractContextManager["ArrowWriter"]):
    """Writes one column; a `with` block."""

    def __init__(self, path: Path, *, is_text: bool) -> None:
        """Begin a file.

        Args:
            path: of the file.
            is_text: whether its rows are texts; else they are token ids.

        Raises:
            OSError: it can't be written.
        """
        import pyarrow as pa

        self._is_text = is_text
        kind = pa.large_string() if is_text else pa.large_list(pa.int32())
        self._schema = pa.schema([("value", kind)])
        self._writer = pa.ipc.new_file(str(path), self._schema)
        self._waiting: list[Any] = []

    def write(self, values: Iterable[str] | Iterable[NDArray[np.int32]]) -> None:
        """Add rows."""
        coming = iter(values)
        while more := list(islice(coming, ROWS - len(self._waiting))):
            self._waiting += more
            if len(self._waiting) == ROWS:
                self._flush()

    def _flush(self) -> None:
        import pyarrow as pa

        if self._is_text:
            column = pa.array(self._waiting, pa.large_string())
        else:
            lengths = np.fromiter(map(len, self._waiting), np.int64, len(self._waiting))
            offsets = np.concatenate([[0], np.cumsum(lengths)])
            joined = np.concatenate([np.zeros(0, np.int32), *self._waiting])
            column = pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(joined))
        self._writer.write_batch(pa.record_batch([column], schema=self._schema))
        self._waiting = []

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None and self._waiting:
            self._flush()
        self._writer.close()


class MappedColumn:
    """The values of an `ArrowWriter`'s file as arrays over the file itself; for any thread."""

    def __init__(self, path: Path, dtype: type[np.generic]) -> None:
        """Map a file into memory.

        Args:
            path: of the file.
            dtype: of a value's elements: `numpy.uint8` for texts, else that of the ids.

        Raises:
            OSError, ValueError: it is missing, or no such file.
        """
        import pyarrow as pa

        with path.open("rb") as file:
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        reader = pa.ipc.open_file(pa.py_buffer(self._map))
        self._offsets: list[NDArray[np.int64]] = []
        self._values: list[NDArray[Any]] = []
        for number in range(reader.num_record_batches):
            column = reader.get_batch(number).column(0)
            buffers = column.buffers()
            self._offsets.append(np.frombuffer(buffers[1], np.int64, len(column) + 1))
            last = buffers[-1]
            values = np.zeros(0, dtype) if last is None else np.frombuffer(last, dtype)
            self._values.append(values)
        self._seen, self._lock = 0, threading.Lock()

    def __len__(self) -> int:
        """Return the number of rows."""
        return sum(len(offsets) - 1 for offsets in self._offsets)

    def read(self, row: int) -> NDArray[Any]:
        """Return the elements of a row, which nothing may write to."""
        batch, place = divmod(row, ROWS)
        start, end = self._offsets[batch][place : place + 2].tolist()
        self._count(max(_FAULT_BYTES, self._values[batch].itemsize * (end - start)))
        return self._values[batch][start:end]

    def _count(self, size: int) -> None:
        with self._lock:
            self._seen += size
            is_due = self._seen >= _RESIDENT_BYTES
            if is_due:
                self._seen = 0
        if is_due and hasattr(mmap, "MADV_DONTNEED"):
            # The file stays behind the memory: who still holds an array reads the same again.
            self._map.madvise(mmap.MADV_DONTNEED)


class Texts(Sequence[str]):
    """Texts of a mapped column at some of its rows, read when they are asked for."""

    def __init__(
        self, column: MappedColumn, rows: NDArray[np.int64], fingerprints: NDArray[np.uint64]
    ) -> None:
        """Take the texts at these rows.

        Args:
            column: of texts.
            rows: (N,).
            fingerprints: (N,), of the texts.
        """
        self.column, self.rows, self.fingerprints = column, rows, fingerprints

    def __len__(self) -> int:
        """Return the number of texts."""
        return len(self.rows)

    def __getitem__(self, place: Any) -> Any:  # noqa: ANN401 - a number or a slice
        """Return the text at a place, or the list of those of a slice."""
        if isinstance(place, slice):
            return [self[one] for one in range(len(self))[place]]
        return self.column.read(int(self.rows[place])).tobytes().decode()


class TokenIds(Sequence[NDArray[np.int32]]):
    """Token ids of a mapped column at some of its rows, read when they are asked for."""

    def __init__(self, column: MappedColumn, rows: NDArray[np.int64]) -> None:
        """Take the token ids at these rows, (N,)."""
        self.column, self.rows = column, rows

    def __len__(self) -> int:
        """Return the number of reviews."""
        return len(self.rows)

    def __getitem__(self, place: Any) -> Any:  # noqa: ANN401 - a number or a slice
        """Return the ids at a place, or the list of those of a slice."""
        if isinstance(place, slice):
            return [self[one] for one in range(len(self))[place]]
        return self.column.read(int(self.rows[place]))


class Labels(Sequence[str]):
    """Labels kept as numbers, four bytes each."""

    def __init__(self, numbers: NDArray[np.int32], names: Sequence[str]) -> None:
        """Take (N,) places in `names`."""
        self.numbers, self.names = numbers, tuple(names)

    def __len__(self) -> int:
        """Return the number of labels."""
        return len(self.numbers)

    def __getitem__(self, place: Any) -> Any:  # noqa: ANN401 - a number or a slice
        """Return the label at a place, or the list of those of a slice."""
        if isinstance(place, slice):
            return [self.names[number] for number in self.numbers[place]]
        return self.names[self.numbers[place]]

    def __iter__(self) -> Iterator[str]:
        """Yield all labels."""
        return map(self.names.__getitem__, self.numbers.tolist())

    def count(self, value: str) -> int:
        """Return how many are this one."""
        if value not in self.names:
            return 0
        return int(np.count_nonzero(self.numbers == self.names.index(value)))
