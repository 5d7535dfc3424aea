"""Reading text block by block: the blocks' edges change nothing."""

import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from peft_sentiment.data import utf8
from peft_sentiment.data.utf8 import open_utf8
from peft_sentiment.errors import DataError

PIECES = st.sampled_from([b"a", b"\n", b"\r", b"\r\n", "é".encode(), "好".encode(), "😀".encode()])


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that is read in blocks of three bytes."""
    monkeypatch.setattr(utf8, "_BLOCK_BYTES", 3)
    return tmp_path / "a.txt"


def read(path: Path, newline: str | None = None, *, allow_nul: bool = True) -> list[str]:
    with open_utf8(path, newline=newline, allow_nul=allow_nul) as lines:
        return list(lines)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pieces=st.lists(PIECES, min_size=1), newline=st.sampled_from([None, ""]))
def test_text_in_blocks_is_the_text_as_a_whole(
    path: Path, pieces: list[bytes], newline: str | None
) -> None:
    path.write_bytes(b"".join(pieces))
    with path.open(encoding="utf-8", newline=newline) as whole:
        assert read(path, newline) == list(whole)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    before=st.lists(PIECES),
    fault=st.sampled_from([b"\xff", b"\x80", b"\xe5\xa5", b"\xf0\x9f\x98", b"\xed\xa0\x80"]),
    after=st.lists(PIECES),
)
def test_a_byte_that_is_no_utf_8_is_told_by_its_place(
    path: Path, before: list[bytes], fault: bytes, after: list[bytes]
) -> None:
    data = b"".join([*before, fault, *after])
    path.write_bytes(data)
    start = len(b"".join(before))
    line = len(re.findall(rb"\r\n|\r|\n", data[:start])) + 1
    with pytest.raises(DataError) as caught:
        read(path)
    words = f"{path}, line {line}: byte {start + 1} of the file is 0x{data[start]:02x}"
    assert str(caught.value).startswith(words)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(before=st.lists(PIECES))
def test_a_nul_is_told_by_its_line(path: Path, before: list[bytes]) -> None:
    data = b"".join(before)
    path.write_bytes(data + b"\0a")
    line = len(re.findall(rb"\r\n|\r|\n", data)) + 1
    with pytest.raises(DataError, match=f"line {line}: there is a NUL byte"):
        read(path, allow_nul=False)
    assert "\0" in "".join(read(path))


def test_one_byte_order_mark_is_no_text(path: Path) -> None:
    path.write_bytes(b"\xef\xbb\xbf\xef\xbb\xbfa")
    assert read(path) == ["\ufeffa"]
    path.write_bytes(b"\xef\xbb\xbf")
    assert read(path) == []


def test_a_file_without_bytes_is_told(path: Path) -> None:
    path.write_bytes(b"")
    with pytest.raises(DataError, match=r"a\.txt: the file is empty"):
        read(path)
