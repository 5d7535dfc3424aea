"""Files in UTF-8 or an encoding that is named, read in memory that does not grow with them."""

import codecs
import contextlib
import gzip
import io
import re
import typing
import zlib
from collections.abc import Iterator
from pathlib import Path

from peft_sentiment.errors import DataError

if typing.TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_BROKEN_BYTE = re.compile("[\udc80-\udcff]")
"""How Python stands in for a byte that is not UTF-8."""

UTF_8 = "utf-8"

GZIP = ".gz"
"""Ending of a file that is read as what gzip makes of it."""

PACKED = 4
"""Bytes that a byte of gzip is taken to hold: more than of reviews, so that there is room."""

ReadableBytes = io.RawIOBase | io.FileIO | gzip.GzipFile

_BLOCK_BYTES = 1 << 20
"""Bytes that are read and checked at a time."""


@contextlib.contextmanager
def open_utf8(
    path: Path,
    encoding: str = UTF_8,
    *,
    newline: str | None = None,
    allow_nul: bool = True,
    keep_broken: bool = False,
) -> Iterator[io.TextIOWrapper]:
    """Open a file that must be UTF-8, or be read as it, without the mark that Excel puts first.

    What is no text is told when its block is reached, up to a megabyte before its line.

    Args:
        path: the file.
        encoding: of the file; what is read is UTF-8.
        newline: as for `open`: None makes every line end a line feed, "" leaves them.
        allow_nul: whether a NUL byte is text.
        keep_broken: whether what is no text is handed on, to be found with `find_broken_byte`.

    Raises:
        DataError: the file can't be read, is empty, or holds what is no text.
    """
    try:
        with _open_bytes(path) as file:
            errors = "surrogateescape" if keep_broken else "strict"
            recoded = file if is_utf8(encoding) else _RecodedFile(path, file, encoding, errors)
            raw = _CheckedFile(path, recoded, allow_nul, not keep_broken)
            checked = io.BufferedReader(raw, _BLOCK_BYTES)
            with io.TextIOWrapper(checked, "utf-8-sig", errors, newline) as text:
                yield text
    except (OSError, EOFError, zlib.error) as error:
        raise build_read_error(path, error) from error


def _open_bytes(path: Path) -> ReadableBytes:
    if path.suffix.lower() == GZIP:
        return gzip.open(path)
    return path.open("rb", buffering=0)


def estimate_bytes(path: Path) -> int:
    """Return how many bytes a file holds; of one that gzip has packed, an estimate."""
    return path.stat().st_size * (PACKED if path.suffix.lower() == GZIP else 1)


def find_broken_byte(text: str, encoding: str = UTF_8, *, allow_nul: bool = True) -> str | None:
    """Return what is no text in a part of a file that was opened with `keep_broken`, in words."""
    if not allow_nul and "\0" in text:
        return "there is a NUL byte, which no text has. Save the file as UTF-8."
    if text.isascii() or not (found := _BROKEN_BYTE.search(text)):
        return None
    byte = ord(found[0]) - 0xDC00
    return f"there is {_describe_broken(byte, encoding)}"


def is_utf8(encoding: str) -> bool:
    """Tell whether a codec's name stands for UTF-8, with a byte order mark or without."""
    return codecs.lookup(encoding).name in (UTF_8, "utf-8-sig")


def _describe_broken(byte: int, encoding: str, of_file: int | None = None) -> str:
    """Return what is wrong with a byte, and what to do; `of_file` is its place, from 1."""
    place = "a byte 0x" if of_file is None else f"byte {of_file:,} of the file is 0x"
    if is_utf8(encoding):
        likely = "utf-16" if of_file == 1 and byte in (0xFF, 0xFE) else "cp1252"
        wrong = "not UTF-8"
        advice = f"Save the file as UTF-8, or name its encoding, such as --encoding {likely}."
    else:
        wrong = f"nothing in {encoding}"
        advice = "Name the encoding that the file has with --encoding, or save it as UTF-8."
    return f"{place}{byte:02x}, which is {wrong}. {advice}"


