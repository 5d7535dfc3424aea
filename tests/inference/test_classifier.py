"""The classifier is a scikit-learn estimator, and comes back as it was saved."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from peft_sentiment.config import PACKAGED_BERT, PACKAGED_DISTILBERT, AdapterSettings, Settings
from peft_sentiment.data.checks import find_seen_texts
from peft_sentiment.errors import DataError, DeviceMemoryError, PeftSentimentError, SettingsError
from peft_sentiment.inference import scoring
from peft_sentiment.inference.arguments import PARAMETERS
from peft_sentiment.inference.classifier import SentimentClassifier
from peft_sentiment.inference.loading import load_labeller
from peft_sentiment.inference.quick import QuickClassifier
from peft_sentiment.model.metadata import load_metadata
from peft_sentiment.model.saved_adapters import load_seen
from peft_sentiment.records.reviews import Reviews


def build_classifier(folder: Path, **settings: Any) -> SentimentClassifier:  # noqa: ANN401
    values = {
        "model_name_or_path": str(folder),
        "max_length": 48,
        "r": 4,
        "num_train_epochs": 1,
        "learning_rate": 2e-2,
        "per_device_train_batch_size": 8,
        "weight_averaging": 0.0,
        "target_modules": None,
        "lora_alpha": 32,
        "lora_dropout": 0.1,
        "bf16": False,
        **settings,
    }
    return SentimentClassifier(**values)


@pytest.fixture(scope="module")
def texts(tiny_reviews: Reviews) -> list[str]:
    return list(tiny_reviews.texts[:80])


@pytest.fixture(scope="module")
def labels(tiny_reviews: Reviews) -> list[str]:
    return list(tiny_reviews.labels[:80])


@pytest.fixture(scope="module")
def fitted(tiny_distilbert: Path, texts: list[str], labels: list[str]) -> SentimentClassifier:
    classifier = build_classifier(tiny_distilbert, num_train_epochs=4, truncation="tail")
    return classifier.fit(texts, labels)


def test_it_fits_and_predicts(
    fitted: SentimentClassifier, texts: list[str], labels: list[str]
) -> None:
    assert fitted.score(texts, labels) > 0.9
    assert fitted.classes_.tolist() == ["negative", "positive"]
    probabilities = fitted.predict_proba(texts)
    assert probabilities.shape == (80, 2)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-6)
    best = fitted.classes_[probabilities.argmax(axis=1)]
    assert fitted.predict(texts).tolist() == best.tolist()


def test_no_texts_give_no_predictions(fitted: SentimentClassifier) -> None:
    assert fitted.predict_proba([]).shape == (0, 2)
    assert fitted.predict([]).tolist() == []


def test_a_clone_has_the_same_settings_and_no_model(fitted: SentimentClassifier) -> None:
    copy = clone(fitted)
    assert copy.get_params() == fitted.get_params()
    assert copy.get_params().keys() == PARAMETERS.keys()
    with pytest.raises(NotFittedError, match="not fitted"):
        copy.predict(["good"])
    with pytest.raises(NotFittedError, match="not fitted"):
        copy.save("nowhere")


def test_a_setting_out_of_range_is_refused_when_fitting(tiny_distilbert: Path) -> None:
    with pytest.raises(SettingsError, match=r"adapter\.r is 0"):
        build_classifier(tiny_distilbert, r=0).fit(["good", "bad"], [1, 0])
    with pytest.raises(SettingsError, match="at most 128 tokens"):
        build_classifier(tiny_distilbert, max_length=129).fit(["good", "bad"], [1, 0])


@pytest.mark.parametrize("form", [list, np.array], ids=["list", "array"])
def test_it_can_be_cross_validated(
    tiny_distilbert: Path,
    texts: list[str],
    labels: list[str],
    form: Any,  # noqa: ANN401
) -> None:
    classifier = build_classifier(tiny_distilbert, num_train_epochs=8)
    scores = cross_val_score(classifier, form(texts), form(labels), cv=2, error_score="raise")
    assert scores.min() > 0.7


def test_it_can_stand_in_a_pipeline_and_be_searched(
    tiny_distilbert: Path, texts: list[str], labels: list[str]
) -> None:
    shout = FunctionTransformer(lambda texts: [text.upper() for text in texts])
    pipeline = Pipeline([("shout", shout), ("classifier", build_classifier(tiny_distilbert))])
    search = GridSearchCV(
        pipeline, {"classifier__r": np.array([2, 4])}, cv=2, error_score="raise"
    ).fit(texts, labels)
    assert search.best_params_["classifier__r"] in (2, 4)
    assert search.predict(texts[:3]).shape == (3,)


def test_the_same_seed_makes_the_same_classifier(
    tiny_distilbert: Path, texts: list[str], labels: list[str], fitted: SentimentClassifier
) -> None:
    torch.manual_seed(99)
    again = clone(fitted).fit(texts, labels)
    np.testing.assert_array_equal(again.predict_proba(texts), fitted.predict_proba(texts))
    other = clone(fitted).set_params(seed=1).fit(texts, labels)
    assert not np.array_equal(other.predict_proba(texts), fitted.predict_proba(texts))


def test_fitting_again_starts_anew(
    tiny_distilbert: Path, texts: list[str], labels: list[str]
) -> None:
    classifier = build_classifier(tiny_distilbert).fit(texts, labels)
    first = classifier.predict_proba(texts)
    three = classifier.fit(texts[:6], ["a", "b", "c"] * 2)
    assert three.classes_.tolist() == ["a", "b", "c"]
    np.testing.assert_array_equal(classifier.fit(texts, labels).predict_proba(texts), first)


def test_the_head_learns_at_the_rate_that_it_is_given(
    tiny_distilbert: Path, texts: list[str], labels: list[str]
) -> None:
    moved = {}
    for rate in (0.0, 1e-9):
        classifier = build_classifier(tiny_distilbert, head_learning_rate=rate)
        head = classifier.fit(texts, labels).model_.get_base_model().classifier
        trained, untrained = head.modules_to_save["default"], head.original_module
        moved[rate] = (trained.weight - untrained.weight).abs().max().item()
    assert moved[0.0] > 1e-2
    assert moved[1e-9] < 1e-6


def test_validation_texts_choose_the_weights(
    tiny_distilbert: Path, texts: list[str], labels: list[str]
) -> None:
    # At this rate the loss jumps about, so that the last weights are not the best.
    classifier = build_classifier(
        tiny_distilbert, learning_rate=0.2, eval_steps=1, early_stopping_patience=0,
        metric_for_best_model="log_loss",
    )  # fmt: skip
    train, held_out = (texts[:60], labels[:60]), (texts[60:], labels[60:])
    losses = []
    for validation in (held_out, None):
        fitted = clone(classifier).fit(*train, validation)
        losses.append(log_loss(held_out[1], fitted.predict_proba(held_out[0])))
    assert losses[0] < losses[1]
    with pytest.raises(DataError, match=r"'neutral' is not one of \['negative', 'positive'\]"):
        classifier.fit(texts, labels, validation=(["so so"], ["neutral"]))


def test_what_is_saved_comes_back(
    fitted: SentimentClassifier, texts: list[str], tmp_path: Path
) -> None:
    fitted.save(tmp_path / "adapter")
    loaded = SentimentClassifier.load(tmp_path / "adapter", bf16=False)
    np.testing.assert_allclose(loaded.predict_proba(texts), fitted.predict_proba(texts), atol=1e-6)
    assert loaded.predict(texts).tolist() == fitted.predict(texts).tolist()
    for name in ("model_name_or_path", "max_length", "truncation", "seed"):
        assert getattr(loaded, name) == getattr(fitted, name), name
    loaded.save(tmp_path / "again")
    again = SentimentClassifier.load(tmp_path / "again", bf16=False)
    np.testing.assert_array_equal(again.predict_proba(texts), loaded.predict_proba(texts))


def test_what_it_was_trained_and_validated_on_is_known_again(
    tiny_distilbert: Path, texts: list[str], labels: list[str], tmp_path: Path
) -> None:
    fitted = build_classifier(tiny_distilbert)
    fitted.fit(texts[:30], labels[:30], (texts[30:40], labels[30:40])).save(tmp_path / "first")
    SentimentClassifier.load(tmp_path / "first").save(tmp_path / "second")
    expected = [place for place, text in enumerate(texts) if text in set(texts[:40])]
    assert len(expected) < len(texts)
    for name in ("first", "second"):
        seen = load_seen(tmp_path / name)
        assert seen is not None
        assert find_seen_texts(texts, seen).tolist() == expected
    fitted.build_base(["negative", "positive"])
    assert fitted.seen_ is None


@pytest.mark.parametrize(
    "settings",
    [{}, {"init_lora_weights": "pissa"}, {"init_lora_weights": "olora"}, {"bias": "all"}],
    ids=str,
)
def test_the_base_says_the_same_before_training_after_it_and_after_loading(
    tiny_distilbert: Path,
    texts: list[str],
    labels: list[str],
    tmp_path: Path,
    settings: dict[str, str],
) -> None:
    classifier = build_classifier(tiny_distilbert, seed=5, **settings)
    classifier.build_base(["negative", "positive"])
    before = classifier.predict_proba(texts)
    classifier.fit(texts, labels)
    after = classifier.predict_reviews_without_adapter(texts).probabilities
    classifier.save(tmp_path / "adapter")
    loaded = SentimentClassifier.load(tmp_path / "adapter", bf16=False)
    again = loaded.predict_reviews_without_adapter(texts).probabilities
    np.testing.assert_allclose(after, before, atol=1e-6)
    np.testing.assert_allclose(again, before, atol=1e-6)
    assert np.abs(classifier.predict_proba(texts) - before).max() > 0.01


def test_int_labels_come_back_as_ints(
    tiny_distilbert: Path, texts: list[str], labels: list[str], tmp_path: Path
) -> None:
    # Sorted as numbers: as texts, 10 would come before 2.
    stars = np.array([2 if label == "negative" else 10 for label in labels])
    classifier = build_classifier(tiny_distilbert, num_train_epochs=4).fit(texts, stars)
    classifier.save(tmp_path / "adapter")
    loaded = SentimentClassifier.load(tmp_path / "adapter", bf16=False)
    for each in (classifier, loaded):
        assert each.classes_.tolist() == [2, 10]
        assert each.predict(texts).dtype.kind == "i"
        assert each.score(texts, stars) > 0.9
    assert loaded.model_.config.id2label == {0: "2", 1: "10"}


def test_the_settings_of_the_run_are_saved_with_it(
    fitted: SentimentClassifier, tmp_path: Path
) -> None:
    settings = Settings(adapter=AdapterSettings(r=4))
    fitted.save(tmp_path / "adapter", settings)
    metadata = load_metadata(tmp_path / "adapter")
    assert metadata.trained_with is not None
    assert Settings().updated(metadata.trained_with, "adapter") == settings
    assert metadata.versions.keys() >= {"torch", "peft", "transformers"}


@pytest.mark.parametrize(
    ("texts", "labels", "match"),
    [
        ("good", ["a"], "single str"),
        (["good", 3], ["a", "b"], "Text 1 is 3, a int"),
        (["good", None], ["a", "b"], "NoneType"),
        (["good", "caf\udce9"], ["a", "b"], "Text 1 is not UTF-8"),
        (np.array([["good"], ["bad"]]), ["a", "b"], "2 dimensions"),
        (["good", "bad"], ["a"], "2 texts but 1 labels"),
        (["good", "bad"], ["a", "a"], "one class only"),
        ([], [], "one class only"),
        (["good", "bad"], [0.5, 1.0], "str or int"),
        (["good", "bad"], [True, False], "str or int"),
        (["good", "bad"], np.array(["a", None], dtype=object), "str or int"),
        (["good", "bad"], np.array(["a", 1], dtype=object), "str or int"),
        (["good", "bad"], [["a", "b"], ["b", "a"]], "2 dimensions"),
    ],
)
def test_texts_and_labels_that_are_none_are_refused(
    tiny_distilbert: Path,
    texts: Any,  # noqa: ANN401
    labels: Any,  # noqa: ANN401
    match: str,
) -> None:
    with pytest.raises(DataError, match=match):
        build_classifier(tiny_distilbert).fit(texts, labels)


def test_a_single_text_is_not_scored_letter_by_letter(fitted: SentimentClassifier) -> None:
    with pytest.raises(DataError, match=r"single str.*\[text\]"):
        fitted.predict("a good film")


def test_texts_that_come_one_by_one_are_scored_as_a_list_of_them_is(
    fitted: SentimentClassifier,
) -> None:
    texts = ["a good film", "a dull one"]
    found = fitted.predict_proba(text for text in texts)  # type: ignore[arg-type]
    np.testing.assert_array_equal(found, fitted.predict_proba(texts))


def test_a_misspelt_setting_is_refused_with_the_nearest_one(tiny_distilbert: Path) -> None:
    with pytest.raises(SettingsError, match="Did you mean max_length"):
        build_classifier(tiny_distilbert).set_params(max_lenght=32)


def test_what_the_training_has_fixed_can_not_be_loaded_otherwise(
    fitted: SentimentClassifier, tmp_path: Path
) -> None:
    fitted.save(tmp_path / "adapter")
    same = SentimentClassifier.load(tmp_path / "adapter", max_length=fitted.max_length)
    assert same.max_length == fitted.max_length
    with pytest.raises(SettingsError, match=r"max_length is .* and can't be 9"):
        SentimentClassifier.load(tmp_path / "adapter", max_length=9)


def test_a_base_alone_can_not_be_saved(tiny_distilbert: Path, tmp_path: Path) -> None:
    classifier = build_classifier(tiny_distilbert)
    classifier.build_base(["negative", "positive"])
    with pytest.raises(NotFittedError, match="call fit first"):
        classifier.save(tmp_path / "adapter")
    assert not (tmp_path / "adapter").exists()


def test_running_out_of_memory_while_scoring_is_told(
    fitted: SentimentClassifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_out(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(scoring, "predict_reviews", run_out)
    with pytest.raises(DeviceMemoryError, match="--per-device-eval-batch-size 16"):
        fitted.predict(["good"])


def test_a_folder_that_is_no_adapter_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PeftSentimentError, match="no such adapter folder"):
        SentimentClassifier.load(tmp_path / "nothing")


GOOD = ("A wonderful film", "I loved every minute", "Superb acting", "Warm, funny and clever")
BAD = ("A terrible film", "I hated every minute", "Awful acting", "Cold, dull and stupid")
ENDINGS = (".", " from start to end.", ", and my whole family agrees with me!", " (seen twice)")


@pytest.mark.parametrize("name", [PACKAGED_DISTILBERT, PACKAGED_BERT])
def test_what_is_saved_on_real_weights_loads_in_plain_peft(name: str, tmp_path: Path) -> None:
    texts = [
        start + end for end in ENDINGS for pair in zip(GOOD, BAD, strict=True) for start in pair
    ]
    labels = ["positive", "negative"] * (len(texts) // 2)
    classifier = SentimentClassifier(
        model_name_or_path=name, num_train_epochs=3, per_device_train_batch_size=4, bf16=False
    ).fit(texts, labels)
    classifier.save(tmp_path / "adapter")
    loaded = SentimentClassifier.load(tmp_path / "adapter", bf16=False)

    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "adapter")
    base = AutoModelForSequenceClassification.from_pretrained(
        classifier.encoder_.folder, num_labels=2
    )
    with pytest.warns(FutureWarning, match="is_gradient_checkpointing"):
        # peft 0.21 asks transformers 5.23 for it under its old name.
        plain = PeftModel.from_pretrained(base, tmp_path / "adapter").eval()
    batch = tokenizer(texts, padding=True, return_tensors="pt")
    batch.pop("token_type_ids", None)
    with torch.no_grad():
        theirs = plain(**batch).logits
        ours = loaded.model_(**batch).logits
        trained = classifier.model_(**batch).logits
    torch.testing.assert_close(ours, trained, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(theirs, ours, atol=1e-4, rtol=1e-4)
    assert (trained[:, 1] > trained[:, 0]).tolist() == [label == "positive" for label in labels]
    np.testing.assert_allclose(loaded.predict_proba(texts), theirs.softmax(-1).numpy(), atol=1e-4)

    labeller = load_labeller(tmp_path / "adapter", {"training": {"bf16": False}})
    assert isinstance(labeller, QuickClassifier)  # what real weights come with is in order
    soon = labeller.predict_reviews(texts).probabilities
    np.testing.assert_array_equal(soon, loaded.predict_reviews(texts).probabilities)
