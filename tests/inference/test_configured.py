"""The classifier's parameters are settings of a run, checked like them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_models import MAX_POSITIONS

from peft_sentiment.config import AdapterSettings, ModelSettings, Settings, TrainingSettings
from peft_sentiment.errors import SettingsError
from peft_sentiment.inference.classifier import SentimentClassifier
from peft_sentiment.model.learning_rates import LEARNING_RATES
from peft_sentiment.records import StepRecord
from peft_sentiment.records.reviews import Reviews


def test_settings_can_be_set_and_read() -> None:
    classifier = SentimentClassifier(bf16=False).set_params(r=2, truncation="head")
    assert (classifier.r, classifier.get_params()["truncation"]) == (2, "head")
    assert classifier.settings.adapter.r == 2
    assert classifier.settings.data.truncation == "head"
    assert "bf16=False" in repr(classifier)
    with pytest.raises(SettingsError, match="nonsense"):
        classifier.set_params(nonsense=1)


def test_the_settings_of_a_run_make_the_same_classifier() -> None:
    settings = Settings(
        model=ModelSettings(model_name_or_path="somewhere"),
        adapter=AdapterSettings(r=3, target_modules=("q_lin",)),
        training=TrainingSettings(seed=7),
    )
    made = SentimentClassifier.from_settings(settings).settings
    assert (made.model, made.adapter, made.training) == (
        settings.model,
        settings.adapter,
        settings.training,
    )


def test_numpy_values_are_taken_as_settings() -> None:
    # As GridSearchCV passes them from an np.arange or np.logspace.
    classifier = SentimentClassifier(r=np.int64(2), learning_rate=np.float64(0.01), bf16=np.False_)
    assert classifier.settings.adapter.r == 2


def test_an_unknown_setting_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(SettingsError, match="Did you mean learning_rate"):
        SentimentClassifier(learning_rat=1e-3)
    with pytest.raises(SettingsError, match="no setting 'dataset_name'"):
        SentimentClassifier(dataset_name="packaged/imdb")


@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_method_is_trained_at_its_own_rate_where_none_is_named(
    tiny_distilbert: Path, tiny_reviews: Reviews, method: str
) -> None:
    classifier = SentimentClassifier(
        model_name_or_path=str(tiny_distilbert), method=method, bf16=False, num_train_epochs=1,
        target_modules=None, max_length=48, warmup_steps=0,
    )  # fmt: skip
    classifier.build_base(sorted(set(tiny_reviews.labels)))
    train = classifier.tokenize(tiny_reviews.take(range(40)))
    steps = [e for e in classifier.iterate_fit(train, None) if isinstance(e, StepRecord)]
    assert steps[0].learning_rate == LEARNING_RATES[method]


def test_learnt_tokens_need_room_only_beside_what_is_read_at_once(
    tiny_distilbert: Path, tiny_reviews: Reviews
) -> None:
    longest = MAX_POSITIONS
    settings: dict[str, Any] = {
        "model_name_or_path": str(tiny_distilbert), "method": "p_tuning", "target_modules": None,
        "bf16": False, "num_train_epochs": 1, "max_length": longest,
        "method_options": {"num_virtual_tokens": 8, "encoder_hidden_size": 8},
    }  # fmt: skip
    texts, labels = tiny_reviews.texts[:16], tiny_reviews.labels[:16]
    fitting = {"window_length": longest - 8, "crop_length": longest - 8}
    fitted = SentimentClassifier(**settings, **fitting).fit(texts, labels)
    assert len(fitted.predict([" ".join(texts)])) == 1
    for name in fitting:
        flag = f"--{name.replace('_', '-')} or --max-length to {longest - 8} or less"
        with pytest.raises(SettingsError, match=flag):
            SentimentClassifier(**settings, **{**fitting, name: 0}).fit(texts, labels)
