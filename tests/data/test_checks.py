"""Cleaning, and texts that occur twice."""

import pytest

from peft_sentiment.data.checks import (
    Part,
    clean_text,
    drop_duplicates,
    drop_shared_texts,
    refuse_shared_texts,
)
from peft_sentiment.errors import DataError


def build_part(*reviews: tuple[str, str], source: str = "reviews.csv") -> Part:
    texts, labels = zip(*reviews, strict=True)
    return Part(source, "line", texts, labels, range(2, len(reviews) + 2))


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("Good.<br /><br />Very good.", "Good. Very good."),
        ("Good.<BR>Very<br/>good.", "Good. Very good."),
        ("Good.<br> \n<br />Very good.", "Good. Very good."),
        ("\n Good. \t", "Good."),
        ("<br />", ""),
    ],
)
def test_line_breaks_become_one_space_and_outer_blanks_go(raw: str, clean: str) -> None:
    assert clean_text(raw) == clean


@pytest.mark.parametrize("text", ["I <3 it", "a  b", "<i>so</i> <brr>", "a\nb", "x < y", "\u200bé"])
def test_everything_else_in_a_text_stays(text: str) -> None:
    assert clean_text(text) == text


def test_cleaning_twice_changes_nothing() -> None:
    once = clean_text(" a<br /> <BR>b<br>")
    assert clean_text(once) == once


def test_of_equal_reviews_the_first_is_kept() -> None:
    part = drop_duplicates(build_part(("a", "x"), ("b", "y"), ("a", "x")))
    assert list(part.texts) == ["a", "b"]
    assert list(part.numbers) == [2, 3]


def test_a_text_with_two_labels_is_dropped_altogether() -> None:
    part = drop_duplicates(build_part(("a", "x"), ("b", "y"), ("a", "y"), ("a", "x")))
    assert list(part.texts) == ["b"]


def test_parts_that_share_texts_are_refused_with_their_rows() -> None:
    test = build_part(*[(str(n), "x") for n in range(6)], source="test.csv")
    train = build_part(*[(str(n), "x") for n in range(1, 9)], source="train.csv")
    with pytest.raises(DataError, match=r"test\.csv shares 5 texts with train\.csv") as caught:
        refuse_shared_texts(test, train)
    assert "line 3 is line 2; line 4 is line 3; line 5 is line 4)" in str(caught.value)


def test_parts_without_a_shared_text_pass() -> None:
    refuse_shared_texts(build_part(("a", "x")), build_part(("A", "x")))


def test_shared_texts_are_removed_from_the_first_part_only() -> None:
    part, other = build_part(("a", "x"), ("b", "y")), build_part(("b", "x"))
    assert list(drop_shared_texts(part, other).texts) == ["a"]
