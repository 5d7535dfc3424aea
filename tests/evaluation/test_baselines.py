"""Baselines are the models they claim to be, whatever the labels and however few the reviews."""

import itertools
import re

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from peft_sentiment.evaluation.baselines import predict_majority, predict_tfidf
from peft_sentiment.evaluation.metrics import compute_scores
from peft_sentiment.evaluation.tfidf import TfidfModel, fit_tfidf
from peft_sentiment.records import Predictions
from peft_sentiment.records.reviews import Reviews

LABELS = ("negative", "positive")


@pytest.fixture(scope="module")
def model(tiny_reviews: Reviews) -> TfidfModel:
    return fit_tfidf(tiny_reviews.take(range(100)), LABELS)


def build_reviews(words: dict[str, str], count: int) -> Reviews:
    """Return reviews that hold their label's word, the labels in turn."""
    pairs = list(itertools.islice(itertools.cycle(words.items()), count))
    texts = [f"{word} film number {n}" for n, (_, word) in enumerate(pairs)]
    return Reviews(texts, [label for label, _ in pairs])


def test_the_majority_says_the_most_frequent_training_label_with_its_share() -> None:
    train = Reviews(list("abcde"), ["positive", "negative", "positive", "positive", "negative"])
    predictions = predict_majority(train, LABELS, ["whatever", "bad"])
    assert predictions.labels == ["positive", "positive"]
    np.testing.assert_allclose(predictions.probabilities, [[0.4, 0.6]] * 2, rtol=1e-6)
    assert not predictions.is_cut.any()
    assert predictions.seconds > 0


def test_tfidf_says_what_scikit_learns_own_pipeline_says(
    model: TfidfModel, tiny_reviews: Reviews
) -> None:
    train, test = tiny_reviews.take(range(100)), tiny_reviews.take(range(100, 200))
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2)
    regression = LogisticRegression(C=10.0, max_iter=1000)
    regression.fit(vectorizer.fit_transform(train.texts), train.labels)
    expected = regression.predict_proba(vectorizer.transform(test.texts))
    np.testing.assert_allclose(model.predict_proba(test.texts), expected, atol=1e-6)


def test_tfidf_learns_what_words_tell(tiny_reviews: Reviews) -> None:
    train, test = tiny_reviews.take(range(100)), tiny_reviews.take(range(100, 200))
    predictions = predict_tfidf(train, LABELS, test.texts)
    assert compute_scores(test.labels, predictions, 0.95).accuracy > 0.9
    words = [re.findall(r"[A-Za-z0-9]{2,}", text) for text in test.texts]
    assert predictions.tokens.tolist() == list(map(len, words))
    assert not predictions.is_cut.any()


def test_tfidf_knows_several_labels_in_the_order_given() -> None:
    words = {"bad": "awful", "fair": "passable", "good": "superb"}
    train = build_reviews(words, 60)
    predictions = predict_tfidf(train, ("bad", "fair", "good"), ["awful", "superb", "passable"])
    assert predictions.labels == ["bad", "good", "fair"]
    np.testing.assert_allclose(predictions.probabilities.sum(axis=1), 1, atol=1e-6)


@pytest.mark.parametrize(
    "texts", [["awful", "superb"], ["👎", "👍"], ["a b", "c d"], ["bad thing", "good thing"]]
)
def test_tfidf_copes_with_few_reviews_and_with_those_without_a_word(texts: list[str]) -> None:
    predictions = predict_tfidf(Reviews(texts, LABELS), LABELS, [*texts, "?"])
    assert predictions.labels[:2] == list(LABELS)
    assert np.isfinite(predictions.probabilities).all()


def test_balanced_weights_let_a_rare_label_be_said_more_often() -> None:
    common = Reviews([f"film {n} was seen" for n in range(95)], ["positive"] * 95)
    rare = Reviews([f"film {n} was hated" for n in range(5)], ["negative"] * 5)
    train = Reviews([*common.texts, *rare.texts], [*common.labels, *rare.labels])

    def score(class_weight: str | None) -> Predictions:
        return predict_tfidf(train, LABELS, ["film was hated"], class_weight)

    assert score("balanced").probabilities[0, 0] > score(None).probabilities[0, 0]
