"""The temperature is fitted where there is a validation, kept, and left out on demand."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone

from peft_sentiment.config import EvaluationSettings
from peft_sentiment.evaluation.temperature import rescale
from peft_sentiment.evaluation.thresholds import choose_threshold
from peft_sentiment.inference.classifier import SentimentClassifier
from peft_sentiment.model.metadata import load_metadata
from peft_sentiment.records.reviews import Reviews


def build_classifier(folder: Path, **settings: Any) -> SentimentClassifier:  # noqa: ANN401
    values = {
        "max_length": 48,
        "r": 4,
        "num_train_epochs": 2,
        "learning_rate": 2e-2,
        "per_device_train_batch_size": 8,
        "weight_averaging": 0.0,
        "target_modules": None,
        "lora_dropout": 0.1,
        **settings,
    }
    return SentimentClassifier(model_name_or_path=str(folder), bf16=False, **values)


@pytest.fixture(scope="module")
def fitted(tiny_distilbert: Path, tiny_reviews: Reviews) -> SentimentClassifier:
    texts, labels = list(tiny_reviews.texts), list(tiny_reviews.labels)
    validation = (texts[60:100], labels[60:100])
    return build_classifier(tiny_distilbert).fit(texts[:60], labels[:60], validation)


@pytest.fixture(scope="module")
def test_texts(tiny_reviews: Reviews) -> list[str]:
    return list(tiny_reviews.texts[100:140])


def test_probabilities_are_those_of_the_temperature(
    fitted: SentimentClassifier, test_texts: list[str]
) -> None:
    assert fitted.calibration_ is not None
    assert fitted.calibration_.reviews == 40
    assert fitted.calibration_.temperature != 1
    predictions = fitted.predict_reviews(test_texts)
    assert predictions.temperature == fitted.calibration_.temperature
    plain = rescale(predictions, 1.0)
    fitted.set_params(calibrate=False)
    raw = fitted.predict_reviews(test_texts)
    labels = fitted.predict(test_texts).tolist()
    fitted.set_params(calibrate=True)
    assert raw.temperature == 1
    np.testing.assert_allclose(raw.probabilities, plain.probabilities, atol=1e-6)
    assert np.abs(raw.probabilities - predictions.probabilities).max() > 1e-3
    assert fitted.predict(test_texts).tolist() == labels


def test_saved_equals_loaded(
    fitted: SentimentClassifier, test_texts: list[str], tmp_path: Path
) -> None:
    assert fitted.calibration_ is not None
    settings = EvaluationSettings(undecided_share=0.3)
    copy = clone(fitted)
    vars(copy).update(vars(fitted))
    copy.calibration_ = choose_threshold(fitted.calibration_, settings)
    copy.save(tmp_path / "adapter")
    loaded = SentimentClassifier.load(tmp_path / "adapter", bf16=False)
    assert loaded.calibration_ == copy.calibration_
    np.testing.assert_allclose(
        loaded.predict_proba(test_texts), fitted.predict_proba(test_texts), atol=1e-6
    )
    plain = SentimentClassifier.load(tmp_path / "adapter", bf16=False, calibrate=False)
    assert plain.predict_reviews(test_texts).temperature == 1


def test_the_base_has_no_temperature(fitted: SentimentClassifier, test_texts: list[str]) -> None:
    assert fitted.predict_reviews_without_adapter(test_texts).temperature == 1


def test_without_a_validation_there_is_no_temperature(
    tiny_distilbert: Path, tiny_reviews: Reviews, tmp_path: Path
) -> None:
    texts, labels = list(tiny_reviews.texts[:16]), list(tiny_reviews.labels[:16])
    classifier = build_classifier(tiny_distilbert, num_train_epochs=1).fit(texts, labels)
    assert classifier.calibration_ is None
    assert classifier.predict_reviews(texts).temperature == 1
    classifier.save(tmp_path / "adapter")
    assert load_metadata(tmp_path / "adapter").calibration is None


def test_a_new_training_forgets_the_old_temperature(
    fitted: SentimentClassifier, tiny_reviews: Reviews
) -> None:
    texts, labels = list(tiny_reviews.texts[:16]), list(tiny_reviews.labels[:16])
    copy = clone(fitted)
    vars(copy).update(vars(fitted))
    assert copy.fit(texts, labels).calibration_ is None
