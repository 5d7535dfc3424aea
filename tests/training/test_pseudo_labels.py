"""The surest labels of each kind are chosen, and people's labels keep the upper hand."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from peft_sentiment.records.reviews import Reviews
from peft_sentiment.training.pseudo_labels import (
    LABELLED_WEIGHT,
    add_pseudo_labels,
    choose_pseudo_labels,
    measure_shares,
)


def build_probabilities(of_second: list[float]) -> np.ndarray:
    second = np.array(of_second, np.float32)
    return np.stack([1 - second, second], axis=1)


def test_a_classifier_that_leans_to_a_label_still_gives_both() -> None:
    probabilities = build_probabilities([0.9, 0.6, 0.99, 0.7, 0.8, 0.65, 0.95, 0.75])
    places, labels = choose_pseudo_labels(probabilities, np.array([0.5, 0.5]), 0.5)
    assert dict(zip(places.tolist(), labels.tolist(), strict=True)) == {1: 0, 5: 0, 2: 1, 6: 1}


@given(
    arrays(
        np.float32, st.tuples(st.integers(1, 40), st.just(3)), elements=st.floats(0, 1, width=16)
    ),
    st.floats(0, 1),
)
def test_no_review_has_two_labels_and_none_is_chosen_before_a_surer_one(
    scores: np.ndarray, share: float
) -> None:
    shares = np.array([0.5, 0.3, 0.2])
    places, labels = choose_pseudo_labels(scores, shares, share)
    assert len(np.unique(places)) == len(places) == len(labels)
    assert (np.diff(places) > 0).all()
    quotas = np.floor(shares * share * len(scores) + 0.5)
    free = np.setdiff1d(np.arange(len(scores)), places)
    for label, quota in enumerate(quotas):
        mine = places[labels == label]
        assert len(mine) <= quota
        if len(mine) and len(free):
            assert scores[mine, label].min() >= scores[free, label].max()


def test_labelled_reviews_count_more_and_keep_their_own_weights() -> None:
    labelled = Reviews(["a", "b"], ["good", "bad"], weights=[1.0, 0.5])
    joined = add_pseudo_labels(labelled, ["c"], ["good"])
    assert joined.texts == ["a", "b", "c"]
    assert joined.labels == ["good", "bad", "good"]
    assert joined.weights == [LABELLED_WEIGHT, LABELLED_WEIGHT / 2, 1.0]


def test_shares_are_those_of_the_labels() -> None:
    assert measure_shares(["x", "y", "x", "x"], ["x", "y", "z"]).tolist() == [0.75, 0.25, 0.0]
