"""Intervals by formula agree with SciPy's bootstrap, and hold the truth as often as they say."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import softmax
from scipy.stats import bootstrap
from sklearn import metrics

from peft_sentiment.evaluation.intervals import (
    compute_log_loss_interval,
    compute_macro_intervals,
    compute_roc_auc_interval,
    compute_score_intervals,
    compute_wilson_interval,
)

Codes = NDArray[np.int64]
Shares = NDArray[np.float64]


def draw_predictions(n: int, n_labels: int, seed: int) -> tuple[Codes, Shares]:
    """Return true labels, of which the first is the most frequent, and a fair model's answers."""
    rng = np.random.default_rng(seed)
    shares = np.arange(n_labels + 1, 1, -1) / np.arange(n_labels + 1, 1, -1).sum()
    truth = rng.choice(n_labels, n, p=shares)
    scores = rng.normal(size=(n, n_labels)) + 2.0 * np.eye(n_labels)[truth]
    return truth, softmax(2 * scores, axis=1)


def count_confusion(truth: Codes, probabilities: Shares) -> Codes:
    n_labels = probabilities.shape[1]
    cells = truth * n_labels + probabilities.argmax(axis=1)
    return np.bincount(cells, minlength=n_labels**2).reshape(n_labels, n_labels)


def compute_intervals(
    truth: Codes, probabilities: Shares, level: float = 0.95
) -> dict[str, tuple[float, float]]:
    confusion = count_confusion(truth, probabilities)
    return compute_score_intervals(truth, probabilities, confusion, level)


def compute_f1(truth: Codes, probabilities: Shares) -> float:
    codes = range(probabilities.shape[1])
    said = probabilities.argmax(axis=1)
    return float(metrics.f1_score(truth, said, average="macro", labels=codes))


def compute_roc_auc(truth: Codes, probabilities: Shares) -> float:
    said = probabilities[:, 1] if probabilities.shape[1] == 2 else probabilities
    return float(metrics.roc_auc_score(truth, said, multi_class="ovr"))


def score(truth: Codes, probabilities: Shares) -> dict[str, float]:
    """Return the scores by scikit-learn."""
    codes, said = range(probabilities.shape[1]), probabilities.argmax(axis=1)
    return {
        "accuracy": metrics.accuracy_score(truth, said),
        "precision": metrics.precision_score(truth, said, average="macro", labels=codes),
        "recall": metrics.recall_score(truth, said, average="macro", labels=codes),
        "f1": compute_f1(truth, probabilities),
        "roc_auc": compute_roc_auc(truth, probabilities),
        "log_loss": metrics.log_loss(truth, probabilities, labels=codes),
    }


@pytest.mark.parametrize(
    ("name", "statistic", "n_labels"),
    [
        ("f1", compute_f1, 2),
        ("f1", compute_f1, 3),
        ("roc_auc", compute_roc_auc, 2),
        ("roc_auc", compute_roc_auc, 3),
        ("log_loss", metrics.log_loss, 3),
    ],
)
def test_intervals_are_about_those_of_scipys_bootstrap(
    name: str, statistic: Callable[[Codes, Shares], float], n_labels: int
) -> None:
    truth, probabilities = draw_predictions(500, n_labels, seed=1)
    resampled = bootstrap(
        (np.arange(500),),
        lambda places: statistic(truth[places], probabilities[places]),
        n_resamples=200,
        vectorized=False,
        method="percentile",
        rng=np.random.default_rng(2),
    ).confidence_interval
    width = resampled.high - resampled.low
    ours = compute_intervals(truth, probabilities)[name]
    assert ours == pytest.approx(tuple(resampled), abs=0.2 * width)


def count_coverage(n_labels: int, draws: int) -> dict[str, float]:
    """Return the share of draws of 400 reviews whose 95 % interval holds the population's score."""
    truth, probabilities = draw_predictions(20_000, n_labels, seed=3)
    expected = score(truth, probabilities)
    rng = np.random.default_rng(4)
    held = dict.fromkeys(expected, 0)
    for _ in range(draws):
        places = rng.integers(0, 20_000, 400)
        intervals = compute_intervals(truth[places], probabilities[places])
        correct = int(np.trace(count_confusion(truth[places], probabilities[places])))
        intervals["accuracy"] = compute_wilson_interval(correct, 400, 0.95)
        for name, (low, high) in intervals.items():
            held[name] += low <= expected[name] <= high
    return {name: count / draws for name, count in held.items()}


