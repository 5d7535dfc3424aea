"""Labels that were swapped are found, and sound ones left alone."""

import sys

import pytest

from peft_sentiment.errors import DataError, SettingsError
from peft_sentiment.evaluation.label_errors import find_label_errors
from peft_sentiment.records.reviews import Reviews

OPPOSITES = {"negative": "positive", "positive": "negative"}


def test_swapped_labels_are_found_with_the_right_label(tiny_reviews: Reviews) -> None:
    swapped = [3, 40, 77, 120, 161]
    labels = list(tiny_reviews.labels)
    for index in swapped:
        labels[index] = OPPOSITES[labels[index]]
    errors = find_label_errors(tiny_reviews.texts, labels, seed=0)
    assert set(swapped) <= {error.index for error in errors}
    assert len(errors) <= 2 * len(swapped)
    assert sorted(error.score for error in errors) == [error.score for error in errors]
    for error in errors:
        assert error.suggested == OPPOSITES[labels[error.index]]
        assert 0 <= error.score < 0.5


def test_the_same_seed_finds_the_same(tiny_reviews: Reviews) -> None:
    labels = ["negative", *tiny_reviews.labels[1:3], "negative", *tiny_reviews.labels[4:]]
    runs = [find_label_errors(tiny_reviews.texts, labels, seed=5) for _ in range(2)]
    assert runs[0] == runs[1]


def test_texts_of_signs_alone_can_be_judged() -> None:
    texts = [f"{sign * count}" for sign in ":)" for count in range(1, 6)]
    assert find_label_errors(texts, ["a"] * 5 + ["b"] * 5, seed=0) == []


@pytest.mark.parametrize(
    ("labels", "words"), [(["a", "a", "b"], r"b \(1\)"), (["a"] * 3, "only a"), ([], "only none")]
)
def test_too_few_reviews_of_a_label_are_refused(labels: list[str], words: str) -> None:
    with pytest.raises(DataError, match=words):
        find_label_errors([f"text {i}" for i in range(len(labels))], labels, seed=0)


def test_without_cleanlab_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cleanlab.filter", None)
    with pytest.raises(SettingsError, match=r"pip install 'peft-sentiment\[labels\]'"):
        find_label_errors(["a", "b"], ["a", "b"], seed=0)
