"""Files and folders are there whole or not at all, and what stood there survives a failure."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from tiny_runs import read_folder

from peft_sentiment import files
from peft_sentiment.errors import OutputError
from peft_sentiment.files import (
    compute_sha256,
    locked,
    replacing_file,
    replacing_folder,
    require_writable_folder,
    write_text,
)

Replacing = Callable[[Path], AbstractContextManager[Path]]


def fill(draft: Path, text: str = "new") -> None:
    (draft / "part" if draft.is_dir() else draft).write_text(text, encoding="utf-8")


def fail_inside(replaced: AbstractContextManager[Path], failure: BaseException) -> None:
    with replaced as draft:
        fill(draft)
        raise failure


def test_a_file_takes_its_place_when_the_block_has_succeeded(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "down" / "file.txt"
    with replacing_file(path) as draft:
        fill(draft)
        assert not path.exists()
        assert draft.is_relative_to(path.parent)
    assert path.read_text(encoding="utf-8") == "new"
    assert list(path.parent.iterdir()) == [path]


def test_a_folder_takes_its_place_when_the_block_has_succeeded(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    path.mkdir()
    (path / "old").write_text("old", encoding="utf-8")
    with replacing_folder(path) as draft:
        fill(draft)
        (draft / "inner").mkdir()
        fill(draft / "inner")
        assert read_folder(path) == {"old": b"old"}
    assert read_folder(path) == {"part": b"new", "inner/part": b"new"}
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("replacing", [replacing_file, replacing_folder])
@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt])
def test_a_block_that_raises_leaves_the_old_thing_and_no_draft(
    tmp_path: Path, replacing: Replacing, failure: type[BaseException]
) -> None:
    path = tmp_path / "place"
    if replacing is replacing_folder:
        path.mkdir()
        (path / "part").write_text("old", encoding="utf-8")
    else:
        path.write_text("old", encoding="utf-8")
    before = read_folder(tmp_path)
    with pytest.raises(failure):
        fail_inside(replacing(path), failure())
    assert read_folder(tmp_path) == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("replacing", [replacing_file, replacing_folder])
def test_a_block_that_raises_makes_nothing_where_there_was_nothing(
    tmp_path: Path, replacing: Replacing
) -> None:
    with pytest.raises(ValueError, match="reason"):
        fail_inside(replacing(tmp_path / "place"), ValueError("reason"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("replacing", [replacing_file, replacing_folder])
def test_a_disk_that_fails_is_an_output_error_with_the_place(
    tmp_path: Path, replacing: Replacing
) -> None:
    path = tmp_path / "place"
    with pytest.raises(OutputError, match=r"No space left.*unchanged") as refused, replacing(path):
        raise OSError(28, "No space left on device")
    assert str(path) in str(refused.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("replacing", [replacing_file, replacing_folder])
def test_a_place_below_a_file_is_an_output_error(tmp_path: Path, replacing: Replacing) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    path = tmp_path / "file" / "place"
    with pytest.raises(OutputError, match="can't be written") as refused, replacing(path):
        pytest.fail("the block must not be entered")
    assert str(path) in str(refused.value)


@pytest.mark.parametrize("has_old", [True, False])
def test_a_rename_that_fails_leaves_the_old_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_old: bool
) -> None:
    path = tmp_path / "place"
    if has_old:
        path.mkdir()
        fill(path, "old")
    before, rename = read_folder(tmp_path), Path.rename

    def fail_for_the_draft(source: Path, target: Path) -> Path:
        if source.name == "new":
            raise OSError(5, "Input/output error")
        return rename(source, target)

    monkeypatch.setattr(Path, "rename", fail_for_the_draft)
    monkeypatch.setattr(files, "_find_renameat2", lambda: None)
    with pytest.raises(OutputError, match="Input/output error"), replacing_folder(path) as draft:
        fill(draft)
    assert read_folder(tmp_path) == before
    assert list(tmp_path.iterdir()) == ([path] if has_old else [])


@pytest.mark.skipif(sys.platform != "linux", reason="two names change places at once on Linux only")
def test_a_folder_is_replaced_without_a_moment_in_which_it_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "place"
    path.mkdir()
    fill(path, "old")
    monkeypatch.setattr(Path, "rename", lambda *_: pytest.fail("one after the other"))
    with replacing_folder(path) as draft:
        fill(draft)
    assert read_folder(tmp_path) == {"place/part": b"new"}


KILLED_WHILE_WRITING = """
import os, pathlib, signal, sys
from peft_sentiment.files import replacing_file, replacing_folder
with {replacing}(pathlib.Path(sys.argv[1])) as draft:
    (draft / "part" if draft.is_dir() else draft).write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("replacing", [replacing_file, replacing_folder])
