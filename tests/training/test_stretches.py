"""Training reads stretches of long reviews; nothing else about a training changes."""

from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_training import (
    build_tiny_adapter,
    build_tiny_training,
    copy_weights,
    draw_tokens,
    make_dropout_zero,
    tokenize_tiny,
)

from peft_sentiment.config import AdapterSettings, TrainingSettings
from peft_sentiment.data.batching import TokenizedReviews
from peft_sentiment.errors import SettingsError
from peft_sentiment.records.reviews import Reviews
from peft_sentiment.training.gradients import plan_cache_bytes
from peft_sentiment.training.loop import train_steps
from peft_sentiment.training.stretches import Stretches

LENGTHS = [5, 20, 21, 48]


def build_reviews(special_tokens: tuple[int, int]) -> TokenizedReviews:
    drawn = draw_tokens(np.random.default_rng(0), LENGTHS)
    return TokenizedReviews(drawn.token_ids, drawn.is_cut, special_tokens)


@given(step=st.integers(0, 10_000), seed=st.integers(0, 2**32 - 1), before=st.integers(0, 2))
def test_a_stretch_is_a_part_of_the_review_between_its_special_tokens(
    step: int, seed: int, before: int
) -> None:
    reviews = build_reviews((before, 1))
    stretches = Stretches(reviews, 20, seed)
    for whole, read in zip(reviews.token_ids, stretches.read(range(4), step), strict=True):
        assert len(read) == min(len(whole), 20)
        assert (read[:before] == whole[:before]).all()
        assert read[-1] == whole[-1]
        text, inner = whole[before:-1].tobytes(), read[before:-1].tobytes()
        assert inner in text


def test_stretches_are_others_at_other_steps_and_reach_the_whole_review() -> None:
    reviews = build_reviews((1, 1))
    stretches, seen = Stretches(reviews, 20, 0), set()
    for step in range(300):
        (read,) = stretches.read([3], step)
        seen.add(
            next(i for i in range(48) if (reviews.token_ids[3][i : i + 18] == read[1:-1]).all())
        )
    assert seen == set(range(1, 48 - 18))  # all places between the special tokens


def test_a_stretch_depends_on_nothing_but_seed_step_and_review() -> None:
    stretches = Stretches(build_reviews((1, 1)), 20, 0)
    alone = stretches.read([2], 7)[0]
    together = stretches.read([3, 2, 0], 7)[1]
    assert (alone == together).all()


def test_as_many_stretches_as_are_asked_for_are_the_end_of_their_review() -> None:
    reviews = build_reviews((1, 1))
    whole = reviews.token_ids[3]
    for share, least, most in ((1.0, 300, 300), (0.5, 120, 190), (0.0, 1, 30)):
        stretches = Stretches(reviews, 20, 0, share)
        read = [stretches.read([3], step)[0] for step in range(300)]
        assert least <= sum((stretch[1:] == whole[-19:]).all() for stretch in read) <= most


def test_length_zero_reads_whole_reviews() -> None:
    reviews = build_reviews((1, 1))
    stretches = Stretches(reviews, 0, 0)
    assert stretches.are_whole
    assert all(a is b for a, b in zip(stretches.read(range(4), 1), reviews.token_ids, strict=True))


def test_stretches_as_long_as_the_longest_review_train_as_whole_reviews_do(
    tiny_distilbert: Path, tiny_reviews: Reviews
) -> None:
    train = tokenize_tiny(tiny_distilbert, tiny_reviews)
    ends = []
    for length in (0, 48):
        model = build_tiny_adapter(tiny_distilbert)
        list(train_steps(build_tiny_training(model, train, crop_length=length)))
        ends.append(copy_weights(model))
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


def test_both_paths_read_the_same_stretches(tiny_distilbert: Path, tiny_reviews: Reviews) -> None:
    train = tokenize_tiny(tiny_distilbert, tiny_reviews)
    assert int(train.reviews.lengths.max()) > 12
    losses = []
    for is_padded in (False, True):
        model = build_tiny_adapter(tiny_distilbert, AdapterSettings(r=4, lora_dropout=0.0))
        make_dropout_zero(model)
        run = build_tiny_training(model, train, crop_length=12, gradient_checkpointing=is_padded)
        steps = list(islice(train_steps(run), 4))
        assert all(step.tokens <= 12 * step.reviews for step in steps)
        losses.append([step.loss for step in steps])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_lower_layers_are_not_kept_where_each_pass_reads_something_else(
    tiny_distilbert: Path, tiny_reviews: Reviews
) -> None:
    train = tokenize_tiny(tiny_distilbert, tiny_reviews)
    model = build_tiny_adapter(tiny_distilbert, AdapterSettings(r=4, layers_to_transform=(1,)))
    sizes = []
    for length in (0, 12, 48):
        run = build_tiny_training(model, train, num_train_epochs=2.0, crop_length=length)
        sizes.append(plan_cache_bytes(model, train, run.settings, run.precision))
    assert sizes[0] == sizes[2] > 0
    assert sizes[1] == 0


@pytest.mark.parametrize("length", [-1, 3])
def test_stretches_that_say_nothing_are_refused(length: int) -> None:
    with pytest.raises(SettingsError, match=r"training\.crop_length .*0, or at least 8"):
        TrainingSettings(crop_length=length)
