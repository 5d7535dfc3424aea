"""JSON files that hold one array: the rows of its objects, or a message that says where."""

import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from peft_sentiment.data.bad_rows import BadRows
from peft_sentiment.data.dialect import Dialect
from peft_sentiment.data.files import iterate_rows, read_rows
from peft_sentiment.data.json_records import _BLOCK_CHARACTERS
from peft_sentiment.errors import DataError

ROWS: list[dict[str, Any]] = [
    {"text": "Fine, [so] {good}", "label": "a"},
    {"text": 'Said "no"\nat last', "label": 1, "more": [1, {"x": None}]},
    {"text": "Ünique 好", "label": "b"},
]
MEGABYTE = 1 << 20


@pytest.mark.parametrize("indent", [None, 0, 4])
@pytest.mark.parametrize("ascii_only", [False, True])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_an_array_gives_the_rows_that_lines_give(
    indent: int | None, ascii_only: bool, encoding: str, tmp_path: Path
) -> None:
    array, lines = tmp_path / "a.json", tmp_path / "b.json"
    written = json.dumps(ROWS, indent=indent, ensure_ascii=ascii_only)
    array.write_bytes(f"\n {written} \n".encode(encoding))
    lines.write_bytes("\n".join(map(json.dumps, ROWS)).encode(encoding))
    found = [
        read_rows(path, ("text", "label"), dialect=Dialect(encoding)).columns
        for path in (array, lines)
    ]
    assert found[0] == found[1]


def test_each_row_has_the_line_on_which_its_object_begins(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps(ROWS, indent=1), encoding="utf-8")
    lines = path.read_text(encoding="utf-8").splitlines()
    places = [number for number, _ in iterate_rows(path, ["text"])]
    assert len(places) == len(ROWS)
    assert all(lines[place - 1] == " {" for place in places)


@pytest.mark.parametrize("length", [*range(_BLOCK_CHARACTERS - 12, _BLOCK_CHARACTERS + 4)])
def test_objects_that_lie_across_blocks_stay_whole(length: int, tmp_path: Path) -> None:
    path, texts = tmp_path / "a.json", ["x" * length, "y" * 3 * length, "z"]
    path.write_text(json.dumps([{"text": text} for text in texts]), encoding="utf-8")
    assert [text for _, (text,) in iterate_rows(path, ["text"])] == texts


def test_a_number_that_lies_across_blocks_is_one_row(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    for blank in range(_BLOCK_CHARACTERS - 4, _BLOCK_CHARACTERS + 1):
        bad = BadRows(are_skipped=True)
        path.write_text("[" + " " * blank + '123456, {"text": "a"}]', encoding="utf-8")
        assert [text for _, (text,) in iterate_rows(path, ["text"], bad=bad)] == ["a"]
        assert ["123456" in row.reason for row in bad.found] == [True]


def test_memory_does_not_grow_with_the_array(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps([{"text": "word " * 400}] * 10_000), encoding="utf-8")
    tracemalloc.start()
    assert sum(1 for _ in iterate_rows(path, ["text"])) == 10_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * MEGABYTE < path.stat().st_size


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[]", ["there are no reviews"]),
        ('[\n{"text": "a"},\n{"text": "b"', ["line 3", "broken here", "without the brackets"]),
        ('[\n{"text": "a"}\n{"text": "b"}]', ["line 3", "no comma"]),
        ('[\n{"text": "a"},\n]', ["line 3", "Expecting value"]),
        ('[{"text": "a"}]\n[]', ["line 2", "more behind the array's end"]),
        ('[\n"a"]', ["line 2: there is a, but it must be an object"]),
        ('[\n{"txt": "a"}]', ["line 2: no column 'text'", "Did you mean txt?"]),
        ('[{"text": "\\ud83d"}]', ["line 1", "lone surrogate"]),
        (f"[{'[' * 100_000}", ["line 1", "broken here"]),
        (f'[{{"text": {"9" * 10_000}}}]', ["line 1", "broken here"]),
        ('{"text": {"0": "a"},\n"label": {"0": "b"}}', ["line 1: this is not a JSON object"]),
    ],
)
def test_what_is_wrong_is_told_with_its_line(
    content: str, words: list[str], tmp_path: Path
) -> None:
    path = tmp_path / "a.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(DataError) as told:
        list(iterate_rows(path, ["text"]))
    assert all(word in str(told.value) for word in words), str(told.value)


def test_objects_that_can_not_be_used_are_left_out_if_asked(tmp_path: Path) -> None:
    path, bad = tmp_path / "a.json", BadRows(are_skipped=True)
    path.write_bytes(b'[{"text": "a"},\n7,\n{"text": "\xff"},\n{"txt": "c"},\n{"text": "d"}]')
    assert [text for _, (text,) in iterate_rows(path, ["text"], bad=bad)] == ["a", "d"]
    assert [row.place for row in bad.found] == [f"{path}, line {line}" for line in (2, 3, 4)]
