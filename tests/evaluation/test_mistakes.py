"""The error analysis counts every review once and names the right ones."""

import dataclasses

import numpy as np
import pytest
from drawn_predictions import build_predictions, draw_overconfident

from peft_sentiment.evaluation.mistakes import (
    EXAMPLES,
    add_neighbours,
    analyse_errors,
    find_label_doubts,
)
from peft_sentiment.records import Predictions
from peft_sentiment.records.mistakes import ErrorAnalysis
from peft_sentiment.records.reviews import Reviews

N = 200


def build_case(seed: int = 0) -> tuple[Reviews, Predictions, Predictions]:
    labels, peft = draw_overconfident(N, 1, seed)
    _, base = draw_overconfident(N, 1, seed + 1)
    rng = np.random.default_rng(seed)
    texts = [" ".join(["word"] * int(n)) + f" {i}" for i, n in enumerate(rng.integers(1, 50, N))]
    peft = dataclasses.replace(peft, is_cut=rng.random(N) < 0.3)
    return Reviews(texts, labels), peft, base


@pytest.fixture(scope="module")
def analysis() -> ErrorAnalysis:
    reviews, peft, base = build_case()
    return analyse_errors(reviews, peft, base, None, 0.95)


@pytest.mark.parametrize("kind", ["length", "cut", "label", "confidence"])
def test_the_groups_of_a_kind_hold_every_review_once(analysis: ErrorAnalysis, kind: str) -> None:
    groups = analysis.groups[kind]
    assert sum(group.reviews for group in groups) == N
    right = sum(round(group.accuracy * group.reviews) for group in groups)
    assert right == N - analysis.wrong
    assert all(low <= g.accuracy <= high for g in groups for low, high in [g.accuracy_interval])


def test_the_most_confident_mistakes_come_first(analysis: ErrorAnalysis) -> None:
    reviews, peft, _ = build_case()
    confidence = peft.probabilities.max(axis=1)
    wrong = np.not_equal(peft.labels, reviews.labels)
    assert len(analysis.confidently_wrong) == EXAMPLES
    assert analysis.confidently_wrong[0].confidence == confidence[wrong].max()
    for mistake in analysis.confidently_wrong:
        assert mistake.label != mistake.predicted
        assert mistake.text == reviews.texts[mistake.index]
        assert mistake.is_cut == peft.is_cut[mistake.index]
    assert analysis.least_sure[0].confidence == confidence.min()


def test_fixed_and_broken_are_right_on_one_side_only(analysis: ErrorAnalysis) -> None:
    reviews, peft, base = build_case()
    for mistake in analysis.fixed:
        assert peft.labels[mistake.index] == reviews.labels[mistake.index]
        assert base.labels[mistake.index] != reviews.labels[mistake.index]
    for mistake in analysis.broken:
        assert peft.labels[mistake.index] != reviews.labels[mistake.index]
        assert base.labels[mistake.index] == reviews.labels[mistake.index]
    assert analysis.fixed
    assert analysis.broken


def test_without_a_base_nothing_is_fixed_or_broken() -> None:
    reviews, peft, _ = build_case()
    analysis = analyse_errors(reviews, peft, None, None, 0.95)
    assert (analysis.fixed, analysis.broken) == ((), ())


def test_the_nearest_training_review_shares_the_rare_words() -> None:
    reviews = Reviews(["a splendid zeppelin film"], ["negative"])
    predictions = build_predictions([[0.1, 0.9]])
    train = Reviews(
        ["a film about the sea", "the zeppelin was splendid", "a dull film"],
        ["negative", "positive", "negative"],
    )
    (mistake,) = analyse_errors(reviews, predictions, None, train, 0.95).confidently_wrong
    first, *others = mistake.neighbours
    assert (first.text, first.label) == ("the zeppelin was splendid", "positive")
    assert 1 >= first.similarity > others[0].similarity > 0
    assert add_neighbours((), train) == ()


def test_reviews_without_a_word_have_neighbours_too() -> None:
    reviews, predictions = Reviews(["👍 👎"], ["negative"]), build_predictions([[0.1, 0.9]])
    train = Reviews(["👎", "👍 👎 👎"], ["negative", "positive"])
    (mistake,) = analyse_errors(reviews, predictions, None, train, 0.95).confidently_wrong
    assert mistake.neighbours[0].text == "👍 👎 👎"


def test_labels_that_were_turned_are_doubted() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, 400)
    chance = np.where(truth == 1, 0.97, 0.03)
    turned = np.arange(400) % 20 == 0
    given = np.where(turned, 1 - truth, truth)
    reviews = Reviews([str(i) for i in range(400)], [("negative", "positive")[g] for g in given])
    predictions = build_predictions(np.column_stack([1 - chance, chance]))
    doubts = find_label_doubts(reviews, predictions, 0.95)
    assert doubts is not None
    assert set(doubts.indices) == set(np.flatnonzero(turned).tolist())
    assert doubts.accuracy == 1
    assert doubts.examples[0].index == doubts.indices[0]
