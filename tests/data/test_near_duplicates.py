"""Near duplicates: what the search finds is what comparing every two texts finds."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peft_sentiment.data.near_duplicates import RUN_LENGTH, find_near_duplicates

TEXTS = st.lists(st.lists(st.sampled_from("abcde"), max_size=8).map(" ".join), max_size=12)
THRESHOLDS = st.sampled_from([0.2, 0.5, 2 / 3, 0.8, 1.0])


def list_runs(text: str) -> set[tuple[str, ...]]:
    words = re.findall(r"\w+", text.casefold())
    if not words:
        return set()
    return {tuple(words[i : i + RUN_LENGTH]) for i in range(max(1, len(words) - RUN_LENGTH + 1))}


def compute_similarity(one: str, other: str) -> float:
    first, second = list_runs(one), list_runs(other)
    return len(first & second) / len(first | second) if first | second else 0.0


@settings(deadline=None)
@given(texts=TEXTS, threshold=THRESHOLDS, data=st.data())
def test_the_search_finds_what_comparing_every_two_texts_finds(
    texts: list[str], threshold: float, data: st.DataObject
) -> None:
    parts = data.draw(
        st.none() | st.lists(st.integers(0, 2), min_size=len(texts), max_size=len(texts))
    )
    found = find_near_duplicates(texts, threshold, parts)
    for place, text in enumerate(texts):
        earlier = [
            i
            for i in range(place)
            if (parts is None or parts[i] != parts[place])
            and compute_similarity(texts[i], text) >= threshold
        ]
        assert found.partner[place] == (earlier[0] if earlier else -1)
        if earlier:
            assert found.similarity[place] == compute_similarity(texts[earlier[0]], text)


def test_case_and_punctuation_make_no_difference() -> None:
    found = find_near_duplicates(["A dull, dull film!", "a DULL dull film"], 1.0)
    assert found.partner.tolist() == [-1, 0]
    assert found.similarity.tolist() == [0.0, 1.0]


def test_one_word_changed_in_a_review_leaves_it_nearly_the_same() -> None:
    words = [f"word{number}" for number in range(60)]
    changed = [*words[:30], "other", *words[31:]]
    found = find_near_duplicates([" ".join(words), " ".join(changed)], 0.8)
    assert found.find_places().tolist() == [1]
    assert found.similarity[1] == pytest.approx(55 / 61)


@pytest.mark.parametrize("texts", [[], [""], ["...", "...", ""]])
def test_texts_without_words_are_like_none(texts: list[str]) -> None:
    found = find_near_duplicates(texts, 0.5)
    np.testing.assert_array_equal(found.partner, [-1] * len(texts))
