"""Dealing: unequal labels, groups that stay whole, and sizes that fit what there is."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peft_sentiment.config import DataSettings, Settings
from peft_sentiment.data.checks import fingerprint_texts
from peft_sentiment.data.dealing import is_unequal
from peft_sentiment.data.split import draw_unseen_reviews, split_reviews
from peft_sentiment.errors import DataError
from peft_sentiment.records.reviews import Reviews, SourceData, Splits


def build_source(labels: list[str], groups: list[str] | None = None) -> SourceData:
    train = Reviews([f"review {n} of all" for n in range(len(labels))], labels, groups)
    return SourceData("x", None, tuple(sorted(set(labels))), train, None, None, 0)


def split(source: SourceData, seed: int = 0, **values: object) -> Splits:
    return split_reviews(source, DataSettings(near_duplicates="ignore", **values), seed)


def list_parts(splits: Splits) -> list[Reviews]:
    return [splits.train, splits.validation, splits.test]


def sizes(train: object, validation: object, test: object) -> dict[str, object]:
    return {"train_size": train, "validation_size": validation, "test_size": test}


UNEQUAL = ["a"] * 950 + ["b"] * 47 + ["c"] * 3
STARS = [str(1 + n % 5) for n in range(500)]


@pytest.mark.parametrize(
    ("labels", "answer"),
    [(UNEQUAL, True), (STARS, False), (["a"] * 3 + ["b"], False), (["a"] * 4 + ["b"], True)],
)
def test_labels_are_unequal_below_half_of_an_equal_share(labels: list[str], answer: bool) -> None:
    assert is_unequal(labels) is answer


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 2**32 - 1))
def test_every_part_has_a_rare_label_and_the_shares_of_the_whole(seed: int) -> None:
    splits = split(build_source(UNEQUAL), seed, **sizes(600, 100, 200))
    for part, size in zip(list_parts(splits), (600, 100, 200), strict=True):
        counts = Counter(part.labels)
        assert len(part) == size
        assert counts["c"] == 1
        assert abs(counts["b"] - 0.047 * size) <= 2


def test_without_stratifying_a_rare_label_may_be_missing() -> None:
    missing = 0
    for seed in range(20):
        try:
            splits = split(build_source(UNEQUAL), seed, stratify=False, **sizes(600, 100, 200))
        except DataError:
            missing += 1
            continue
        missing += "c" not in splits.test.labels
    assert missing > 0


def test_stratified_test_reviews_do_not_depend_on_other_sizes() -> None:
    source = build_source(UNEQUAL)
    few, many = split(source, **sizes(50, 100, 200)), split(source, **sizes("full", 100, 200))
    assert (few.test, few.validation) == (many.test, many.validation)
    assert many.train.texts[:50] == few.train.texts
    assert split(source, **sizes(50, 0, 200)).test == few.test


def test_no_review_is_in_two_parts_and_none_is_lost() -> None:
    splits = split(build_source(UNEQUAL), **sizes("full", 100, 200))
    texts = [text for part in list_parts(splits) for text in part.texts]
    assert len(texts) == len(set(texts)) == len(UNEQUAL)


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 2**32 - 1), stratify=st.booleans())
def test_a_group_is_never_divided(seed: int, stratify: bool) -> None:
    groups = [f"film {n // 7}" for n in range(500)]
    source = build_source(STARS, groups)
    splits = split(source, seed, stratify=stratify, **sizes(300, 60, 100))
    found = [set(part.groups or ()) for part in list_parts(splits)]
    assert sum(map(len, found)) == len(set.union(*found))
    for part, size in zip(list_parts(splits), (300, 60, 100), strict=True):
        assert size - 7 < len(part) <= size


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (sizes("auto", "auto", "auto"), "none fits into 50 reviews for test: .* has 100.*--test-s"),
        (
            sizes(300, 99, 100),
            "none fits into 99 reviews for validation: the smallest left has 100",
        ),
        (sizes(50, 100, 100), "none fits into 50 reviews for train: the smallest left has 100"),
    ],
)
def test_groups_that_fit_into_no_part_are_told_with_the_size_that_would_do(
    asked: dict[str, object], words: str
) -> None:
    source = build_source(STARS, [f"film {n // 100}" for n in range(500)])
    with pytest.raises(DataError, match=words):
        split(source, **asked)


def test_what_is_left_of_a_group_that_was_trained_on_is_not_drawn_for_a_test() -> None:
    groups = [f"film {n // 5}" for n in range(500)]
    source = build_source(STARS, groups)
    trained_with = Settings().updated(
        {"data": {**sizes(203, 52, 101), "near_duplicates": "ignore"}}, "test"
    )
    splits = split_reviews(source, trained_with.data, trained_with.training.seed)
    half = splits.train.take(range(0, len(splits.train), 2))  # of each group, some were seen
    seen = fingerprint_texts([*half.texts, *splits.validation.texts])
    drawn = draw_unseen_reviews(source, trained_with, seen, "full")
    assert drawn.groups is not None
    assert not set(drawn.groups) & set(half.groups or ())
    own = draw_unseen_reviews(source, trained_with, seen, "auto")
    assert list(own.texts) == list(splits.test.texts)


@pytest.mark.parametrize(
    ("count", "expected", "is_small"),
    [
        (5000, (3000, 500, 600), False),
        (4100, (3000, 500, 600), False),
        (4099, (3279, 410, 410), True),
        (1000, (800, 100, 100), True),
        (50, (40, 5, 5), True),
    ],
)
def test_usual_sizes_shrink_to_what_there_is(
    count: int, expected: tuple[int, int, int], is_small: bool
) -> None:
    splits = split(build_source([str(n % 2) for n in range(count)]))
    assert tuple(map(len, list_parts(splits))) == expected
    assert splits.is_small is is_small


def test_sizes_asked_for_are_kept_beside_usual_ones_that_shrink() -> None:
    source = build_source([str(n % 2) for n in range(1000)])
    splits = split(source, test_size=300)
    assert tuple(map(len, list_parts(splits))) == (600, 100, 300)
    splits = split(source, train_size=700)
    assert tuple(map(len, list_parts(splits))) == (700, 100, 100)


def test_sizes_asked_for_that_can_not_be_met_stay_errors() -> None:
    source = build_source([str(n % 2) for n in range(1000)])
    with pytest.raises(DataError, match=r"3,000 for train.*there are 1,000 reviews"):
        split(source, train_size=3000)


def test_a_small_test_file_of_its_own_is_taken_whole() -> None:
    labels = [str(n % 2) for n in range(5000)]
    source = build_source(labels)
    own = Reviews([f"test {n}" for n in range(40)], labels[:40])
    splits = split(SourceData("x", None, ("0", "1"), source.train, None, own, 0))
    assert tuple(map(len, list_parts(splits))) == (3000, 500, 40)
    assert not splits.is_small
