"""The pictures of a report, each made from a stored run, or left out where its data are missing."""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from peft_sentiment.evaluation.figures import (
    Curve,
    ShareRight,
    compute_accuracy_by_length,
    compute_precision_recall_curve,
    compute_reliability,
    compute_roc_curve,
    compute_running_mean,
    thin_curve,
)
from peft_sentiment.reporting.charts import (
    Axis,
    Chart,
    Series,
    draw_intervals,
    draw_lines,
    share_axis,
)
from peft_sentiment.reporting.numbers import as_count, as_percent
from peft_sentiment.reporting.run_files import StoredRun
from peft_sentiment.reporting.titles import name_model

SMOOTHING_SHARE = 20
"""The loss is averaged over this part of the steps, which are too uneven to read one by one."""

OWN_COLORS = {"base": 0, "peft": 4}
OTHER_COLORS = (1, 2, 3, 5)

WIDEST_CURVES = 6
"""Labels up to which each has its own curve."""

CurveMaker = Callable[[NDArray[np.bool_], NDArray[np.float64]], Curve]


def draw_accuracies(run: StoredRun) -> Chart:
    """Draw every model's accuracy with its interval."""
    rows = [
        (_color(run, name), name_model(name), scores.accuracy, *scores.accuracy_interval)
        for name, scores in run.results.models.items()
    ]
    low = min(row[3] for row in rows)
    axis = share_axis("accuracy on the test reviews", low=max(0.0, np.floor(10 * low - 0.5) / 10))
    said = "; ".join(f"{name} {as_percent(value)}" for _, name, value, _, _ in rows)
    return draw_intervals("Accuracy of every model", said, axis, rows)


def draw_roc_curves(run: StoredRun) -> Chart | None:
    """Draw how many positives are found at which price in false alarms."""
    series = _list_curves(run, compute_roc_curve)
    if not series:
        return None
    axes = share_axis("false alarms"), share_axis("found")
    return draw_lines(
        f"ROC curves{_name_positive(run)}",
        f"The nearer to the upper left corner the better; the dotted line is chance. "
        f"{_list_areas(run)}",
        axes,
        series,
        ((0, 0), (1, 1)),
    )


def draw_precision_recall_curves(run: StoredRun) -> Chart | None:
    """Draw how many of those called positive are so, against how many are found."""
    series = _list_curves(run, compute_precision_recall_curve)
    if not series:
        return None
    axes = share_axis("recall: found"), share_axis("precision: rightly named")
    return draw_lines(
        f"Precision and recall{_name_positive(run)}",
        "The nearer to the upper right corner the better.",
        axes,
        series,
    )


def draw_reliability(run: StoredRun) -> Chart | None:
    """Draw how often each model is right where it is how sure."""
    groups = {
        name: compute_reliability(_labels(run), predictions, _level(run))
        for name, predictions in run.predictions.items()
    }
    if not groups:
        return None
    floor = 1 / len(run.results.data.label_names)
    axes = share_axis("how sure the model is", floor), share_axis("how often it is right")
    series = [_to_series(run, name, rows, "mean") for name, rows in groups.items()]
    return draw_lines(
        "Reliability",
        "On the dotted line a model is right as often as it is sure; below it, it is too sure. "
        "Each point stands for equally many reviews.",
        axes,
        series,
        ((floor, floor), (1, 1)),
    )


def draw_accuracy_by_length(run: StoredRun) -> Chart | None:
    """Draw how often each model is right for reviews of how many words."""
    if run.reviews is None:
        return None
    groups = {
        name: compute_accuracy_by_length(_labels(run), model, run.reviews.texts, _level(run))
        for name, model in run.predictions.items()
    }
    rows = next(iter(groups.values()))
    last = len(rows) - 0.5
    ticks = tuple((i, f"{row.low:.0f}-{row.high:.0f}") for i, row in enumerate(rows) if i % 2 == 0)
    across = Axis("words of the review", -0.5, last, ticks)
    lowest = min(row.interval[0] for rows in groups.values() for row in rows)
    up = share_axis("accuracy", low=float(max(0.0, np.floor(10 * lowest) / 10)))
    series = []
    for place, (name, rows) in enumerate(groups.items()):
        # Beside each other, so that one model's interval does not hide another's.
        shift = 0.5 * (place - (len(groups) - 1) / 2) / max(1, len(groups))
        positions = [i + shift for i in range(len(rows))]
        series.append(
            Series(
                name=name_model(name),
                x=positions,
                y=[row.share for row in rows],
                color=_color(run, name),
                intervals=[row.interval for row in rows],
                has_line=False,
                has_points=True,
            )
        )
    shortest, longest = rows[0], rows[-1]
    said = "; ".join(
        f"{name_model(name)} {as_percent(rows[0].share)} and {as_percent(rows[-1].share)}"
        for name, rows in groups.items()
    )
    return draw_lines(
        "Accuracy by length",
        f"Groups of {as_count(shortest.reviews)} reviews or so, from {shortest.low:.0f} to "
        f"{longest.high:.0f} words. The shortest and the longest: {said}.",
        (across, up),
        series,
    )