def test_95_percent_intervals_hold_the_truth_in_93_to_97_of_100_draws() -> None:
    coverage = count_coverage(n_labels=2, draws=2000)
    assert len(coverage) == 6
    assert {name: share for name, share in coverage.items() if not 0.93 <= share <= 0.97} == {}


def test_so_do_those_of_macro_means_over_three_labels() -> None:
    coverage = count_coverage(n_labels=3, draws=500)
    # 500 draws know the share to within two points.
    assert {name: share for name, share in coverage.items() if not 0.925 <= share <= 0.975} == {}


def test_an_interval_holds_the_score_itself_and_stays_within_its_range() -> None:
    for seed in range(30):
        truth, probabilities = draw_predictions(12, 3, seed)
        confusion = count_confusion(truth, probabilities)
        said = probabilities.argmax(axis=1)
        parts = metrics.precision_recall_fscore_support(
            truth, said, average="macro", labels=range(3), zero_division=0
        )
        values = dict(zip(("precision", "recall", "f1"), parts[:3], strict=True))
        for name, (low, high) in compute_macro_intervals(confusion, 0.95).items():
            assert 0 <= low <= values[name] + 1e-12
            assert values[name] - 1e-12 <= high <= 1


def test_a_table_without_errors_is_not_taken_for_certainty() -> None:
    for low, high in compute_macro_intervals(np.array([[20, 0], [0, 30]]), 0.95).values():
        assert 0.8 < low < 0.99
        assert high == 1


def test_a_label_that_nobody_has_or_says_counts_as_in_scikit_learn() -> None:
    low, high = compute_macro_intervals(np.array([[20, 5, 0], [4, 30, 0], [0, 0, 0]]), 0.95)["f1"]
    truth, said = [0] * 25 + [1] * 34, [0] * 20 + [1] * 5 + [0] * 4 + [1] * 30
    expected = metrics.f1_score(truth, said, labels=[0, 1, 2], average="macro", zero_division=0)
    assert low <= expected <= high


def test_roc_auc_variance_is_delongs() -> None:
    truth, probabilities = draw_predictions(60, 2, seed=5)
    positive, negative = probabilities[truth == 1, 1], probabilities[truth == 0, 1]
    wins = (positive[:, None] > negative).astype(float)  # (positives, negatives)
    area = wins.mean()
    variance = wins.mean(axis=1).var(ddof=1) / len(positive)
    variance += wins.mean(axis=0).var(ddof=1) / len(negative)
    interval = compute_roc_auc_interval(truth, probabilities, 0.95)
    assert interval is not None
    low, high = (np.log(end / (1 - end)) for end in interval)
    width = 2 * 1.959964 * np.sqrt(variance) / (area * (1 - area))
    assert high - low == pytest.approx(width, rel=1e-6)
    assert (low + high) / 2 == pytest.approx(np.log(area / (1 - area)))


def test_a_perfect_ranking_of_few_reviews_leaves_room_for_doubt() -> None:
    truth = np.array([0] * 10 + [1] * 10)
    probabilities = np.column_stack([1 - np.linspace(0.1, 0.9, 20), np.linspace(0.1, 0.9, 20)])
    interval = compute_roc_auc_interval(truth, probabilities, 0.95)
    assert interval is not None
    assert interval[0] < 0.8
    assert interval[1] == pytest.approx(1)


def test_what_cannot_be_known_has_no_interval() -> None:
    truth, probabilities = np.array([0, 0, 1]), np.full((3, 2), 0.5)
    assert compute_roc_auc_interval(truth, probabilities, 0.95) is None
    assert compute_log_loss_interval(truth[:1], probabilities[:1], 0.95) is None


def test_equal_scores_for_all_reviews_have_the_widest_doubt_instead_of_none() -> None:
    truth = np.array([0, 1] * 20)
    interval = compute_roc_auc_interval(truth, np.full((40, 2), 0.5), 0.95)
    assert interval == pytest.approx(compute_wilson_interval(10, 20, 0.95))
