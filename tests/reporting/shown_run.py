"""A run whose records are shown, and a console that is read."""

import io
from collections.abc import Callable

from rich.console import Console

from peft_sentiment.records import (
    DataRecord,
    Environment,
    Improvement,
    Scores,
    StepRecord,
    TrainingRecord,
    ValidationRecord,
)

BASE = Scores(
    accuracy=0.5032,
    f1=0.3451,
    precision=0.5204,
    recall=0.5012,
    roc_auc=0.5513,
    log_loss=0.6937,
    accuracy_interval=(0.4634, 0.5431),
    reviews_per_second=2131.4,
    confusion=((20, 280), (18, 1282)),
)

PEFT = Scores(
    accuracy=0.8817,
    f1=0.8818,
    precision=0.8823,
    recall=0.8816,
    roc_auc=0.9461,
    log_loss=0.2954,
    accuracy_interval=(0.8533, 0.9051),
    reviews_per_second=87.44,
    confusion=((262, 38), (33, 1267)),
)

IMPROVEMENT = Improvement(0.3786, 0.5367, (0.3352, 0.4203), 1e-40, 1250, 23)

DATA = DataRecord(
    name="my/reviews.csv",
    sha256=None,
    train=3000,
    validation=500,
    test=600,
    duplicates_removed=96,
    label_names=("negative", "positive"),
    label_counts={"negative": 1492, "positive": 1508},
    max_length=256,
    truncation="head+tail",
    cut=1604,
)

ENVIRONMENT = Environment({"torch": "2"}, "cpu", "bfloat16", "measured", "fused", 2, None)

TRAINING = TrainingRecord(632.4, 9000, 14.23, 3012.4, 564, 0.2131, 376, True, ())

VALIDATION = ValidationRecord(188, 1.0, 0.8645, 0.8639, 0.3221, True, 4.2)

HOSTILE = "[bold]loved[/bold] \x1b[31mit\x9b2J\x07\n:smile: \u202e[/]\\"


def build_console(width: int = 80, encoding: str = "utf-8", is_terminal: bool = False) -> Console:
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding, newline="")
    return Console(
        file=file,
        width=width,
        force_terminal=is_terminal,
        force_interactive=is_terminal,
        color_system="truecolor" if is_terminal else None,
        _environ={},
    )


def read(console: Console) -> str:
    console.file.flush()
    file = console.file
    assert isinstance(file, io.TextIOWrapper)
    assert isinstance(file.buffer, io.BytesIO)
    return file.buffer.getvalue().decode(file.encoding)


def build_steps(first: int = 1, last: int = 40, steps: int = 40) -> list[StepRecord]:
    return [
        StepRecord(step, steps, step / 20, 0.7 - step / 100, 5.9e-4, 1.0, 16, 3000, seconds=2.0)
        for step in range(first, last + 1)
    ]


def render(show: Callable[..., None], *arguments: object, width: int = 80) -> str:
    console = build_console(width)
    show(console, *arguments)
    return read(console)
