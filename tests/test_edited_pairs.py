"""The edited pairs: 200 reviews, and what they say when a person has turned them round."""

import collections
import difflib
import json
from pathlib import Path
from typing import Any

import pytest

from peft_sentiment.config import load_settings
from peft_sentiment.data.sources import load_reviews
from peft_sentiment.data.split import split_reviews

FILE = Path(__file__).parent / "data" / "edited_pairs.jsonl"
FIELDS = [
    "id",
    "source_index",
    "original_text",
    "original_label",
    "edited_text",
    "edited_label",
]
OPPOSITES = {"negative": "positive", "positive": "negative"}

Pair = dict[str, Any]


@pytest.fixture(scope="module")
def pairs() -> list[Pair]:
    return [json.loads(line) for line in FILE.read_text(encoding="utf-8").splitlines()]


def count_kept_words(pair: Pair) -> float:
    """Return the share of the review's words that the edited text keeps, in their order."""
    before, after = pair["original_text"].split(), pair["edited_text"].split()
    blocks = difflib.SequenceMatcher(None, before, after, autojunk=False).get_matching_blocks()
    return sum(block.size for block in blocks) / len(before)


def test_there_are_200_pairs_in_one_form(pairs: list[Pair]) -> None:
    assert [pair["id"] for pair in pairs] == [f"pair-{n:03d}" for n in range(1, 201)]
    assert all(list(pair) == FIELDS for pair in pairs)


def test_every_pair_has_both_labels_and_half_of_the_reviews_each(pairs: list[Pair]) -> None:
    assert all(pair["edited_label"] == OPPOSITES[pair["original_label"]] for pair in pairs)
    assert collections.Counter(pair["original_label"] for pair in pairs) == {
        "negative": 100,
        "positive": 100,
    }


def test_no_text_occurs_twice(pairs: list[Pair]) -> None:
    texts = [pair[name] for pair in pairs for name in ("original_text", "edited_text")]
    assert len({" ".join(text.lower().split()) for text in texts}) == 400
    assert all(text == text.strip() and text for text in texts)


def test_an_edited_text_keeps_most_of_what_its_review_says(pairs: list[Pair]) -> None:
    kept = [count_kept_words(pair) for pair in pairs]
    assert min(kept) > 0.5
    assert sum(kept) / len(kept) > 0.75


def test_the_reviews_are_packaged_ones_that_a_default_training_never_sees(
    pairs: list[Pair],
) -> None:
    settings = load_settings()
    source = load_reviews(settings.data)
    splits = split_reviews(source, settings.data, settings.training.seed)
    seen = {*splits.train.texts, *splits.validation.texts}
    for pair in pairs:
        place = pair["source_index"]
        assert source.train.texts[place] == pair["original_text"]
        assert source.train.labels[place] == pair["original_label"]
        assert not {pair["original_text"], pair["edited_text"]} & seen
