"""A companion weighs two opinions, and comes back from disk as it went."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from peft_sentiment.errors import AdapterError, DataError
from peft_sentiment.evaluation.companion import (
    NUMBERS_FILE,
    WORDS_FILE,
    Companion,
    CompanionDraft,
    build_features,
    load_companion,
    save_companion,
)
from peft_sentiment.records import Predictions
from peft_sentiment.records.reviews import Reviews

LABELS = ("negative", "positive")


def say(second: list[float], seconds: float = 1.0) -> Predictions:
    """Return an adapter's predictions by its probabilities of the second label."""
    probabilities = np.column_stack([1 - np.array(second), second]).astype(np.float32)
    tokens = np.full(len(second), 7, np.int32)
    return Predictions(LABELS, probabilities, tokens, tokens > 9, seconds)


def guess(reviews: Reviews, sureness: float, share_right: float, seed: int = 0) -> Predictions:
    """Return predictions that are right as often as told."""
    is_right = np.random.default_rng(seed).random(len(reviews)) < share_right
    is_positive = np.equal(reviews.labels, "positive") == is_right
    return say(np.where(is_positive, sureness, 1 - sureness).tolist())


@pytest.fixture(scope="module")
def draft(tiny_reviews: Reviews) -> CompanionDraft:
    train, validation = tiny_reviews.take(range(60)), tiny_reviews.take(range(60, 120))
    return CompanionDraft.build(train, validation, LABELS, None)


@pytest.fixture(scope="module")
def companion(draft: CompanionDraft) -> Companion:
    return draft.finish(guess(draft.validation, 0.9, 0.7))


def measure(predictions: Predictions, reviews: Reviews) -> float:
    return float(np.equal(predictions.labels, reviews.labels).mean())


def test_the_better_of_two_opinions_weighs_more(
    draft: CompanionDraft, tiny_reviews: Reviews
) -> None:
    test = tiny_reviews.take(range(120, 200))
    for share_right in (0.55, 0.999):
        companion = draft.finish(guess(draft.validation, 0.9, share_right))
        adapter = guess(test, 0.9, share_right, seed=1)
        words = measure(say(companion.tfidf.predict_proba(test.texts)[:, 1].tolist()), test)
        joint = measure(companion.join(test.texts, adapter), test)
        assert joint >= max(measure(adapter, test), words) - 0.03


def test_what_is_joined_keeps_all_else_of_the_adapters_predictions(companion: Companion) -> None:
    ticks = iter([3.0, 5.0])
    adapter = say([0.2, 0.9])
    joint = companion.join(["an awful film", "a superb film"], adapter, lambda: next(ticks))
    assert joint.label_names == LABELS
    assert joint.tokens is adapter.tokens
    assert joint.is_cut is adapter.is_cut
    assert joint.seconds == adapter.seconds + 2.0
    np.testing.assert_allclose(joint.probabilities.sum(axis=1), 1, atol=1e-6)


def test_features_are_log_odds_of_both() -> None:
    probabilities = np.array([[0.2, 0.8], [1.0, 0.0]], np.float32)
    features = build_features(probabilities, np.array([[1.5], [-2.0]]))
    np.testing.assert_allclose(features[0], [np.log(4), 1.5], rtol=1e-6)
    assert np.isfinite(features).all()
    assert features[1, 0] < -50


def test_several_labels_are_weighed_too() -> None:
    names = ("bad", "fair", "good")
    words = {"bad": "awful", "fair": "passable", "good": "superb"}
    texts = [f"{words[name]} film {n}" for n in range(20) for name in names]
    reviews = Reviews(texts, list(names) * 20)
    draft = CompanionDraft.build(reviews, reviews, names, None)
    tokens = np.ones(60, np.int32)
    blind = Predictions(names, np.full((60, 3), 1 / 3, np.float32), tokens, tokens > 1, 1.0)
    joint = draft.finish(blind).join(texts, blind)
    assert joint.labels == reviews.labels


@pytest.mark.parametrize("labels", [2, 3])
def test_saved_equals_loaded(labels: int, companion: Companion, tmp_path: Path) -> None:
    if labels == 3:
        names = ("a", "b", "c")
        reviews = Reviews([f"word{n % 3} no {n}" for n in range(60)], [*names] * 20)
        probabilities = np.full((60, 3), 1 / 3, np.float32)
        tokens = np.ones(60, np.int32)
        blind = Predictions(names, probabilities, tokens, tokens > 1, 1.0)
        companion = CompanionDraft.build(reviews, reviews, names, None).finish(blind)
        adapter = blind
        texts = list(reviews.texts)
    else:
        adapter, texts = say([0.3, 0.6]), ["an awful plot", "superb and great"]
    save_companion(companion, tmp_path)
    loaded = load_companion(tmp_path, labels)
    assert loaded is not None
    np.testing.assert_array_equal(
        loaded.join(texts, adapter).probabilities, companion.join(texts, adapter).probabilities
    )
    assert sorted(file.name for file in tmp_path.iterdir()) == [WORDS_FILE, NUMBERS_FILE]


def test_a_folder_without_a_companion_has_none(tmp_path: Path) -> None:
    assert load_companion(tmp_path, 2) is None


def spoil_words(folder: Path, **values: object) -> None:
    words = json.loads((folder / WORDS_FILE).read_text(encoding="utf-8"))
    (folder / WORDS_FILE).write_text(json.dumps({**words, **values}), encoding="utf-8")


def spoil_numbers(folder: Path, name: str, array: np.ndarray | None) -> None:
    numbers = load_file(folder / NUMBERS_FILE)
    numbers.pop(name)
    save_file(numbers | ({} if array is None else {name: array}), folder / NUMBERS_FILE)


SPOILERS = {
    "words missing": lambda folder: (folder / WORDS_FILE).unlink(),
    "numbers missing": lambda folder: (folder / NUMBERS_FILE).unlink(),
    "words cut": lambda folder: (folder / WORDS_FILE).write_text('{"vocab'),
    "numbers cut": lambda folder: (folder / NUMBERS_FILE).write_bytes(b"\x08\x00"),
    "no table": lambda folder: (folder / WORDS_FILE).write_text("[1]"),
    "other format": lambda folder: spoil_words(folder, format_version=9),
    "other words": lambda folder: spoil_words(folder, token_pattern="(a+)+$"),  # noqa: S106
    "word lost": lambda folder: spoil_words(folder, vocabulary=["film"]),
    "weights lost": lambda folder: spoil_numbers(folder, "weights", None),
    "weights of three labels": lambda folder: spoil_numbers(folder, "weights", np.ones((3, 6))),
    "weights that are none": lambda folder: spoil_numbers(folder, "bias", np.array([np.nan])),
}


@pytest.mark.parametrize("spoil", SPOILERS.values(), ids=SPOILERS.keys())
def test_a_companion_that_is_not_whole_is_refused(
    spoil: object, companion: Companion, tmp_path: Path
) -> None:
    save_companion(companion, tmp_path)
    assert callable(spoil)
    spoil(tmp_path)
    with pytest.raises(AdapterError, match="companion is not whole") as refused:
        load_companion(tmp_path, 2)
    assert str(tmp_path) in str(refused.value)


def test_a_label_without_a_validation_review_is_refused(tiny_reviews: Reviews) -> None:
    negative = tiny_reviews.take(range(0, 40, 2))
    with pytest.raises(DataError, match=r"none of the 20 has the label positive"):
        CompanionDraft.build(tiny_reviews, negative, LABELS, None)
