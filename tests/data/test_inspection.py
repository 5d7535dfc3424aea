"""Each kind of fault is found in its row, and a sound file has none."""

from typing import Any

from peft_sentiment.data.columns import Rows
from peft_sentiment.data.inspection import (
    Finding,
    Inspection,
    UsableRows,
    inspect_rows,
    sort_rows,
)

LONG = "The camera follows a young woman through the city day after day until the credits roll"


def build_rows(*reviews: tuple[Any, Any]) -> UsableRows:
    texts, labels = zip(*reviews, strict=True)
    numbers = range(2, 2 + len(reviews))
    rows = Rows("a.csv", "line", numbers, {"text": texts, "label": labels})
    return sort_rows(rows, "text", "label")


def inspect(
    *reviews: tuple[Any, Any],
    near: float | None = 0.8,
    other: tuple[str, UsableRows] | None = None,
) -> Inspection:
    return inspect_rows("a.csv", build_rows(*reviews), near, other)


def list_places(inspection: Inspection) -> list[tuple[str, str, str | None]]:
    return [(found.kind, found.place, found.other) for found in inspection.findings]


def test_a_sound_file_has_no_findings() -> None:
    found = inspect(("A fine film", "b"), ("A dull long film", 1.0), ("Ünique “so” 好", "1"))
    assert found.findings == []
    assert found.rows == 3
    assert found.label_counts == {"1": 2, "b": 1}
    assert found.words is not None
    assert (found.words.shortest, found.words.median, found.words.longest) == (3, 3, 4)


def test_rows_that_training_refuses_are_found_and_not_looked_at_further() -> None:
    found = inspect(("<br />", "a"), (7, "a"), ("A fine film", None), ("A fine film", 0.5),
                    ("A fine film", "a"))  # fmt: skip
    assert list_places(found) == [
        ("text", "line 2", None), ("text", "line 3", None),
        ("label", "line 4", None), ("label", "line 5", None),
    ]  # fmt: skip
    assert [finding.detail for finding in found.findings] == [
        "empty", "7, which is no text", "missing", "0.5",
    ]  # fmt: skip
    assert found.rows == 5
    assert found.label_counts == {"a": 1}


def test_duplicates_name_the_first_row_and_contradictions_all_rows() -> None:
    found = inspect(("A fine film", "a"), ("A dull film", "a"), ("A fine film<br />", "a"),
                    ("A dull film", "b"), ("A dull film", "a"))  # fmt: skip
    assert list_places(found) == [
        ("duplicate", "line 4", "line 2"),
        ("conflict", "line 3", None),
        ("conflict", "line 5", "line 3"),
        ("conflict", "line 6", "line 3"),
    ]
    assert found.findings[1].detail == "labels a and b"


def test_a_copy_with_a_word_more_is_nearly_the_same_and_equal_ones_are_told_once() -> None:
    reviews = [(LONG, "a"), (LONG, "a"), (f"{LONG} slowly", "b")]
    found = inspect(*reviews)
    assert list_places(found) == [
        ("duplicate", "line 3", "line 2"), ("near", "line 4", "line 2"),
    ]  # fmt: skip
    assert found.findings[1] == Finding(
        "near", "line 4", "b", f"{LONG} slowly", "labels b and a", "line 2", 14 / 15
    )
    assert list_places(inspect(*reviews, near=None)) == [("duplicate", "line 3", "line 2")]


def test_texts_of_another_file_are_found_and_nearly_the_same_ones() -> None:
    other = ("b.csv", build_rows((LONG, "a"), ("A fine film", "a")))
    found = inspect(
        ("A fine film", "a"), (f"{LONG} slowly", "b"), ("A dull film", "a"), other=other
    )
    assert list_places(found) == [
        ("overlap", "line 2", "b.csv, line 3"), ("near_overlap", "line 3", "b.csv, line 2"),
    ]  # fmt: skip


def test_faults_of_the_text_are_found() -> None:
    found = inspect(("It was cafÃ© noir", "a"), ("An <i>odd</i> film", "a"),
                    ("A zero\u200bwidth sign here", "b"), ("Bad", "b"))  # fmt: skip
    kinds = [(finding.kind, finding.place) for finding in found.findings]
    assert kinds == [
        ("mojibake", "line 2"), ("html", "line 3"), ("control", "line 4"), ("short", "line 5"),
    ]  # fmt: skip


def test_a_review_far_longer_than_the_others_is_found() -> None:
    found = inspect(("A fine film", "a"), ("A dull film", "a"), ("word " * 31, "b"))
    assert list_places(found) == [("long", "line 4", None)]
