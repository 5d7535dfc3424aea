"""Intervals of scores by formula: nothing is drawn, so the same predictions give the same interval.

Shapes: N reviews, C labels.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit
from scipy.stats import binomtest, norm, rankdata, t

Interval = tuple[float, float]


def compute_score_intervals(
    truth: NDArray[np.int64],
    probabilities: NDArray[np.float64],
    confusion: NDArray[np.int64],
    confidence_level: float,
) -> dict[str, Interval]:
    """Return score name -> interval, for every score that has one; accuracy has Wilson's.

    Args:
        truth: (N,), column of each true label.
        probabilities: (N, C), rows sum to 1.
        confusion: (C, C), reviews by true (row) and predicted (column) label.
        confidence_level: between 0 and 1.
    """
    others = {
        "roc_auc": compute_roc_auc_interval(truth, probabilities, confidence_level),
        "log_loss": compute_log_loss_interval(truth, probabilities, confidence_level),
    }
    known = {name: interval for name, interval in others.items() if interval is not None}
    return {**compute_macro_intervals(confusion, confidence_level), **known}


def compute_wilson_interval(successes: int, n: int, confidence_level: float) -> Interval:
    """Return Wilson's score interval of a share, as fractions.

    Unlike the textbook interval it stays within 0 and 1 and keeps its promise for shares near
    them. Source: E. B. Wilson, "Probable inference, the law of succession, and statistical
    inference", Journal of the American Statistical Association 22 (1927).

    Raises:
        ValueError: n is below 1, or successes or confidence_level out of range.
    """
    if n < 1:
        raise ValueError(f"n is {n}, but an interval needs at least one trial")
    interval = binomtest(successes, n).proportion_ci(confidence_level, method="wilson")
    return float(interval.low), float(interval.high)


def compute_macro_intervals(
    confusion: NDArray[np.int64], confidence_level: float
) -> dict[str, Interval]:
    """Return the intervals of macro F1, precision and recall by the delta method.

    The table's cells are shares of a multinomial draw, and a score is a smooth function of them;
    so its variance follows from its gradient. Source: K. Takahashi et al., "Confidence interval
    for micro-averaged F1 and macro-averaged F1 scores", Applied Intelligence 52 (2022). To it we
    add 1/C to each cell and compute on the logit scale, so that a table without errors is not
    taken for certainty and no interval leaves 0 to 1.

    Args:
        confusion: (C, C), reviews by true (row) and predicted (column) label.
        confidence_level: between 0 and 1.
    """
    n, z = int(confusion.sum()), _quantile(confidence_level)
    observed = _compute_macro_scores(confusion / n)
    smoothed = confusion + 1 / len(confusion)
    shares = smoothed / smoothed.sum()
    intervals = {}
    for name, (value, gradient) in _compute_macro_scores(shares).items():
        variance = (gradient**2 * shares).sum() - (gradient * shares).sum() ** 2
        interval = _logit_interval(value, z * float(np.sqrt(variance / n)))
        intervals[name] = _include(interval, observed[name][0])
    return intervals


def _compute_macro_scores(
    shares: NDArray[np.float64],
) -> dict[str, tuple[float, NDArray[np.float64]]]:
    """Return score name -> value and gradient (C, C) by the table's cells."""
    labels = np.eye(len(shares))
    hits, said, true = np.diag(shares), shares.sum(axis=0), shares.sum(axis=1)
    # Counted once or twice: each row or column holds the cells that its denominator sums.
    rows, columns = labels[:, :, None], labels[:, None, :]  # (C, C, C): label, row, column
    diagonal = rows * columns
    parts = {
        "f1": (2 * hits, true + said, 2 * diagonal, rows + columns),
        "precision": (hits, said, diagonal, np.broadcast_to(columns, diagonal.shape)),
        "recall": (hits, true, diagonal, np.broadcast_to(rows, diagonal.shape)),
    }
    scores = {}
    for name, (above, below, above_gradient, below_gradient) in parts.items():
        # A label that nobody has and nobody says counts as 0, as in scikit-learn.
        below = np.where(below > 0, below, 1.0)
        slopes = above_gradient / below[:, None, None]
        slopes = slopes - below_gradient * (above / below**2)[:, None, None]
        scores[name] = float((above / below).mean()), slopes.mean(axis=0)
    return scores


