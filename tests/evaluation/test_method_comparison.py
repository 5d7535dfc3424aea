"""Intervals of methods hold what they promise; the front is what nothing smaller beats."""

import dataclasses

import numpy as np
import pytest
from numpy.typing import NDArray

from peft_sentiment.evaluation.method_comparison import (
    CellRecord,
    ReloadRecord,
    compare_methods,
    compute_difference_interval,
    compute_mean_interval,
    find_front,
)
from peft_sentiment.evaluation.metrics import compute_wilson_interval
from peft_sentiment.records import (
    DataRecord,
    Environment,
    ParameterCounts,
    Scores,
    TrainingRecord,
)

Correct = NDArray[np.bool_]


def draw(rng: np.random.Generator, seeds: int, reviews: int, of_seed: float = 0.0) -> Correct:
    """Draw which reviews are right: some are hard for every seed, and seeds may be unlike."""
    ease = rng.beta(8, 2, reviews)
    shift = rng.normal(0, of_seed, (seeds, 1))
    return rng.random((seeds, reviews)) < np.clip(ease + shift, 0, 1)


def test_the_interval_of_one_seed_is_wilson_s() -> None:
    correct = draw(np.random.default_rng(0), 1, 600)
    expected = compute_wilson_interval(int(correct.sum()), 600, 0.95)
    assert compute_mean_interval(correct, 0.95) == pytest.approx(expected)


@pytest.mark.parametrize("value", [True, False])
def test_the_interval_of_a_perfect_score_stays_within_0_and_1(value: bool) -> None:
    low, high = compute_mean_interval(np.full((3, 50), value), 0.95)
    assert 0 <= low < high <= 1
    assert (low, high) == pytest.approx(compute_wilson_interval(50 * value, 50, 0.95))


def test_the_same_model_three_times_is_known_no_better_than_once() -> None:
    correct = draw(np.random.default_rng(1), 1, 300)
    assert compute_mean_interval(correct.repeat(3, axis=0), 0.9) == pytest.approx(
        compute_mean_interval(correct, 0.9)
    )


@pytest.mark.parametrize(("seeds", "of_seed"), [(1, 0.0), (3, 0.0), (8, 0.05)])
def test_a_95_percent_interval_holds_the_true_accuracy_19_times_in_20(
    seeds: int, of_seed: float
) -> None:
    rng = np.random.default_rng(2)
    truth = float(draw(rng, 2000, 1000, of_seed).mean())
    intervals = [compute_mean_interval(draw(rng, seeds, 200, of_seed), 0.95) for _ in range(600)]
    share = np.mean([low <= truth <= high for low, high in intervals])
    assert 0.92 <= share <= 0.98


def test_seeds_that_differ_make_the_interval_wider() -> None:
    rng = np.random.default_rng(3)
    alike, unlike = draw(rng, 3, 500), draw(rng, 3, 500, of_seed=0.1)
    widths = [high - low for low, high in (compute_mean_interval(c, 0.95) for c in (alike, unlike))]
    assert widths[1] > 1.5 * widths[0]


def test_a_difference_on_the_same_reviews_is_known_better_than_its_parts() -> None:
    rng = np.random.default_rng(4)
    first = draw(rng, 3, 500)
    second = first.copy()
    second[:, :10] = False
    low, high = compute_difference_interval(first, second, 0.95)
    assert low < float(first.mean() - second.mean()) < high
    assert high - low < 0.04
    assert compute_difference_interval(second, first, 0.95) == pytest.approx((-high, -low))


def test_the_front_has_what_no_smaller_method_beats() -> None:
    methods = {"head": (10, 0.7), "ia3": (20, 0.8), "lora": (40, 0.9), "dora": (50, 0.85),
               "big": (90, 0.9), "full": (1000, 0.91), "small": (10, 0.6)}  # fmt: skip
    assert find_front(methods) == ["head", "ia3", "lora", "full"]


def build_cell(name: str, seed: int, correct: Correct, trainable: int) -> CellRecord:
    scores = Scores(
        **{
            item.name: {"accuracy": float(correct.mean()), "f1": 0.5, "confusion": ()}.get(
                item.name
            )
            for item in dataclasses.fields(Scores)
        }
    )  # type: ignore[arg-type]
    return CellRecord(
        schema_version=1,
        status="finished",
        name=name,
        seed=seed,
        split_seed=1,
        key="key",
        settings={},
        environment=Environment({}, "cpu", "float32", "", "", 1, None),
        data=DataRecord("x", None, 1, 1, 1, 0, (), {}, 64, "head", 0),
        parameters=ParameterCounts(0, 0, trainable, 1000, 1.0),
        training=TrainingRecord(1.0, 1, 1.0, 1.0, 1, 0.1, 1, False, ()),
        scores=scores,
        reload=ReloadRecord(scores, flipped=seed, largest_difference=0.0),
        adapter_bytes=100,
        seconds=float(seed),
        peak_rss_bytes=1000 * seed,
        peak_device_bytes=None,
    )


def test_a_method_is_the_mean_of_its_seeds_and_the_best_comes_first() -> None:
    rng = np.random.default_rng(5)
    correct = {("weak", seed): rng.random(200) < 0.6 for seed in (1, 2, 3)}
    correct |= {("strong", seed): rng.random(200) < 0.9 for seed in (1, 2, 3)}
    weights = {"weak": 100, "strong": 50}
    cells = [build_cell(name, seed, c, weights[name]) for (name, seed), c in correct.items()]
    strong, weak = compare_methods(cells, correct, 0.95)
    assert (strong.name, weak.name) == ("strong", "weak")
    accuracies = [float(correct["weak", seed].mean()) for seed in (1, 2, 3)]
    assert weak.accuracy == pytest.approx(sum(accuracies) / 3)
    assert weak.accuracy_range == (min(accuracies), max(accuracies))
    assert weak.behind == pytest.approx(strong.accuracy - weak.accuracy)
    assert 0 < weak.behind_interval[0] < weak.behind < weak.behind_interval[1]
    assert strong.behind_interval == (0.0, 0.0)
    assert (weak.seconds, weak.peak_rss_bytes, weak.flipped) == (2.0, 3000, 6)
    assert strong.is_on_front
    assert not weak.is_on_front


def test_a_method_that_lacks_a_seed_is_compared_all_the_same() -> None:
    rng = np.random.default_rng(6)
    correct = {("a", 1): rng.random(50) < 0.5, ("a", 2): rng.random(50) < 0.5,
               ("b", 1): rng.random(50) < 0.5}  # fmt: skip
    cells = [build_cell(name, seed, c, 10) for (name, seed), c in correct.items()]
    seeds = {method.name: method.seeds for method in compare_methods(cells, correct, 0.95)}
    assert seeds == {"a": (1, 2), "b": (1,)}
