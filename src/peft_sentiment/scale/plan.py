"""How files are divided into parts, which are scored and stored one by one.

The division depends on the files and on the rows of a part alone, so a job that is started again
finds the parts that it has finished. Files are listed and read by fsspec: folders, globs, and
object stores by their addresses.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import IO, Any

import fsspec
from fsspec.core import url_to_fs

from peft_sentiment.data.columns import require_column
from peft_sentiment.errors import DataError
from peft_sentiment.scale.records import (
    DELIMITERS,
    Columns,
    Record,
    get_ending,
    iterate_parquet_records,
    iterate_text_records,
    read_fields,
    split_records,
)

ENDINGS = (*DELIMITERS, ".jsonl", ".parquet")


@dataclass(frozen=True)
class Part:
    """Consecutive rows of one file.

    Attributes:
        number: of the part in the whole job, from 0.
        file: address of the file.
        offset: byte at which its first record begins; 0 for Parquet.
        first: number of its first record in the file, from 1.
        rows: records that it has.
        header: columns of a CSV or TSV file.
    """

    number: int
    file: str
    offset: int
    first: int
    rows: int
    header: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Name of the file that it is stored as."""
        return f"part-{self.number:06d}.parquet"

    def read(self, columns: Columns) -> Iterator[Record]:
        """Yield its records.

        Raises:
            OSError: the file can't be read.
        """
        name = self.file.partition("://")[2] or self.file
        with fsspec.open(self.file, "rb") as file:
            if get_ending(name) == ".parquet":
                yield from iterate_parquet_records(file, name, self.first, self.rows, columns)
                return
            file.seek(self.offset)
            yield from iterate_text_records(file, name, self.first, self.rows, self.header, columns)

    def as_json(self) -> str:
        """Return it as text."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Part":
        """Return what `as_json` has written."""
        values = json.loads(text)
        return cls(**{**values, "header": tuple(values["header"])})


@dataclass(frozen=True)
class InputFile:
    """A file to score.

    Attributes:
        address: as fsspec opens it.
        size: in bytes.
    """

    address: str
    size: int


def list_files(pattern: str) -> list[InputFile]:
    """Return the files of a path, a folder with all below it, or a glob, in order of their names.

    Raises:
        DataError: there is none.
    """
    system, path = url_to_fs(pattern)
    if any(sign in path for sign in "*?["):
        found = system.glob(path, detail=True)
    elif system.isdir(path):
        found = system.find(path, detail=True)
    else:
        found = {path: system.info(path)} if system.exists(path) else {}
    files = [
        InputFile(system.unstrip_protocol(name).removeprefix("file://"), int(info["size"] or 0))
        for name, info in sorted(found.items())
        if info["type"] == "file" and get_ending(name) in ENDINGS
    ]
    if not files:
        raise DataError(
            f"{pattern}: there is no file of the endings {', '.join(ENDINGS)}. "
            "Name a file, a folder or a glob."
        )
    return files


def plan_parts(files: Sequence[InputFile], columns: Columns, rows: int) -> list[Part]:
    """Divide files into parts of so many rows; text files are read through once for it.

    Raises:
        DataError: a file can't be read, or lacks a column.
    """
    parts: list[Part] = []
    for item in files:
        try:
            with fsspec.open(item.address, "rb") as file:
                parts += _divide(file, item.address, columns, rows, len(parts))
        except (OSError, ValueError) as error:
            raise DataError(f"{item.address}: the file can't be read ({error}).") from error
    return parts


def _divide(file: IO[bytes], address: str, columns: Columns, rows: int, start: int) -> list[Part]:
    if get_ending(address) == ".parquet":
        from pyarrow import parquet

        table = parquet.ParquetFile(file)
        _require_columns(table.schema_arrow.names, columns, address)
        count = table.metadata.num_rows
        return [
            Part(start + i, address, 0, first, min(rows, count - first + 1))
            for i, first in enumerate(range(1, count + 1, rows))
        ]
    return list(_divide_text(file, address, columns, rows, start))


def _divide_text(
    file: IO[bytes], address: str, columns: Columns, rows: int, start: int
) -> Iterator[Part]:
    header: tuple[str, ...] = ()
    delimiter, offset = DELIMITERS.get(get_ending(address)), 0
    if delimiter is not None:
        raw = next(split_records(file, delimiter), b"")
        header, offset = tuple(read_fields(raw, delimiter)), len(raw)
        _require_columns(header, columns, address)
    number, first, count, end = start, 1, 0, offset
    for raw in split_records(file, delimiter, len(header)):
        end += len(raw)
        count += 1
        if count == rows:
            yield Part(number, address, offset, first, count, header)
            number, first, count, offset = number + 1, first + count, 0, end
    if count:
        yield Part(number, address, offset, first, count, header)


def _require_columns(found: Sequence[str], columns: Columns, address: str) -> None:
    for name in columns.wanted:
        require_column(name, found, address)


def fingerprint_job(files: Sequence[InputFile], rest: dict[str, Any]) -> str:
    """Return a sha256 of the files' names and sizes and of all else that the outcome depends on."""
    parts = [[asdict(file) for file in files], rest]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
