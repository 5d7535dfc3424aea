"""Files and folders, whole or not there: written beside their place, then renamed into it."""

import contextlib
import ctypes
import functools
import hashlib
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from peft_sentiment.errors import OutputError

if sys.platform != "win32":
    import fcntl

MOST_CONFIG_BYTES = 16_000_000
"""Of a JSON file that configures a model or an adapter; real ones have a few thousand."""

_BLOCK_BYTES = 1 << 20
_OS_ERROR_IN_WORDS = re.compile(r"(?:[^:]*: )*(.*) \(os error \d+\)")
"""How libraries written in Rust tell of a full disk, in exceptions that are no OSError."""

_DETAIL = re.compile(r".*\[errno \d+\] (.*)", re.DOTALL)
"""How pyarrow does, in an OSError."""

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2
"""Of Linux: paths are relative to the working folder; two names change places at once."""


@contextlib.contextmanager
def replacing_file(path: Path) -> Iterator[Path]:
    """Give a path to write to, and put it in the place of `path` once the block has succeeded.

    Raises:
        OutputError: the folder can't be made or the file not be written; `path` is as it was.
    """
    with _output_errors(path), _draft_folder(path) as folder:
        draft = folder / path.name
        draft.touch()
        yield draft
        draft.chmod(0o666 & ~_get_umask())
        _flush_to_disk(draft)
        draft.replace(path)
        _flush_to_disk(path.parent)


@contextlib.contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Give a folder to fill, and put it in the place of `path` once the block has succeeded.

    Raises:
        OutputError: the folder can't be made or not be filled; `path` is as it was.
    """
    with _output_errors(path), _draft_folder(path) as folder:
        draft = folder / "new"
        draft.mkdir()
        yield draft
        for item in (draft, *draft.rglob("*")):
            if item.is_file():
                item.chmod(0o666 & ~_get_umask())
            _flush_to_disk(item)
        if path.exists():
            exchange(draft, path, folder / "old")
        else:
            draft.rename(path)
        _flush_to_disk(path.parent)


def exchange(new: Path, path: Path, old: Path) -> None:
    """Put `new` in the place of `path`, which is never missing where the system can help it.

    Args:
        new: what is to stand at `path`.
        path: where something stands.
        old: a free place in the file system of `path`.
    """
    rename = _find_renameat2()
    arguments = (_AT_FDCWD, os.fsencode(new), _AT_FDCWD, os.fsencode(path), _RENAME_EXCHANGE)
    if rename is not None and rename(*arguments) == 0:
        return
    path.rename(old)
    try:
        new.rename(path)
    except OSError:
        old.rename(path)
        raise


@functools.cache
def _find_renameat2() -> Callable[..., int] | None:
    if sys.platform != "linux":
        return None
    function: Callable[..., int] | None = getattr(ctypes.CDLL(None), "renameat2", None)
    return function


@contextlib.contextmanager
def _draft_folder(path: Path) -> Iterator[Path]:
    """Give a hidden folder beside `path`, and remove it and those that killed processes left."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_dead_drafts(path)
    folder = Path(tempfile.mkdtemp(prefix=_get_draft_prefix(path), dir=path.parent))
    try:
        with _held(folder):
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _get_draft_prefix(path: Path) -> str:
    return f".{path.name}.draft-"


def _remove_dead_drafts(path: Path) -> None:
    for draft in path.parent.glob(f"{_escape_glob(_get_draft_prefix(path))}*"):
        with contextlib.suppress(OSError), _held(draft):
            shutil.rmtree(draft, ignore_errors=True)


def _escape_glob(text: str) -> str:
    return re.sub(r"([*?\[])", r"[\1]", text)


@contextlib.contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Lock a folder for as long as this process lives at most.

    Raises:
        OSError: another process holds it.
    """
    if sys.platform == "win32":
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def locked(path: Path, lock_file: Path, flag: str) -> Iterator[None]:
    """Keep other processes that ask for the same out of a place for the time of this block.

    The lock goes with the process that holds it, however that ends.

    Args:
        path: the place.
        lock_file: stands for it; made if it is not there, and removed in the end.
        flag: that names another place.

    Raises:
        OutputError: another process has it.
    """
    # Whoever only reads what was exported need not have it.
    from filelock import FileLock, Timeout

    with _output_errors(path):
        lock_file.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(lock_file, timeout=0)
        try:
            lock.acquire()
        except Timeout:
            raise OutputError(
                f"{path}: another run is at work there. Wait until it has ended, or name another "
                f"folder with {flag}."
            ) from None
    try:
        yield
    finally:
        lock_file.unlink(missing_ok=True)
        lock.release()


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8 as a whole or not at all.

    Raises:
        OutputError: as in `replacing_file`.
    """
    with replacing_file(path) as draft:
        draft.write_text(text, encoding="utf-8")


def require_other_file(output: Path, *read: Path) -> None:
    """Check that what is to be written is none of the files that are read.

    Raises:
        OutputError: it is one of them, which would be lost.
    """
    if output.resolve() in [path.resolve() for path in read]:
        raise OutputError(
            f"{output}: this file is read, and would be replaced. Name another with --output."
        )


def compute_sha256(*paths: Path) -> str:
    """Return the sha256 of files one after the other, as of `cat` of them, in hex."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(_BLOCK_BYTES):
                digest.update(block)
    return digest.hexdigest()


def require_small_config(path: Path) -> None:
    """Check that a JSON file is of a size that configurations have.

    Raises:
        ValueError: it is larger.
    """
    size = path.stat().st_size
    if size > MOST_CONFIG_BYTES:
        raise ValueError(f"{path.name} has {size:,} bytes, and may have {MOST_CONFIG_BYTES:,}")


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
    except Exception as error:
        reason = _find_os_error(error)
        if reason is None:
            raise
        raise OutputError(
            f"{path}: can't be written ({reason}). "
            "Make room or choose another place; what stood there before is unchanged."
        ) from error


def _find_os_error(error: Exception) -> str | None:
    """Return what the system refused, or None where the error is of another kind."""
    if isinstance(error, OSError):
        words = error.strerror or str(error)
        detail = _DETAIL.fullmatch(words)
        return detail[1] if detail else words
    found = _OS_ERROR_IN_WORDS.match(str(error))
    return found[1] if found else None


def _flush_to_disk(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on disk."""
    if sys.platform == "win32" and path.is_dir():
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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
