"""A cached folder is whole, or made anew."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from peft_sentiment.data.arrow_files import ROWS, ArrowWriter, MappedColumn, Texts, TokenIds
from peft_sentiment.data.disk_cache import CachedFolder, open_cached
from peft_sentiment.errors import OutputError


def make(draft: Path) -> dict[str, Any]:
    (draft / "a.bin").write_bytes(b"first")
    (draft / "b.bin").write_bytes(b"second")
    return {"rows": 2}


def open_test(root: Path, number: int = 1, needed: int = 0) -> CachedFolder:
    return open_cached(root, "test", {"number": number}, make, lambda: needed)


def test_a_folder_is_made_once_for_a_key(tmp_path: Path) -> None:
    first, again, other = (open_test(tmp_path, number) for number in (1, 1, 2))
    assert [folder.is_new for folder in (first, again, other)] == [True, False, True]
    assert first.path == again.path != other.path
    assert again.facts == {"rows": 2}


def shorten(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def turn_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[0] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [shorten, turn_a_bit, Path.unlink])
@pytest.mark.parametrize("name", ["a.bin", "files.json"])
def test_a_damaged_folder_is_made_anew(
    damage: Callable[[Path], None], name: str, tmp_path: Path
) -> None:
    path = open_test(tmp_path).path
    damage(path / name)
    assert open_test(tmp_path).is_new
    assert (path / "a.bin").read_bytes() == b"first"


def test_a_stopped_making_leaves_nothing_behind(tmp_path: Path) -> None:
    def stop(draft: Path) -> dict[str, Any]:
        make(draft)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_cached(tmp_path, "test", {"number": 1}, stop, lambda: 0)
    assert [path for path in tmp_path.iterdir() if not path.name.endswith(".lock")] == []
    assert open_test(tmp_path).is_new


def test_a_full_disk_is_told_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"1000000000\.0 GB are needed.*--token-cache-dir"):
        open_test(tmp_path, needed=10**18)
    assert open_test(tmp_path).is_new


@pytest.fixture
def values() -> list[Any]:
    """More rows than a batch has, some of them empty."""
    rng = np.random.default_rng(0)
    return [rng.integers(0, 1000, n % 5).astype(np.int32) for n in range(2 * ROWS + 7)]


def write_in_parts(path: Path, values: list[Any], is_text: bool) -> None:
    def cut() -> Iterator[list[Any]]:
        for start in range(0, len(values), 1000):
            yield values[start : start + 1000]

    with ArrowWriter(path, is_text=is_text) as writer:
        for part in cut():
            writer.write(part)


def test_token_ids_come_back_at_any_row(values: list[Any], tmp_path: Path) -> None:
    write_in_parts(tmp_path / "ids.arrow", values, is_text=False)
    column = MappedColumn(tmp_path / "ids.arrow", np.int32)
    assert len(column) == len(values)
    rows = np.random.default_rng(1).permutation(len(values))
    found = TokenIds(column, rows)
    assert all(np.array_equal(found[i], values[row]) for i, row in enumerate(rows.tolist()))


def test_texts_come_back_at_any_row(values: list[Any], tmp_path: Path) -> None:
    texts = [" ".join(map(str, ids)) + "\u00e9\U0001f3ac" * (len(ids) % 2) for ids in values]
    write_in_parts(tmp_path / "texts.arrow", texts, is_text=True)
    column = MappedColumn(tmp_path / "texts.arrow", np.uint8)
    found = Texts(column, np.arange(len(texts)), np.zeros(len(texts), np.uint64))
    assert list(found) == texts
    assert found[-3:] == texts[-3:]


def test_arrays_stay_what_they_are_when_memory_is_given_back(
    values: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_in_parts(tmp_path / "ids.arrow", values, is_text=False)
    monkeypatch.setattr("peft_sentiment.data.arrow_files._RESIDENT_BYTES", 1)
    column = MappedColumn(tmp_path / "ids.arrow", np.int32)
    held = [column.read(row) for row in range(100)]
    assert all(np.array_equal(*pair) for pair in zip(held, values, strict=False))


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux for a file's resident pages")
def test_a_file_that_is_read_whole_does_not_stay_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "ids.arrow"
    write_in_parts(path, [np.zeros(20_000, np.int32)] * 500, is_text=False)

    def count_resident(limit: int) -> int:
        monkeypatch.setattr("peft_sentiment.data.arrow_files._RESIDENT_BYTES", limit)
        column = MappedColumn(path, np.int32)
        assert all(not column.read(row).any() for row in range(len(column)))
        maps = psutil.Process().memory_maps()
        return sum(found.rss for found in maps if found.path == str(path))

    assert path.stat().st_size > 40_000_000
    assert count_resident(1 << 40) > 30_000_000
    assert count_resident(1 << 20) < 4_000_000


def test_an_empty_file_has_no_rows(tmp_path: Path) -> None:
    write_in_parts(tmp_path / "ids.arrow", [], is_text=False)
    assert len(MappedColumn(tmp_path / "ids.arrow", np.int32)) == 0
