"""Pictures as inline SVG, drawn by hand: small, sharp in print, coloured by the page's own style.

Colours are the style classes `c0`, `c1`, ... so that they follow the reader's light or dark scheme;
lines differ in dash too, so that colour is never needed to tell them apart.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from markupsafe import Markup

WIDTH, HEIGHT = 360, 250
LEFT, RIGHT, TOP, BOTTOM = 60, 20, 10, 40
ROW_HEIGHT = 44
"""Of a chart with a line for each model."""


@dataclass(frozen=True)
class Axis:
    """One axis: what it shows, from where to where, and where it is marked.

    Attributes:
        ticks: value and the words for it.
    """

    name: str
    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]

    def place(self, value: float) -> float:
        """Return where a value lies, from 0 to 1; values outside lie on the edge."""
        span = self.high - self.low or 1.0
        return min(1.0, max(0.0, (value - self.low) / span))


@dataclass(frozen=True)
class Series:
    """One line or row of points.

    Attributes:
        color: number of its colour and dash.
        intervals: low and high of each point, where they are known.
        is_faint: drawn in the background.
        has_line: whether the points are joined.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    color: int
    intervals: Sequence[tuple[float, float]] = ()
    has_line: bool = True
    has_points: bool = False
    is_faint: bool = False


@dataclass(frozen=True)
class Chart:
    """A picture with what it says in words, for those who can't see it.

    Attributes:
        title: what it shows, in a few words.
        description: what is to be seen, in a sentence.
        legend: colour number and name of each series.
    """

    title: str
    description: str
    svg: Markup
    legend: tuple[tuple[int, str], ...] = field(default=())


