"""Pictures of searches and comparisons of methods, drawn by Matplotlib from their records."""

import importlib.util
import io
import math
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path

from peft_sentiment.errors import build_missing_error
from peft_sentiment.evaluation.method_comparison import MethodRecord, MethodsRecord
from peft_sentiment.files import replacing_file
from peft_sentiment.training.trials import SearchRecord, TrialRecord

if typing.TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Annotation
    from matplotlib.transforms import Bbox

FORMATS = ("png", "svg")
POINT_SIZE = 7.0
"""In points, of which an inch has 72."""
LABEL_PLACES = tuple(
    (distance * right, distance * up)
    for distance in (6, 12, 20, 32, 48, 64)
    for right, up in ((1, 0.6), (0, 1), (0, -1), (-1, 0.6), (1, -0.6), (-1, -0.6), (1, 0), (-1, 0))
)
"""Where a name may stand from its point, right and up in points; earlier ones are better."""
FAR = 16
"""Points from which a name needs a line to its point."""
DOTS_PER_INCH = 150
BLUE, ORANGE, GREY = "#0072b2", "#d55e00", "#999999"
"""Told apart by those who can't tell red from green, too (Okabe and Ito)."""
COLOURS = {"finished": BLUE, "pruned": GREY, "failed": ORANGE}


def require_matplotlib() -> None:
    """Check that the library is there.

    Raises:
        SettingsError: it is not; the message names the extra.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise build_missing_error("Pictures need", "Matplotlib", "search")


def save_search_picture(record: SearchRecord, stem: Path) -> list[Path]:
    """Draw the course of a search and what matters; return the files, of `stem` and a format."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.2), layout="constrained")
    course, importance = figure.subplots(1, 2)
    _draw_course(course, record)
    _draw_importances(importance, record)
    return save_figure(figure, stem)


def save_methods_picture(record: MethodsRecord, stem: Path) -> list[Path]:
    """Draw accuracy against trained weights; return the files, of `stem` and a format."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 7), layout="constrained")
    axes = figure.subplots()
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(lambda number, _: f"{number:,.0f}")
    axes.xaxis.set_minor_formatter(lambda number, _: _label_minor(number))
    for method in record.methods:
        _draw_method(axes, method)
    front = [method for method in record.methods if method.is_on_front]
    _draw_front(axes, front, max(method.trainable for method in record.methods))
    level = f"{100 * record.confidence_level:g} % interval"
    axes.set(xlabel="trained weights", ylabel=f"accuracy on the test reviews, % ({level})")
    axes.grid(alpha=0.3)
    axes.margins(x=0.08)
    axes.legend(frameon=False, loc="lower right")
    place_labels(figure, axes, {m.name: (m.trainable, 100 * m.accuracy) for m in record.methods})
    return save_figure(figure, stem)


def _label_minor(number: float) -> str:
    """Write 2,000 and 5,000 between 1,000 and 10,000, and leave room between them."""
    leading = number / 10 ** math.floor(math.log10(number))
    return f"{number:,.0f}" if round(leading) in (2, 5) else ""


def place_labels(figure: "Figure", axes: "Axes", points: Mapping[str, tuple[float, float]]) -> None:
    """Write each point's name near it, where it covers neither another name nor a point.

    Args:
        figure: with its axes, finished but for the names.
        axes: on which the points are.
        points: name -> place in the axes' units.
    """
    from matplotlib.transforms import Bbox

    figure.draw_without_rendering()  # Sizes are known from then on.
    size = POINT_SIZE * figure.dpi / 72
    centres = axes.transData.transform(list(points.values()))
    taken = [Bbox.from_bounds(x - size / 2, y - size / 2, size, size) for x, y in centres]
    inside = axes.get_window_extent()
    for name, place in sorted(points.items(), key=lambda item: -item[1][1]):
        label = axes.annotate(name, place, (0, 0), textcoords="offset points", fontsize=9)
        best = min(LABEL_PLACES, key=lambda spot: _count_overlaps(label, spot, taken, inside))
        _count_overlaps(label, best, taken, inside)
        taken.append(label.get_window_extent())
        if math.hypot(*best) > FAR:
            line = {"arrowstyle": "-", "color": GREY, "linewidth": 0.7, "shrinkA": 0, "shrinkB": 3}
            axes.annotate("", place, best, textcoords="offset points", arrowprops=line)


def _count_overlaps(
    label: "Annotation", spot: tuple[float, float], taken: "Sequence[Bbox]", inside: "Bbox"
) -> float:
    """Move a label to a place, and return how much is wrong with it; near places are better."""
    right, up = spot
    label.set_position(spot)
    label.set_horizontalalignment("left" if right > 0 else "right" if right < 0 else "center")
    label.set_verticalalignment("bottom" if up > 0 else "top" if up < 0 else "center")
    box = label.get_window_extent()
    outside = not (inside.contains(*box.min) and inside.contains(*box.max))
    return box.count_overlaps(list(taken)) + 10 * outside + math.hypot(right, up) / 1000


def _draw_method(axes: "Axes", method: MethodRecord) -> None:
    """Draw a method's mean with its interval."""
    accuracy = 100 * method.accuracy
    low, high = (100 * end for end in method.accuracy_interval)
    colour = BLUE if method.is_on_front else GREY
    error = [[accuracy - low], [high - accuracy]]
    axes.errorbar(
        method.trainable, accuracy, error, fmt="o", color=colour, elinewidth=1, alpha=0.35, ms=0
    )
    axes.plot(method.trainable, accuracy, "o", color=colour, ms=POINT_SIZE, zorder=3)


