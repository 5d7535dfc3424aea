"""Folders of files that are made once and used again: whole and undamaged, or made anew.

A folder is known by a hash of all that its files depend on. It is filled beside its place and
renamed into it, with a list of its files and their checksums, so that one whose making was stopped
is never found, and one that was damaged later is told from a whole one.
"""

import hashlib
import json
import shutil
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peft_sentiment.errors import OutputError
from peft_sentiment.files import replacing_folder

FORMAT = 1
LIST_FILE = "files.json"

_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class CachedFolder:
    """A folder that is whole.

    Attributes:
        path: of the folder.
        sha256: of all that its files depend on.
        facts: what its maker noted.
        is_new: whether it has just been made.
    """

    path: Path
    sha256: str
    facts: dict[str, Any]
    is_new: bool

    @property
    def size(self) -> int:
        """Bytes of its files."""
        return sum(file.stat().st_size for file in self.path.iterdir())


def open_cached(
    root: Path,
    kind: str,
    key: Mapping[str, Any],
    make: Callable[[Path], dict[str, Any]],
    count_bytes: Callable[[], int],
) -> CachedFolder:
    """Return the folder for a key, made by the first process that asks; the others wait for it.

    Args:
        root: where such folders lie.
        kind: first part of its name.
        key: all that the files depend on, as JSON may have it.
        make: writes the files into a folder, and returns facts for JSON.
        count_bytes: about what the files are going to take.

    Raises:
        OutputError: there is no room, or nothing can be written there.
    """
    from filelock import FileLock

    sha256 = hashlib.sha256(json.dumps([FORMAT, kind, key], sort_keys=True).encode()).hexdigest()
    path = root / f"{kind}-{sha256[:20]}"
    _make_root(root)
    with FileLock(root / f".{path.name}.lock"):
        facts = _read_whole(path, sha256)
        if facts is not None:
            return CachedFolder(path, sha256, facts, is_new=False)
        _require_room(root, count_bytes())
        with replacing_folder(path) as draft:
            facts = make(draft)
            files = {file.name: _describe(file) for file in sorted(draft.iterdir())}
            listed = {"sha256": sha256, "files": files, "facts": facts}
            (draft / LIST_FILE).write_text(json.dumps(listed), encoding="utf-8")
    return CachedFolder(path, sha256, facts, is_new=True)


def _make_root(root: Path) -> None:
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"{root}: the folder can't be made ({error.strerror}). "
            "Name another with --token-cache-dir."
        ) from error


def _read_whole(path: Path, sha256: str) -> dict[str, Any] | None:
    """Return the facts of a folder, or None where it is missing or not what was written."""
    try:
        listed = json.loads((path / LIST_FILE).read_text(encoding="utf-8"))
        files: dict[str, list[int]] = listed["files"]
        is_whole = listed["sha256"] == sha256 and all(
            (path / name).stat().st_size == found[0] and _describe(path / name) == found
            for name, found in files.items()
        )
        facts: dict[str, Any] = listed["facts"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return facts if is_whole else None


def _describe(path: Path) -> list[int]:
    """Return a file's size and its CRC-32."""
    sum_, size = 0, 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            sum_, size = zlib.crc32(block, sum_), size + len(block)
    return [size, sum_]


def _require_room(root: Path, needed: int) -> None:
    free = shutil.disk_usage(root).free
    if needed > free:
        raise OutputError(
            f"{root}: about {needed / 1e9:.1f} GB are needed for texts and token ids, but "
            f"{free / 1e9:.1f} GB are free. Make room, or name a folder on another disk with "
            "--token-cache-dir."
        )