def draw_losses(run: StoredRun) -> Chart | None:
    """Draw the loss of the training steps and of the validations."""
    steps, validations = run.steps, run.results.training.validations
    if not steps:
        return None
    losses = [step.loss for step in steps]
    width = max(1, len(steps) // SMOOTHING_SHARE)
    numbers = [float(step.step) for step in steps]
    raw = thin_curve(Curve(tuple(numbers), tuple(losses)))
    mean = thin_curve(Curve(tuple(numbers), compute_running_mean(losses, width)))
    series = [
        Series("each step", raw.x, raw.y, color=0, is_faint=True),
        Series(f"mean of {width} steps", mean.x, mean.y, color=0),
    ]
    if validations:
        x, y = [float(v.step) for v in validations], [v.log_loss for v in validations]
        series.append(Series("validation", x, y, color=2, has_points=True))
    # A single step's spike may leave the picture; the means and validations stay in it.
    highest = 1.25 * max(max(one.y) for one in series if not one.is_faint)
    top = max(0.1, float(np.ceil(10 * highest) / 10))
    marks = tuple((top * i / 4, f"{top * i / 4:.2f}") for i in range(5))
    return draw_lines(
        "Loss while training",
        f"From {mean.y[0]:.2f} to {mean.y[-1]:.2f} over {as_count(len(steps))} steps.",
        (_step_axis(run), Axis("log loss", 0.0, top, marks)),
        series,
    )


def draw_validation_scores(run: StoredRun) -> Chart | None:
    """Draw the scores of the validations, where there are several."""
    validations = run.results.training.validations
    if len(validations) < 2:
        return None
    x = [float(record.step) for record in validations]
    scores = {
        "accuracy": [record.accuracy for record in validations],
        "macro F1": [record.f1 for record in validations],
    }
    low = min(map(min, scores.values()))
    series = [
        Series(name, x, y, color=color, has_points=True)
        for color, (name, y) in enumerate(scores.items())
    ]
    return draw_lines(
        "Scores on the validation reviews",
        f"Best at step {as_count(run.results.training.best_step)}, whose weights were kept.",
        (_step_axis(run), share_axis("score", low=float(max(0.0, np.floor(10 * low) / 10)))),
        series,
    )


def _list_curves(run: StoredRun, compute: CurveMaker) -> list[Series]:
    labels = np.array(_labels(run))
    return [
        Series(name, curve.x, curve.y, color)
        for name, model, label, color in _list_questions(run)
        for is_positive in [labels == label]
        if 0 < is_positive.sum() < len(labels)
        for curve in [compute(is_positive, _column(run, model, label))]
    ]


def _list_questions(run: StoredRun) -> Iterator[tuple[str, str, str, int]]:
    """Yield title, model, label and colour of each curve.

    With two labels every model has one; with more, each label of the adapted model against the
    rest.
    """
    names = run.results.data.label_names
    if len(names) == 2:
        for model in run.predictions:
            yield name_model(model), model, names[1], _color(run, model)
    elif "peft" in run.predictions and len(names) <= WIDEST_CURVES:
        for color, label in enumerate(names):
            yield label, "peft", label, color


def _column(run: StoredRun, model: str, label: str) -> NDArray[np.float64]:
    predictions = run.predictions[model]
    column = predictions.probabilities[:, predictions.label_names.index(label)]
    return column.astype(np.float64)


def _to_series(run: StoredRun, name: str, rows: tuple[ShareRight, ...], across: str) -> Series:
    return Series(
        name=name_model(name),
        x=[getattr(row, across) for row in rows],
        y=[row.share for row in rows],
        color=_color(run, name),
        intervals=[row.interval for row in rows],
        has_points=True,
    )


def _name_positive(run: StoredRun) -> str:
    names = run.results.data.label_names
    return f" for {names[1]}" if len(names) == 2 else " of the PEFT model, label by label"


def _list_areas(run: StoredRun) -> str:
    areas = [
        f"{name_model(name)} {scores.roc_auc:.3f}"
        for name, scores in run.results.models.items()
        if scores.roc_auc is not None
    ]
    return f"Area below: {', '.join(areas)}." if areas else ""


def _step_axis(run: StoredRun) -> Axis:
    last = float(max(2, run.results.training.steps))
    marks = sorted({1, *(round(last * part / 4) for part in range(1, 5))})
    return Axis("step", 1.0, last, tuple((float(mark), as_count(mark)) for mark in marks))


def _color(run: StoredRun, name: str) -> int:
    """Return a model's colour: the same in every picture, and in every report for our own."""
    if name in OWN_COLORS:
        return OWN_COLORS[name]
    others = [model for model in run.results.models if model not in OWN_COLORS]
    return OTHER_COLORS[others.index(name) % len(OTHER_COLORS)]


def _labels(run: StoredRun) -> list[str]:
    return [] if run.reviews is None else list(run.reviews.labels)


def _level(run: StoredRun) -> float:
    return float(run.results.settings["evaluation"]["confidence_level"])
