"""Splitting: sizes, seeds and what must not depend on what."""

from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peft_sentiment.config import DataSettings
from peft_sentiment.data.split import split_reviews
from peft_sentiment.errors import DataError, SettingsError
from peft_sentiment.records.reviews import Reviews, SourceData, Splits

Size = int | Literal["full"]

LABELS = ("negative", "positive")


def build_reviews(count: int, prefix: str = "review") -> Reviews:
    return Reviews([f"{prefix} {n}" for n in range(count)], [LABELS[n % 2] for n in range(count)])


def build_source(train: Reviews, **parts: object) -> SourceData:
    values = {"validation": None, "test": None, "label_names": LABELS, **parts}
    return SourceData(name="x", sha256="y", train=train, duplicates_removed=3, **values)


def split(source: SourceData, train: Size, validation: Size, test: Size, seed: int = 1) -> Splits:
    sizes = {"train_size": train, "validation_size": validation, "test_size": test}
    return split_reviews(source, DataSettings(**sizes), seed)


SOURCE = build_source(build_reviews(200))


@given(seed=st.integers(0, 2**32 - 1))
def test_parts_share_no_text_and_have_the_sizes_asked_for(seed: int) -> None:
    splits = split(SOURCE, 100, 30, 40, seed)
    parts = [splits.train, splits.validation, splits.test]
    assert [len(part) for part in parts] == [100, 30, 40]
    assert len({text for part in parts for text in part.texts}) == 170


def test_every_review_keeps_its_label() -> None:
    splits = split(SOURCE, 100, 30, 40)
    label_of = dict(zip(SOURCE.train.texts, SOURCE.train.labels, strict=True))
    for part in (splits.train, splits.validation, splits.test):
        assert [label_of[text] for text in part.texts] == part.labels


def test_the_same_seed_gives_the_same_parts_in_the_same_order() -> None:
    assert split(SOURCE, 100, 30, 40) == split(SOURCE, 100, 30, 40)


def test_another_seed_gives_other_parts() -> None:
    assert split(SOURCE, 100, 30, 40).test != split(SOURCE, 100, 30, 40, seed=2).test


@pytest.mark.parametrize("train_size", [20, 130, "full"])
def test_the_test_and_validation_parts_do_not_depend_on_train_size(train_size: Size) -> None:
    few, many = split(SOURCE, 10, 30, 40), split(SOURCE, train_size, 30, 40)
    assert (few.test, few.validation) == (many.test, many.validation)


def test_the_test_part_does_not_depend_on_validation_size() -> None:
    assert split(SOURCE, 100, 0, 40).test == split(SOURCE, 100, 30, 40).test


def test_fewer_training_reviews_are_the_first_of_more() -> None:
    assert split(SOURCE, 100, 30, 40).train.texts[:20] == split(SOURCE, 20, 30, 40).train.texts


def test_own_test_reviews_do_not_depend_on_other_sizes() -> None:
    source = build_source(build_reviews(100), test=build_reviews(50, "test"))
    assert split(source, 20, 10, 30).test == split(source, 60, 0, 30).test


def test_full_takes_all_that_is_left() -> None:
    splits = split(SOURCE, 50, 30, "full")
    assert [len(splits.train), len(splits.validation), len(splits.test)] == [50, 30, 120]


def test_own_parts_are_drawn_from_themselves() -> None:
    own = {"validation": build_reviews(20, "validation"), "test": build_reviews(50, "test")}
    splits = split(build_source(build_reviews(100), **own), "full", "full", "full")
    assert [len(splits.train), len(splits.validation), len(splits.test)] == [100, 20, 50]
    assert all(text.startswith("validation") for text in splits.validation.texts)
    assert all(text.startswith("test") for text in splits.test.texts)


def test_no_validation_reviews_are_used_where_none_are_asked_for() -> None:
    source = build_source(build_reviews(100), validation=build_reviews(20, "validation"))
    assert len(split(source, 50, 0, 20).validation) == 0


def test_what_the_source_says_of_itself_is_kept() -> None:
    splits = split(SOURCE, 100, 30, 40)
    kept = (splits.name, splits.sha256, splits.label_names, splits.duplicates_removed)
    assert kept == ("x", "y", LABELS, 3)


def test_two_parts_can_not_both_take_the_rest() -> None:
    with pytest.raises(SettingsError, match="--test-size full and --train-size full"):
        split(SOURCE, "full", 30, "full")


def test_too_few_reviews_are_refused_with_what_was_found() -> None:
    with pytest.raises(DataError, match=r"100 for test and 90 for validation and 11 for train"):
        split(SOURCE, 11, 90, 100)
    with pytest.raises(DataError, match=r"there are 200 reviews\. Lower --train-size"):
        split(SOURCE, 11, 90, 100)


def test_full_needs_one_review_at_least() -> None:
    with pytest.raises(DataError, match="1 or more for train"):
        split(SOURCE, "full", 100, 100)


def test_an_empty_part_of_the_source_is_refused() -> None:
    with pytest.raises(DataError, match="there are 0 reviews"):
        split(build_source(build_reviews(100), test=build_reviews(0)), 50, 0, "full")


def test_every_label_needs_a_training_review() -> None:
    with pytest.raises(DataError, match=r"No review among the 1 training reviews"):
        split(SOURCE, 1, 30, 40)
    neutral = build_source(build_reviews(200), label_names=("negative", "neutral", "positive"))
    with pytest.raises(DataError, match="the label neutral"):
        split(neutral, 100, 30, 40)


def test_a_column_that_holds_no_labels_is_told() -> None:
    texts = [f"Film {number}" for number in range(400)]
    numbers = tuple(map(str, range(400)))
    source = build_source(Reviews(texts, list(numbers)), label_names=numbers)
    with pytest.raises(
        DataError, match=r"400 labels \(0, 1, 2 and 397 more\).*no column of labels"
    ):
        split(source, 300, 30, 40)


def test_test_reviews_need_two_labels() -> None:
    with pytest.raises(DataError, match=r"All 1 test reviews .* Raise --test-size"):
        split(SOURCE, 100, 30, 1)