def share_axis(name: str, low: float = 0.0, high: float = 1.0) -> Axis:
    """Return an axis of shares, marked in percent."""
    step = 0.25 if high - low > 0.6 else 0.1 if high - low > 0.25 else 0.05
    first = round(-(-low // step))
    marks = [step * i for i in range(first, int(high / step + 1e-9) + 1)]
    return Axis(name, low, high, tuple((mark, f"{100 * mark:.0f} %") for mark in marks))


def draw_lines(
    title: str,
    description: str,
    axes: tuple[Axis, Axis],
    series: Sequence[Series],
    diagonal: tuple[tuple[float, float], tuple[float, float]] | None = None,
) -> Chart:
    """Draw lines or points over two axes.

    Args:
        title: what the chart shows.
        description: what is to be seen, in a sentence.
        axes: the one across and the one upwards.
        series: what to draw.
        diagonal: both ends of a line to compare with, such as that of chance.
    """
    across, up = axes
    parts = [*_draw_axes(across, up)]
    if diagonal:
        (x1, y1), (x2, y2) = (_to_point(across, up, *end) for end in diagonal)
        parts.append(_fill('<line class="guide" x1="{}" y1="{}" x2="{}" y2="{}"/>', x1, y1, x2, y2))
    for one in series:
        parts += _draw_series(across, up, one)
    legend = tuple((one.color, one.name) for one in series if not one.is_faint)
    return Chart(title, description, _wrap(title, description, HEIGHT, parts), legend)


def draw_intervals(
    title: str, description: str, axis: Axis, rows: Sequence[tuple[int, str, float, float, float]]
) -> Chart:
    """Draw a line for each name: a point with its interval, on one common axis.

    Args:
        title: what the chart shows.
        description: what is to be seen, in a sentence.
        axis: of the values.
        rows: number of the colour, name, value, low and high.
    """
    left, height = 22, TOP + ROW_HEIGHT * len(rows) + BOTTOM
    right, bottom = WIDTH - RIGHT, height - BOTTOM

    def place(value: float) -> float:
        return round(left + axis.place(value) * (right - left), 1)

    parts = []
    for value, words in axis.ticks:
        x = place(value)
        parts.append(
            _fill('<line class="grid" x1="{0}" y1="{1}" x2="{0}" y2="{2}"/>', x, 8, bottom)
        )
        parts.append(_fill('<text class="tick" x="{}" y="{}">{}</text>', x, bottom + 14, words))
    for i, (color, name, value, low, high) in enumerate(rows):
        y = TOP + ROW_HEIGHT * i + 14
        words = f"{100 * value:.1f} % ({100 * low:.1f} to {100 * high:.1f})"
        parts.append(_fill('<text class="name" x="{}" y="{}">{}</text>', left, y, name))
        parts.append(_fill('<text class="value" x="{}" y="{}">{}</text>', right, y, words))
        line = '<g class="c{0}"><path d="M{1} {3}H{2}M{1} {4}v8M{2} {4}v8"/>'
        dot = '<circle class="dot" cx="{5}" cy="{3}" r="4.5"/></g>'
        ends = place(low), place(high)
        parts.append(_fill(line + dot, color % COLORS, *ends, y + 14, y + 10, place(value)))
    parts.append(
        _fill('<text class="axis" x="{}" y="{}">{}</text>', WIDTH / 2, height - 8, axis.name)
    )
    return Chart(title, description, _wrap(title, description, height, parts))


COLORS = 6
DASHES = ("", "6 3", "2 3", "9 3 2 3", "12 4", "4 2 1 2")


def _draw_axes(across: Axis, up: Axis) -> list[Markup]:
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    parts = []
    for value, words in up.ticks:
        y = _to_point(across, up, across.low, value)[1]
        parts.append(
            _fill('<line class="grid" x1="{}" y1="{}" x2="{}" y2="{}"/>', LEFT, y, right, y)
        )
        parts.append(_fill('<text class="up" x="{}" y="{}">{}</text>', LEFT - 6, y + 4, words))
    for value, words in across.ticks:
        x = _to_point(across, up, value, up.low)[0]
        parts.append(
            _fill('<line class="grid" x1="{0}" y1="{1}" x2="{0}" y2="{2}"/>', x, TOP, bottom)
        )
        parts.append(_fill('<text class="tick" x="{}" y="{}">{}</text>', x, bottom + 15, words))
    middle = (LEFT + right) / 2
    parts.append(
        _fill('<text class="axis" x="{}" y="{}">{}</text>', middle, HEIGHT - 6, across.name)
    )
    turned = '<text class="axis" transform="translate(10 {}) rotate(-90)">{}</text>'
    parts.append(_fill(turned, (TOP + bottom) / 2, up.name))
    return parts


def _draw_series(across: Axis, up: Axis, one: Series) -> list[Markup]:
    points = [_to_point(across, up, x, y) for x, y in zip(one.x, one.y, strict=True)]
    parts = [_fill('<g class="c{}{}">', one.color % COLORS, " faint" if one.is_faint else "")]
    for (x, _), (low, high) in zip(points, one.intervals, strict=False):
        y1, y2 = (_to_point(across, up, across.low, end)[1] for end in (low, high))
        parts.append(_fill('<path class="whisker" d="M{} {}V{}"/>', x, y1, y2))
    if one.has_line and len(points) > 1:
        path = "M" + "L".join(f"{x} {y}" for x, y in points)
        dash = "" if one.is_faint else DASHES[one.color % len(DASHES)]
        parts.append(_fill('<path d="{}" stroke-dasharray="{}"/>', path, dash))
    if one.has_points or len(points) == 1:
        parts += [_fill('<circle class="dot" cx="{}" cy="{}" r="3.5"/>', x, y) for x, y in points]
    return [*parts, Markup("</g>")]


def _to_point(across: Axis, up: Axis, x: float, y: float) -> tuple[float, float]:
    width, height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    return (
        round(LEFT + across.place(x) * width, 1),
        round(TOP + (1 - up.place(y)) * height, 1),
    )


def _wrap(title: str, description: str, height: float, parts: Sequence[Markup]) -> Markup:
    start = '<svg viewBox="0 0 {} {}" role="img" aria-label="{}: {}">'
    return (
        _fill(start, WIDTH, height, title, description) + Markup("").join(parts) + Markup("</svg>")
    )


def _fill(template: str, *values: object) -> Markup:
    """Return markup with values put in, escaped; the template is ours."""
    return Markup(template).format(*values)  # noqa: S704 - only our own templates come here
