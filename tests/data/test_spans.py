"""Words cover a text, and every token that is read belongs to one of them."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import MODEL_TYPES, build_tiny_tokenizer

from peft_sentiment.config import Truncation
from peft_sentiment.data.batching import tokenize_reviews
from peft_sentiment.data.spans import assign_words, find_words, tokenize_with_words
from peft_sentiment.errors import ModelError

TEXT = "Don't miss it: a  film,\nfull of wonderful... things!"


@settings(deadline=None, max_examples=50)
@given(st.text())
def test_words_cover_all_but_white_space(text: str) -> None:
    words = find_words(text)
    assert all(start < end for start, end in words)
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(words))
    rest = list(text)
    for start, end in words:
        rest[start:end] = " " * (end - start)
    assert "".join(rest).strip() == ""


def test_an_apostrophe_joins_and_signs_stand_together() -> None:
    words = [TEXT[start:end] for start, end in find_words(TEXT)]
    assert words == [
        "Don't", "miss", "it", ":", "a", "film", ",", "full", "of", "wonderful", "...", "things",
        "!",
    ]  # fmt: skip


@pytest.mark.parametrize("truncation", ["head", "tail", "head+tail"])
@pytest.mark.parametrize("max_length", [10, 64])
def test_the_tokens_are_those_that_are_scored(truncation: Truncation, max_length: int) -> None:
    tokenizer = build_tiny_tokenizer()
    spanned = tokenize_with_words(TEXT, tokenizer, max_length, truncation)
    scored = tokenize_reviews([TEXT], tokenizer, max_length, truncation).token_ids[0]
    assert spanned.ids.tolist() == scored.tolist()
    assert len(spanned.word_places) == len(scored)


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_word_pieces_belong_to_the_word_they_are_of(model_type: str) -> None:
    tokenizer = build_tiny_tokenizer(model_type)
    spanned = tokenize_with_words(TEXT, tokenizer, 128, "head")
    special = np.isin(spanned.ids, tokenizer.all_special_ids)
    assert (spanned.word_places[special] == -1).all()
    for place, (start, end) in enumerate(spanned.words):
        pieces = tokenizer.convert_ids_to_tokens(spanned.ids[spanned.word_places == place].tolist())
        joined = "".join(piece.removeprefix("##") for piece in pieces)
        assert joined == TEXT[start:end].lower()


def test_a_token_that_counts_the_space_before_it_in_belongs_to_its_own_word() -> None:
    words = find_words("a film")
    spans = np.array([[0, 1], [1, 6]])  # as byte-level tokenizers may have them
    assert assign_words("a film", words, spans).tolist() == [0, 1]


def test_a_token_of_white_space_belongs_to_the_word_before() -> None:
    text = "a  b"
    spans = np.array([[0, 1], [1, 3], [3, 4]])
    assert assign_words(text, find_words(text), spans).tolist() == [0, 0, 1]


def test_a_text_without_words_has_no_place_for_tokens() -> None:
    spanned = tokenize_with_words("  ", build_tiny_tokenizer(), 16, "head")
    assert spanned.words == []
    assert (spanned.word_places == -1).all()


def test_a_tokenizer_that_knows_no_places_is_refused() -> None:
    class SlowTokenizer:
        is_fast = False

    with pytest.raises(ModelError, match="SlowTokenizer does not tell where"):
        tokenize_with_words("a", SlowTokenizer(), 16, "head")
