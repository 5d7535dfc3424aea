"""A classifier with a companion says the same after saving, and can be asked without it."""

import copy
from pathlib import Path

import numpy as np
import pytest

from peft_sentiment import SentimentClassifier
from peft_sentiment.errors import SettingsError
from peft_sentiment.evaluation.companion import NUMBERS_FILE, WORDS_FILE
from peft_sentiment.inference.loading import load_labeller
from peft_sentiment.records.reviews import Reviews

SETTINGS = {
    "max_length": 48,
    "num_train_epochs": 1.0,
    "learning_rate": 1e-2,
    "r": 4,
    "bf16": False,
}


@pytest.fixture(scope="module")
def fitted(tiny_distilbert: Path, tiny_reviews: Reviews) -> SentimentClassifier:
    train, validation = tiny_reviews.take(range(60)), tiny_reviews.take(range(60, 120))
    classifier = SentimentClassifier(
        model_name_or_path=str(tiny_distilbert), companion="tfidf", **SETTINGS
    )
    return classifier.fit(train.texts, train.labels, (validation.texts, validation.labels))


@pytest.fixture(scope="module")
def texts(tiny_reviews: Reviews) -> list[str]:
    return list(tiny_reviews.texts[120:])


def test_saved_equals_loaded(fitted: SentimentClassifier, texts: list[str], tmp_path: Path) -> None:
    fitted.save(tmp_path / "adapter")
    loaded = SentimentClassifier.load(tmp_path / "adapter", bf16=False)
    assert loaded.has_companion
    np.testing.assert_array_equal(loaded.predict_proba(texts), fitted.predict_proba(texts))


def test_the_companion_is_used_unless_told_not_to(
    fitted: SentimentClassifier, texts: list[str], tmp_path: Path
) -> None:
    fitted.save(tmp_path / "adapter")
    alone = SentimentClassifier.load(tmp_path / "adapter", bf16=False, use_companion=False)
    parts = fitted.predict_in_parts(texts)
    assert list(parts) == ["adapter", "peft"]
    assert not alone.has_companion
    assert list(alone.predict_in_parts(texts)) == ["peft"]
    np.testing.assert_array_equal(alone.predict_proba(texts), parts["adapter"].probabilities)
    assert np.abs(parts["adapter"].probabilities - parts["peft"].probabilities).max() > 0.01


def test_nothing_is_said_of_no_texts(fitted: SentimentClassifier) -> None:
    assert fitted.predict_proba([]).shape == (0, 2)


def test_what_is_loaded_without_its_companion_is_saved_as_it_speaks(
    fitted: SentimentClassifier, texts: list[str], tmp_path: Path
) -> None:
    fitted.save(tmp_path / "adapter")
    alone = SentimentClassifier.load(tmp_path / "adapter", bf16=False, use_companion=False)
    alone.save(tmp_path / "alone")
    again = SentimentClassifier.load(tmp_path / "alone", bf16=False)
    np.testing.assert_array_equal(again.predict_proba(texts), alone.predict_proba(texts))
    aside = copy.copy(fitted).set_params(use_companion=False)
    aside.save(tmp_path / "aside")
    again = SentimentClassifier.load(tmp_path / "aside", bf16=False)
    np.testing.assert_array_equal(again.predict_proba(texts), alone.predict_proba(texts))


@pytest.mark.parametrize("is_used", [True, False])
def test_labelling_asks_the_companion_too(
    fitted: SentimentClassifier, texts: list[str], tmp_path: Path, is_used: bool
) -> None:
    fitted.save(tmp_path / "adapter")
    overrides = {"training": {"bf16": False}, "evaluation": {"use_companion": is_used}}
    labeller = load_labeller(tmp_path / "adapter", overrides)
    parts = fitted.predict_in_parts(texts)
    expected = parts["peft" if is_used else "adapter"].probabilities
    np.testing.assert_array_equal(labeller.predict_reviews(texts).probabilities, expected)


def test_both_together_are_calibrated_together(
    fitted: SentimentClassifier, texts: list[str]
) -> None:
    assert fitted.calibration_ is not None
    assert fitted.companion_ is not None
    parts = fitted.predict_in_parts(texts)
    joint = fitted.companion_.join(texts, parts["adapter"]).probabilities.astype(np.float64)
    logits = np.log(joint) / fitted.calibration_.temperature
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(parts["peft"].probabilities, expected, atol=1e-5)


def test_an_adapter_saved_without_a_companion_leaves_none_behind(
    fitted: SentimentClassifier, tiny_distilbert: Path, tiny_reviews: Reviews, tmp_path: Path
) -> None:
    fitted.save(tmp_path / "adapter")
    plain = SentimentClassifier(model_name_or_path=str(tiny_distilbert), **SETTINGS)
    plain.fit(tiny_reviews.texts[:20], tiny_reviews.labels[:20]).save(tmp_path / "adapter")
    names = {file.name for file in (tmp_path / "adapter").iterdir()}
    assert not {WORDS_FILE, NUMBERS_FILE} & names
    assert not SentimentClassifier.load(tmp_path / "adapter").has_companion


def test_a_companion_without_validation_is_refused_before_training(
    tiny_distilbert: Path, tiny_reviews: Reviews
) -> None:
    classifier = SentimentClassifier(
        model_name_or_path=str(tiny_distilbert), companion="tfidf", **SETTINGS
    )
    with pytest.raises(SettingsError, match=r"no validation reviews.*--validation-size"):
        classifier.fit(tiny_reviews.texts[:20], tiny_reviews.labels[:20])