def build_read_error(path: Path, error: Exception) -> DataError:
    """Return what is told of a file that the system, or the library of its format, can't read."""
    reason = getattr(error, "strerror", None) or " ".join(str(error).split())
    is_barred = isinstance(error, PermissionError)
    advice = "Check who may read it." if is_barred else "Check that it is complete."
    return DataError(f"{path}: the file can't be read ({reason}). {advice}")


class _CheckedFile(io.RawIOBase):
    """The bytes of a file, handed on once they are known to be text."""

    def __init__(self, path: Path, file: ReadableBytes, allow_nul: bool, is_strict: bool) -> None:
        self._is_strict = is_strict
        self._path = path
        self._file = file
        self._allow_nul = allow_nul
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._offset = 0
        self._lines = _LineCount()

    def readable(self) -> bool:
        """Return that bytes can be read."""
        return True

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        """Fill the buffer with the next bytes of the file, and check them."""
        count = self._file.readinto(buffer) or 0
        block = bytes(memoryview(buffer)[:count])
        if not block and not self._offset:
            raise DataError(f"{self._path}: the file is empty. Add reviews, or name another file.")
        if self._is_strict:
            self._check(block)
        self._lines.pass_over(block)
        self._offset += count
        return count

    def _check(self, block: bytes) -> None:
        left_over = self._decoder.getstate()[0]
        nul = -1 if self._allow_nul else block.find(b"\0")
        try:
            self._decoder.decode(block, final=not block)
        except UnicodeDecodeError as error:
            place = error.start - len(left_over)
            if not 0 <= nul < place:
                byte = (left_over + block)[error.start]
                raise DataError(
                    f"{self._path}, line {self._lines.find(block[: max(place, 0)])}: "
                    f"{_describe_broken(byte, UTF_8, self._offset + place + 1)}"
                ) from None
        if nul >= 0:
            raise DataError(
                f"{self._path}, line {self._lines.find(block[:nul])}: there is a NUL byte, which "
                "no text has. Save the file as UTF-8."
            )


class _RecodedFile(io.RawIOBase):
    """The bytes of a file in some encoding, as UTF-8."""

    def __init__(self, path: Path, file: ReadableBytes, encoding: str, errors: str) -> None:
        self._path = path
        self._file = file
        self._encoding = encoding
        self._errors = errors
        self._decoder = codecs.getincrementaldecoder(encoding)(errors)
        self._offset = 0
        self._lines = _LineCount()
        self._waiting = b""

    def readable(self) -> bool:
        """Return that bytes can be read."""
        return True

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        """Fill the buffer with the next bytes of the text in UTF-8."""
        view = memoryview(buffer).cast("B")
        is_left = True
        while is_left and not self._waiting:
            block = self._file.read(_BLOCK_BYTES)
            is_left = bool(block)
            self._waiting = self._recode(block)
        taken = self._waiting[: len(view)]
        view[: len(taken)] = taken
        self._lines.pass_over(taken)
        self._waiting = self._waiting[len(taken) :]
        return len(taken)

    def _recode(self, block: bytes) -> bytes:
        left_over = self._decoder.getstate()[0]
        try:
            text = self._decoder.decode(block, final=not block)
        except UnicodeDecodeError as error:
            before = error.object[: error.start].decode(self._encoding, "ignore").encode()
            line = self._lines.find(before)
            of_file = self._offset - len(left_over) + error.start + 1
            fault = _describe_broken(error.object[error.start], self._encoding, of_file)
            raise DataError(f"{self._path}, line {line}: {fault}") from None
        self._offset += len(block)
        return text.encode(UTF_8, self._errors)


class _LineCount:
    """The number of the line that a file has been read to; a line ends in LF, CR or both."""

    def __init__(self) -> None:
        self._line = 1
        self._last = b""

    def find(self, block: bytes) -> int:
        """Return the number of the line behind the next bytes."""
        pairs = block.count(b"\r\n") + (self._last == b"\r" and block[:1] == b"\n")
        return self._line + block.count(b"\n") + block.count(b"\r") - pairs

    def pass_over(self, block: bytes) -> None:
        """Go on behind the next bytes."""
        self._line = self.find(block)
        self._last = block[-1:] or self._last
