"""Progress is a line every few steps in a log, and a bar in a terminal that leaves nothing."""

from collections.abc import Iterator

import pytest
from shown_run import VALIDATION, build_console, build_steps, read

from peft_sentiment.reporting.console import show_validation
from peft_sentiment.reporting.progress import TrainingProgress


def tick(seconds: float) -> Iterator[float]:
    """Yield the times of a clock that is looked at once a step."""
    now = 0.0
    while True:
        yield now
        now += seconds


def test_plain_progress_is_a_line_every_few_steps_and_one_for_the_last() -> None:
    console = build_console()
    with TrainingProgress(console, 15) as progress:
        for record in build_steps():
            progress.update(record)
    lines = read(console).splitlines()
    assert [line.split()[1] for line in lines] == ["15/40", "30/40", "40/40"]
    assert lines[1].startswith("step 30/40  epoch 1.50  loss 0.400  lr 0.00059  8.0 reviews/s")


def test_time_left_is_by_the_clock_and_the_rate_by_the_steps_own_time() -> None:
    console = build_console()
    clock = tick(30.0)
    # A step computes for 2 s, and validation takes the other 28 s.
    with TrainingProgress(console, 1, lambda: next(clock)) as progress:
        for record in build_steps():
            progress.update(record)
    lines = read(console).splitlines()
    assert all("8.0 reviews/s" in line for line in lines)
    assert lines[19].endswith("10 min left")
    assert lines[38].endswith("30 s left")
    assert lines[39].endswith("0 s left")


def test_a_resumed_run_judges_its_speed_by_its_own_steps() -> None:
    console = build_console()
    clock = tick(60.0)
    with TrainingProgress(console, 1, lambda: next(clock)) as progress:
        for record in build_steps(first=31):
            progress.update(record)
    assert read(console).splitlines()[0].endswith("8.0 reviews/s  9 min left")


def test_a_long_run_has_hours_left() -> None:
    console = build_console()
    clock = tick(600.0)
    with TrainingProgress(console, 1, lambda: next(clock)) as progress:
        progress.update(build_steps()[0])
    assert read(console).splitlines()[0].endswith("6 h 30 min left")


def test_a_terminal_gets_a_bar_that_other_lines_pass_and_that_leaves_nothing() -> None:
    console = build_console(is_terminal=True)
    with TrainingProgress(console, 1) as progress:
        for record in build_steps(last=20):
            progress.update(record)
        show_validation(console, VALIDATION)
    shown = read(console)
    assert "step 20/40" in shown
    assert "loss 0.500" in shown
    assert "8.0 reviews/s" in shown
    assert "best so far" in shown
    assert shown.endswith("\x1b[2K")  # the bar's own line is erased


def test_the_bar_is_gone_when_training_stops_half_way() -> None:
    console = build_console(is_terminal=True)

    def train() -> None:
        with TrainingProgress(console, 1) as progress:
            progress.update(build_steps()[0])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train()
    assert read(console).endswith("\x1b[2K")