def compute_log_loss_interval(
    truth: NDArray[np.int64], probabilities: NDArray[np.float64], confidence_level: float
) -> Interval | None:
    """Return the interval of the mean log loss, or None for a single review.

    It is Student's, on the log scale: a few losses of a model that is sure and wrong are far above
    the rest, so that a symmetric interval would miss the truth above it too often.

    Args:
        truth: (N,), column of each true label.
        probabilities: (N, C), rows sum to 1.
        confidence_level: between 0 and 1.
    """
    smallest = np.finfo(probabilities.dtype).eps
    said = probabilities[np.arange(len(truth)), truth].clip(smallest, 1 - smallest)
    losses = -np.log(said)
    mean, n = float(losses.mean()), len(losses)
    if n < 2:
        return None
    width = t.ppf((1 + confidence_level) / 2, n - 1) * losses.std(ddof=1) / np.sqrt(n)
    factor = float(np.exp(width / mean))
    return mean / factor, mean * factor


def compute_roc_auc_interval(
    truth: NDArray[np.int64], probabilities: NDArray[np.float64], confidence_level: float
) -> Interval | None:
    """Return DeLong's interval of the area under the ROC curve, on the logit scale.

    For more than two labels it is the interval of the one-against-rest macro mean. Sources: E. R.
    DeLong, D. M. DeLong and D. L. Clarke-Pearson, "Comparing the areas under two or more
    correlated receiver operating characteristic curves", Biometrics 44 (1988); X. Sun and W. Xu,
    IEEE Signal Processing Letters 21 (2014) for its computation from ranks.

    Args:
        truth: (N,), column of each true label.
        probabilities: (N, C), rows sum to 1.
        confidence_level: between 0 and 1.

    Returns:
        None where a label has fewer than two reviews, or all others have.
    """
    n_labels = probabilities.shape[1]
    positives = [truth == code for code in ([1] if n_labels == 2 else range(n_labels))]
    smallest = min(int(min(part.sum(), (~part).sum())) for part in positives)
    if smallest < 2:
        return None
    columns = probabilities[:, 1:] if n_labels == 2 else probabilities
    areas, influences = zip(*map(_compute_influence, columns.T, positives), strict=True)
    area = float(np.mean(areas))
    deviation = float(np.sqrt((np.mean(influences, axis=0) ** 2).sum()))
    if deviation == 0 or not 0 < area < 1:
        # The ranks show no spread; its largest possible value is that of a share of the smaller
        # side. Source: Z. W. Birnbaum and O. M. Klose, Annals of Mathematical Statistics 28 (1957).
        return compute_wilson_interval(round(area * smallest), smallest, confidence_level)
    return _logit_interval(area, _quantile(confidence_level) * deviation)


def _compute_influence(
    scores: NDArray[np.float64], is_positive: NDArray[np.bool_]
) -> tuple[float, NDArray[np.float64]]:
    """Return the area, and (N,) by how much each review moves it."""
    ranks = rankdata(scores)
    sides = {True: is_positive, False: ~is_positive}
    n = {side: int(mask.sum()) for side, mask in sides.items()}
    influence = np.empty(len(scores))
    area = 0.0
    for side, mask in sides.items():
        beaten = (ranks[mask] - rankdata(scores[mask])) / n[not side]
        shares = beaten if side else 1 - beaten
        area = float(shares.mean())
        influence[mask] = (shares - area) / np.sqrt(n[side] * (n[side] - 1))
    return area, influence


def _logit_interval(value: float, width: float) -> Interval:
    """Return value +- width of a share, computed on the logit scale."""
    scaled = width / (value * (1 - value))
    return float(expit(logit(value) - scaled)), float(expit(logit(value) + scaled))


def _include(interval: Interval, value: float) -> Interval:
    return min(interval[0], value), max(interval[1], value)


def _quantile(confidence_level: float) -> float:
    return float(norm.ppf((1 + confidence_level) / 2))
