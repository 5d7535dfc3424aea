"""Near duplicates in two parts: counted, dropped from the part that is trained on, or left."""

import pytest

from peft_sentiment.config import DataSettings
from peft_sentiment.data.leakage import settle_near_duplicates
from peft_sentiment.errors import DataError
from peft_sentiment.records.reviews import Reviews, Splits

LONG = "the camera follows a young woman through the city day after day until the credits roll"


def build_splits() -> Splits:
    train = Reviews(["a fine film", f"{LONG} twice", "a dull film"], ["a", "b", "a"])
    validation = Reviews([f"{LONG} again", "no story at all"], ["b", "a"])
    test = Reviews([LONG, "what a waste of time"], ["b", "a"])
    return Splits("x", None, ("a", "b"), train, validation, test, 0)


def settle(**values: object) -> Splits:
    return settle_near_duplicates(build_splits(), DataSettings(**values))


def test_near_duplicates_are_counted_and_by_default_stay() -> None:
    splits = settle()
    assert splits.near_duplicates == 2
    assert splits.train == build_splits().train


def test_near_duplicates_are_dropped_where_they_would_help_the_score() -> None:
    splits = settle(near_duplicates="drop")
    assert splits.train == Reviews(["a fine film", "a dull film"], ["a", "a"])
    assert splits.validation == Reviews(["no story at all"], ["a"])
    assert splits.test == build_splits().test
    assert splits.near_duplicates == 2


def test_near_duplicates_need_not_be_looked_for() -> None:
    assert settle(near_duplicates="ignore") == build_splits()


@pytest.mark.parametrize(("similarity", "count"), [(1.0, 0), (0.95, 0), (0.8, 2)])
def test_how_much_alike_can_be_chosen(similarity: float, count: int) -> None:
    assert settle(near_duplicate_similarity=similarity).near_duplicates == count


def test_a_training_of_nothing_but_near_duplicates_is_refused_with_the_reason() -> None:
    splits = build_splits()
    alone = Splits("x", None, ("a", "b"), splits.train.take([1]), splits.validation, splits.test, 0)
    with pytest.raises(DataError, match="all 1 training reviews are nearly the same"):
        settle_near_duplicates(alone, DataSettings(near_duplicates="drop"))
