"""Files and folders, whole or not there: written beside their place, then renamed into it."""

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from peft_sentiment.errors import OutputError

_BLOCK_BYTES = 1 << 20


@contextlib.contextmanager
def replacing_file(path: Path) -> Iterator[Path]:
    """Give a path to write to, and put it in the place of `path` once the block has succeeded.

    Raises:
        OutputError: the folder can't be made or the file not be written; `path` is as it was.
    """
    with _output_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        os.close(descriptor)
        draft = Path(name)
        try:
            yield draft
            draft.chmod(0o666 & ~_get_umask())
            _flush_to_disk(draft)
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)


@contextlib.contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Give a folder to fill, and put it in the place of `path` once the block has succeeded.

    Raises:
        OutputError: the folder can't be made or not be filled; `path` is as it was.
    """
    with _output_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as name:
            draft, old = Path(name) / "new", Path(name) / "old"
            draft.mkdir()
            yield draft
            for file in (item for item in draft.rglob("*") if item.is_file()):
                file.chmod(0o666 & ~_get_umask())
                _flush_to_disk(file)
            if path.exists():
                path.rename(old)
            try:
                draft.rename(path)
            except OSError:
                if old.exists():
                    old.rename(path)
                raise


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8 as a whole or not at all.

    Raises:
        OutputError: as in `replacing_file`.
    """
    with replacing_file(path) as draft:
        draft.write_text(text, encoding="utf-8")


def compute_sha256(*paths: Path) -> str:
    """Return the sha256 of files one after the other, as of `cat` of them, in hex."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(_BLOCK_BYTES):
                digest.update(block)
    return digest.hexdigest()


def require_writable_folder(path: Path, flag: str) -> None:
    """Make a folder and check that files can be put there, before hours of work depend on it.

    Raises:
        OutputError: it can't be made or written to.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            return
    except OSError as error:
        raise OutputError(
            f"{path}: nothing can be written there ({error.strerror}). "
            f"Name another folder with {flag}, or free the place."
        ) from error


@contextlib.contextmanager
def _output_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"{path}: can't be written ({error.strerror or error}). "
            "Make room or choose another place; what stood there before is unchanged."
        ) from error


def _flush_to_disk(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _get_umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask


def fingerprint_weights(folder: Path) -> str:
    """Return one sha256 for all weight files of a model folder."""
    digests = [compute_sha256(file) for file in sorted(folder.glob("model*.safetensors"))]
    if len(digests) == 1:
        return digests[0]
    return hashlib.sha256("".join(digests).encode()).hexdigest()
