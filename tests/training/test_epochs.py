"""How many passes a training makes where nobody has said how many."""

import pytest

from peft_sentiment.config import TrainingSettings

CHOSEN = TrainingSettings(num_train_epochs=0.0, reviews_to_pass=6000)


@pytest.mark.parametrize(
    ("reviews", "passes"), [(1, 30), (100, 30), (300, 20), (1000, 6), (3000, 2), (25000, 1)]
)
def test_few_reviews_are_passed_over_often_and_many_once(reviews: int, passes: int) -> None:
    assert CHOSEN.choose_epochs(reviews) == passes


def test_passes_that_are_set_are_made_whatever_the_number_of_reviews() -> None:
    assert TrainingSettings(num_train_epochs=1.5).choose_epochs(10) == 1.5


@pytest.mark.parametrize(("reviews", "passes"), [(100, 30), (3000, 2), (25000, 2)])
def test_a_pass_over_stretches_is_made_twice_at_least(reviews: int, passes: int) -> None:
    settings = TrainingSettings(num_train_epochs=0.0, reviews_to_pass=6000, crop_length=128)
    assert settings.choose_epochs(reviews) == passes