def _draw_front(axes: "Axes", front: Sequence[MethodRecord], most: int) -> None:
    """Draw what is the best with so many weights, as a line up to the most there are."""
    ordered = sorted(front, key=lambda method: method.trainable)
    weights = [*(method.trainable for method in ordered), most]
    accuracies = [100 * method.accuracy for method in ordered]
    axes.step(
        weights,
        [*accuracies, accuracies[-1]],
        where="post",
        color=BLUE,
        label="best with so few weights",
    )


def save_figure(figure: "Figure", stem: Path) -> list[Path]:
    """Write a figure in every format, each file whole or not at all."""
    from matplotlib import rc_context

    paths = [stem.with_name(f"{stem.name}.{kind}") for kind in FORMATS]
    for path, kind in zip(paths, FORMATS, strict=True):
        image = io.BytesIO()
        with rc_context({"svg.hashsalt": stem.name}):
            metadata = {"Date": None} if kind == "svg" else None
            figure.savefig(image, format=kind, dpi=DOTS_PER_INCH, metadata=metadata)
        with replacing_file(path) as draft:
            draft.write_bytes(image.getvalue())
    return paths


def _draw_course(axes: "Axes", record: SearchRecord) -> None:
    """Draw every trial's score, and the best so far as a line."""
    from matplotlib.ticker import MaxNLocator

    scored = [trial for trial in record.trials if trial.score is not None]
    for state in COLOURS:
        chosen = [trial for trial in scored if trial.state == state]
        if chosen:
            numbers = [trial.number for trial in chosen]
            scores = [_scale(record.metric, trial) for trial in chosen]
            axes.scatter(numbers, scores, color=COLOURS[state], label=state, zorder=3)
    finished = [trial for trial in scored if trial.state == "finished"]
    choose = min if record.metric == "log_loss" else max
    best: list[float] = []
    for trial in finished:
        best.append(choose([*best[-1:], _scale(record.metric, trial)]))
    numbers = [trial.number for trial in finished]
    axes.step(numbers, best, where="post", color=BLUE, linewidth=1.5, label="best so far")
    axes.set(xlabel="trial", ylabel=_label(record.metric), title="Course")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)


def _draw_importances(axes: "Axes", record: SearchRecord) -> None:
    """Draw how much of the differences each setting explains, the largest on top."""
    axes.set_title("What explains the differences")
    if not record.importances:
        axes.text(0.5, 0.5, "too few finished trials to say", ha="center", va="center")
        axes.set_axis_off()
        return
    names = list(reversed(record.importances))
    shares = [100 * record.importances[name] for name in names]
    bars = axes.barh([name.partition(".")[2] for name in names], shares, color=BLUE)
    axes.bar_label(bars, [f"{share:.0f} %" for share in shares], padding=3)
    axes.set(xlabel="% of the differences", xlim=(0, 1.15 * max(shares)))
    axes.spines[["top", "right"]].set_visible(False)


def _scale(metric: str, trial: TrialRecord) -> float:
    score = typing.cast("float", trial.score)
    return score if metric == "log_loss" else 100 * score


def _label(metric: str) -> str:
    names = {"accuracy": "validation accuracy, %", "f1": "validation macro F1, %"}
    return names.get(metric, "validation log loss")
