"""Words' scores add up to what they explain, on every architecture, and change nothing."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_models import MODEL_TYPES, build_tiny_encoder
from tiny_training import CPU, FLOAT32, LABELS, MAX_LENGTH, build_tiny_adapter, load_tiny_encoder

from peft_sentiment.config import ModelSettings
from peft_sentiment.errors import SettingsError
from peft_sentiment.evaluation.explanation import explain_reviews
from peft_sentiment.evaluation.faithfulness import (
    compute_log_odds,
    measure_faithfulness,
    remove_words,
)
from peft_sentiment.evaluation.prediction import predict_reviews
from peft_sentiment.inference.classifier import SentimentClassifier
from peft_sentiment.model.encoder import load_encoder
from peft_sentiment.records import Predictions
from peft_sentiment.records.explanation import Explanation, WordScore
from peft_sentiment.records.reviews import Reviews

TEXTS = (
    "The film was amazing, and the story wonderful!",
    "It isn't good:   an awful plot,\nbad acting and a dull ending. " * 6,
    "?",
)


def explain(
    folder: Path, texts: tuple[str, ...] = TEXTS, steps: int = 32, window_length: int = 0
) -> list[Explanation]:
    model, tokenizer = build_tiny_adapter(folder), load_tiny_encoder(folder).tokenizer
    return explain_reviews(
        model,
        tokenizer,
        texts,
        predict(model, tokenizer, texts, window_length),
        max_length=MAX_LENGTH,
        truncation="head+tail",
        window_length=window_length,
        device=CPU,
        steps=steps,
    )


def predict(
    model: torch.nn.Module,
    tokenizer: object,
    texts: tuple[str, ...],
    window_length: int = 0,
    labels: tuple[str, ...] = LABELS,
) -> Predictions:
    return predict_reviews(
        model,
        tokenizer,
        texts,
        label_names=labels,
        max_length=MAX_LENGTH,
        truncation="head+tail",
        window_length=window_length,
        batch_size=8,
        precision=FLOAT32,
    )


@pytest.mark.parametrize("window_length", [0, 20])
@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_scores_add_up_to_the_log_odds_they_explain(
    model_type: str, window_length: int, tmp_path: Path
) -> None:
    encoder = build_tiny_encoder(model_type, tmp_path)
    for explanation in explain(encoder, steps=64, window_length=window_length):
        total = sum(word.score or 0 for word in explanation.words)
        difference = explanation.log_odds - explanation.baseline_log_odds
        assert total == pytest.approx(difference, abs=0.02 * abs(difference) + 1e-4)
        assert explanation.gap == pytest.approx(abs(total - difference) / abs(difference), abs=1e-4)


def test_scores_of_many_labels_add_up_over_windows(tiny_distilbert: Path) -> None:
    labels = tuple("abcde")
    encoder = load_encoder(ModelSettings(model_name_or_path=str(tiny_distilbert)), labels, 0)
    said = predict(encoder.model, encoder.tokenizer, TEXTS, 20, labels)
    explained = explain_reviews(
        encoder.model,
        encoder.tokenizer,
        TEXTS,
        said,
        max_length=MAX_LENGTH,
        truncation="head+tail",
        window_length=20,
        device=CPU,
        steps=64,
    )
    np.testing.assert_allclose(
        [explanation.log_odds for explanation in explained],
        compute_log_odds(said, said.labels),
        atol=1e-4,
    )
    for explanation in explained:
        total = sum(word.score or 0 for word in explanation.words)
        difference = explanation.log_odds - explanation.baseline_log_odds
        assert total == pytest.approx(difference, abs=0.02 * abs(difference) + 1e-4)


@pytest.mark.parametrize("window_length", [0, 20])
def test_log_odds_and_confidence_are_those_of_the_prediction(
    window_length: int, tiny_distilbert: Path
) -> None:
    model, tokenizer = build_tiny_adapter(tiny_distilbert), load_tiny_encoder(tiny_distilbert)
    predictions = predict(model, tokenizer.tokenizer, TEXTS, window_length)
    explained = explain(tiny_distilbert, window_length=window_length)
    assert [e.label for e in explained] == predictions.labels
    confidences = predictions.probabilities.max(axis=1)
    np.testing.assert_allclose([e.confidence for e in explained], confidences, atol=1e-5)
    log_odds = compute_log_odds(predictions, predictions.labels)
    np.testing.assert_allclose([e.log_odds for e in explained], log_odds, atol=1e-4)


def test_words_that_were_cut_out_have_no_score(tiny_distilbert: Path) -> None:
    short, long, _ = explain(tiny_distilbert)
    assert all(word.score is not None for word in short.words)
    unread = [word.score is None for word in long.words]
    assert any(unread)
    assert not unread[0]
    assert not unread[-1]
    assert None not in [word.score for word in long.strongest]


def test_explaining_changes_no_weight_and_no_mode(tiny_distilbert: Path) -> None:
    model = build_tiny_adapter(tiny_distilbert).train()
    tokenizer = load_tiny_encoder(tiny_distilbert).tokenizer
    before = {name: (w.clone(), w.requires_grad) for name, w in model.named_parameters()}
    predictions = predict(model, tokenizer, TEXTS[:1])
    explain_reviews(
        model, tokenizer, TEXTS[:1], predictions,
        max_length=MAX_LENGTH, truncation="head", device=CPU, steps=4,
    )  # fmt: skip
    assert model.training
    for name, weight in model.named_parameters():
        assert torch.equal(weight, before[name][0])
        assert weight.requires_grad == before[name][1]
        assert weight.grad is None


def test_a_missing_library_is_named_with_its_extra(
    tiny_distilbert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    with pytest.raises(SettingsError, match=r"peft-sentiment\[explain\]"):
        explain(tiny_distilbert)


def test_words_taken_out_leave_the_rest_as_it_was() -> None:
    text = "a good, good film"
    words = [WordScore(8, 12, 1.0), WordScore(2, 6, 0.5)]
    assert remove_words(text, words) == "a ,  film"
    assert remove_words(text, []) == text


@pytest.fixture(scope="module")
def fitted(tiny_distilbert: Path, tiny_reviews: Reviews) -> SentimentClassifier:
    classifier = SentimentClassifier(
        model_name_or_path=str(tiny_distilbert), max_length=48, r=4, num_train_epochs=4,
        learning_rate=2e-2, per_device_train_batch_size=8, weight_averaging=0.0, bf16=False,
        target_modules=None, lora_alpha=32,
    )  # fmt: skip
    return classifier.fit(tiny_reviews.texts[:100], tiny_reviews.labels[:100])


def test_the_words_that_make_the_label_are_found(fitted: SentimentClassifier) -> None:
    text = "The story was brilliant and good."
    (explanation,) = fitted.explain([text])
    assert explanation.label == "positive"
    first_two = [text[word.start : word.end] for word in explanation.strongest[:2]]
    assert set(first_two) == {"brilliant", "good"}


def test_without_the_strongest_words_more_labels_change_than_without_random_ones(
    fitted: SentimentClassifier, tiny_reviews: Reviews
) -> None:
    texts = [text for text in tiny_reviews.texts[100:] if len(text) < 200][:20]
    explanations = fitted.explain(texts, steps=8)
    rng = np.random.default_rng(0)
    record = measure_faithfulness(explanations, fitted.predict_reviews, rng, steps=8, removed=3)
    assert (record.reviews, record.removed, record.steps) == (len(texts), 3, 8)
    assert record.flipped_by_strongest > record.flipped_by_random
    assert record.drop_by_strongest > 2 * record.drop_by_random
    assert 0 <= record.mean_gap <= record.largest_gap