def test_what_a_killed_process_has_left_goes_with_the_next_write(
    tmp_path: Path, replacing: Replacing
) -> None:
    path = tmp_path / "place [1]"
    code = KILLED_WHILE_WRITING.format(replacing=replacing.__name__)  # type: ignore[attr-defined]
    done = subprocess.run([sys.executable, "-c", code, path], timeout=60)
    assert done.returncode == -9
    assert not path.exists()
    assert len(list(tmp_path.iterdir())) == 1
    with replacing(path) as draft:
        fill(draft)
    assert list(tmp_path.iterdir()) == [path]


def test_a_draft_that_another_process_is_writing_is_left_alone(tmp_path: Path) -> None:
    with replacing_folder(tmp_path / "place") as draft:
        fill(draft)
        code = KILLED_WHILE_WRITING.format(replacing="replacing_folder")
        subprocess.run([sys.executable, "-c", code, tmp_path / "place"], timeout=60)
        assert (draft / "part").is_file()
    assert read_folder(tmp_path / "place") == {"part": b"new"}


HOLDING = """
import pathlib, sys, time
from peft_sentiment.files import locked
folder = pathlib.Path(sys.argv[1])
with locked(folder, folder / ".lock", "--output-dir"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_place_belongs_to_one_process_until_it_ends_however_it_ends(tmp_path: Path) -> None:
    folder = tmp_path / "output"
    command = [sys.executable, "-c", HOLDING, folder]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with (
            pytest.raises(OutputError, match=r"another run is at work there.*--output-dir"),
            locked(folder, folder / ".lock", "--output-dir"),
        ):
            pytest.fail("two at once")
        other.kill()
    with locked(folder, folder / ".lock", "--output-dir"):
        pass
    assert list(folder.iterdir()) == []


def test_a_full_disk_is_seen_in_the_words_of_libraries_too(tmp_path: Path) -> None:
    words = "Error while serializing: I/O error: No space left on device (os error 28)"
    with (
        pytest.raises(OutputError, match=r"written \(No space left on device\)"),
        replacing_file(tmp_path / "place"),
    ):
        raise Exception(words)


def test_new_files_have_the_permissions_that_the_user_asks_for(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_text(tmp_path / "file", "text")
        with replacing_folder(tmp_path / "folder") as draft:
            fill(draft)
    finally:
        os.umask(before)
    for path in (tmp_path / "file", tmp_path / "folder" / "part"):
        assert path.stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "folder").stat().st_mode & 0o777 == 0o750


def test_written_text_is_utf_8(tmp_path: Path) -> None:
    write_text(tmp_path / "file", "ein schöner Film 🎬\n")
    assert (tmp_path / "file").read_bytes() == "ein schöner Film 🎬\n".encode()


def test_the_sha256_is_that_of_the_bytes(tmp_path: Path) -> None:
    data = bytes(range(256)) * 5000
    (tmp_path / "file").write_bytes(data)
    assert compute_sha256(tmp_path / "file") == hashlib.sha256(data).hexdigest()


def test_a_writable_folder_is_made_and_left_empty(tmp_path: Path) -> None:
    require_writable_folder(tmp_path / "deep" / "down", "--output-dir")
    assert list((tmp_path / "deep" / "down").iterdir()) == []


def test_a_folder_that_can_not_be_made_is_refused_with_its_flag(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(OutputError, match="--output-dir") as refused:
        require_writable_folder(tmp_path / "file", "--output-dir")
    assert str(tmp_path / "file") in str(refused.value)
