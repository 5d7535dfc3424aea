"""Rows of a source that does not fit in memory: read once, checked, and kept in files on disk.

Memory holds some bytes a row: the number of its label, a fingerprint of its text and its place.

Shapes: N rows that can be used.
"""

import array
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from peft_sentiment.config import DataSettings
from peft_sentiment.data.arrow_files import ROWS, ArrowWriter, MappedColumn, Texts
from peft_sentiment.data.bad_rows import BadRows
from peft_sentiment.data.checks import fingerprint_texts
from peft_sentiment.data.disk_cache import CachedFolder, open_cached
from peft_sentiment.data.sources import read_label, read_text
from peft_sentiment.errors import BadRowError
from peft_sentiment.records.skipped import SkippedRow

TEXTS_FILE = "texts.arrow"
ARRAYS = {"labels": np.int32, "numbers": np.int32, "fingerprints": np.uint64}
"""Name of a file of numbers -> their type."""

Told = Callable[[str], None]
"""Takes words about how far the work has come."""

ReadRows = Callable[[BadRows], Iterator[tuple[int, object, object]]]
"""Yields the number of each row in its file, its text and its label, unchecked."""


@dataclass(frozen=True)
class SourceFile:
    """A file, or a split of a data set on the hub.

    Attributes:
        name: as messages name it.
        unit: what its rows are counted in: line or row.
        read: yields its rows.
        bytes: about what its texts take.
    """

    name: str
    unit: str
    read: ReadRows
    bytes: int


@dataclass(frozen=True)
class Pool:
    """The rows of one part of a source, on disk.

    Attributes:
        files: of the source.
        folder: where the rows are kept.
        texts: of all rows.
        labels: (N,), places in `label_names`.
        label_names: labels in the order in which they were met.
        numbers: (N,), line or row of each in its file.
        ends: (files,), rows up to the end of each file.
        weights: (files,), how much a row of each counts in training; None where all are the same.
    """

    files: Sequence[SourceFile]
    folder: CachedFolder
    texts: Texts
    labels: NDArray[np.int32]
    label_names: tuple[str, ...]
    numbers: NDArray[np.int32]
    ends: NDArray[np.int64]
    weights: tuple[float, ...] | None = None

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.labels)

    @property
    def name(self) -> str:
        """The source, as messages name it."""
        first = self.files[0].name
        return first if len(self.files) == 1 else f"{first} and {len(self.files) - 1:,} more"

    @property
    def fingerprints(self) -> NDArray[np.uint64]:
        """(N,), of the texts."""
        return self.texts.fingerprints

    @property
    def skipped(self) -> list[SkippedRow]:
        """Rows left out because they can't be used."""
        return [SkippedRow(*row) for row in self.folder.facts["skipped"]]

    def place(self, row: int) -> str:
        """Return where a row stands, such as 'reviews.parquet, row 7'."""
        file = self.files[int(np.searchsorted(self.ends, row, side="right"))]
        return f"{file.name}, {file.unit} {self.numbers[row]}"

    def weigh(self, rows: NDArray[np.int64]) -> NDArray[np.float32] | None:
        """Return (rows,) how much each counts in training."""
        if self.weights is None:
            return None
        of_file = np.array(self.weights, np.float32)
        weights: NDArray[np.float32] = of_file[np.searchsorted(self.ends, rows, side="right")]
        return weights


def open_pool(
    root: Path, files: Sequence[SourceFile], source: object, settings: DataSettings, told: Told
) -> Pool:
    """Read a source into files on disk, or find them there.

    Args:
        root: folder of the files.
        files: of the source.
        source: what tells its content from any other, as JSON may have it.
        settings: name the columns and labels, and say what becomes of bad rows.
        told: hears of the progress.

    Raises:
        DataError: a row can't be used, unless those are skipped; or none can.
        OutputError: there is no room on disk.
    """
    key = {
        "source": source,
        "files": [file.name for file in files],
        "columns": [settings.text_column, settings.label_column],
        "label_names": settings.label_names,
        "written": [settings.encoding, settings.delimiter],
    }
    bad = BadRows(settings.skip_bad_rows)
    folder = open_cached(
        root,
        "texts",
        key,
        lambda draft: _write_pool(draft, files, settings, bad, told),
        # Token ids come beside the texts, and take about as much.
        lambda: 2 * sum(file.bytes for file in files),
    )
    for place, reason in folder.facts["skipped"]:
        # Files that were made while bad rows were skipped may be used again only if they still are.
        BadRows(settings.skip_bad_rows).meet(BadRowError(place, reason))
    arrays = {name: np.load(folder.path / f"{name}.npy") for name in ARRAYS}
    column = MappedColumn(folder.path / TEXTS_FILE, np.uint8)
    every = np.arange(len(column))
    return Pool(
        files=files,
        folder=folder,
        texts=Texts(column, every, arrays["fingerprints"]),
        labels=arrays["labels"],
        label_names=tuple(folder.facts["label_names"]),
        numbers=arrays["numbers"],
        ends=np.array(folder.facts["ends"], np.int64),
    )


def _write_pool(
    draft: Path, files: Sequence[SourceFile], settings: DataSettings, bad: BadRows, told: Told
) -> dict[str, Any]:
    numbers, labels, ends = array.array("i"), array.array("i"), []
    fingerprints, known = array.array("Q"), dict[str, int]()
    with ArrowWriter(draft / TEXTS_FILE, is_text=True) as writer:
        for file in files:
            kept, found = len(labels), len(bad.found)
            rows = _iterate_usable(file, settings, bad)
            while chunk := list(itertools.islice(rows, ROWS)):
                texts = [text for _, text, _ in chunk]
                writer.write(texts)
                fingerprints.frombytes(fingerprint_texts(texts).tobytes())
                numbers.extend(number for number, _, _ in chunk)
                labels.extend(known.setdefault(label, len(known)) for _, _, label in chunk)
                told(f"Reading {file.name}: {len(labels):,} rows so far")
            bad.require_rest(file.name, len(labels) - kept, found)
            ends.append(len(labels))
    columns = {"labels": labels, "numbers": numbers, "fingerprints": fingerprints}
    for name, dtype in ARRAYS.items():
        np.save(draft / f"{name}.npy", np.frombuffer(columns[name], dtype))
    skipped = [[row.place, row.reason] for row in bad.found]
    return {"label_names": [*known], "ends": ends, "skipped": skipped}


def _iterate_usable(
    file: SourceFile, settings: DataSettings, bad: BadRows
) -> Iterator[tuple[int, str, str]]:
    for number, text, label in file.read(bad):
        place = f"{file.name}, {file.unit} {number}"
        try:
            named = read_label(label, settings, place)
            yield number, read_text(text, place), named
        except BadRowError as error:
            bad.meet(error)
