"""Progress of a training run: a bar in a terminal, lines elsewhere."""

import time
from collections.abc import Callable
from types import TracebackType
from typing import Literal, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from peft_sentiment.records import ContrastRecord, StepRecord
from peft_sentiment.reporting.numbers import as_rate, as_rough_duration
from peft_sentiment.reporting.terminal import say_line

FIRST_STAGE = "pairs, "
"""What the steps of the first stage on pairs of reviews are told by."""


class TrainingProgress:
    """Progress of a training run, from its step records.

    In a terminal it is a bar that leaves nothing behind; elsewhere, such as in a log file, a plain
    line every few steps. Other lines may be printed to the console in between.

    Example:
        with TrainingProgress(console, settings.logging_steps) as progress:
            for record in steps:
                progress.update(record)
    """

    def __init__(
        self,
        console: Console,
        logging_steps: int,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """Prepare the progress; the clock starts with the `with` block.

        Args:
            console: where to write.
            logging_steps: steps between plain lines.
            clock: gives the time in seconds.
        """
        self._console = console
        self._logging_steps = logging_steps
        self._clock = clock
        self._started = self._seconds = 0.0
        self._steps = self._reviews = 0
        self._stage = ""
        self._bar = _build_bar(console) if console.is_interactive else None

    def __enter__(self) -> Self:
        self._started = self._clock()
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> Literal[False]:
        if self._bar:
            self._bar.stop()
        return False

    def update(self, event: StepRecord | ContrastRecord) -> None:
        """Show one more step; time and speed are those of its stage."""
        is_first_stage = isinstance(event, ContrastRecord)
        record = event.step if isinstance(event, ContrastRecord) else event
        self._enter(FIRST_STAGE if is_first_stage else "")
        self._steps += 1
        self._reviews += record.reviews
        self._seconds += record.seconds
        if self._bar:
            self._move_bar(self._bar, record)
        elif record.step % self._logging_steps == 0 or record.step == record.steps:
            say_line(self._console, self._describe(record))

    def _enter(self, stage: str) -> None:
        if stage != self._stage:
            self._stage, self._started = stage, self._clock()
            self._steps, self._reviews, self._seconds = 0, 0, 0.0

    def _move_bar(self, bar: Progress, record: StepRecord) -> None:
        bar.update(
            bar.task_ids[0],
            total=record.steps,
            completed=record.step,
            description=f"{self._stage}step {record.step}/{record.steps}",
            words=f"loss {record.loss:.3f}  {self._describe_speed(record)}",
        )

    def _describe(self, record: StepRecord) -> str:
        return (
            f"{self._stage}step {record.step}/{record.steps}  epoch {record.epoch:.2f}  "
            f"loss {record.loss:.3f}  lr {record.learning_rate:.2g}  "
            f"{self._describe_speed(record)}"
        )

    def _describe_speed(self, record: StepRecord) -> str:
        rate = self._reviews / self._seconds
        # By the clock, because what is left has its validations too; and over the steps seen here,
        # because a resumed run does not begin at step 1.
        elapsed = self._clock() - self._started
        left = (record.steps - record.step) * elapsed / self._steps
        return f"{as_rate(rate)} reviews/s  {as_rough_duration(left)} left"


def _build_bar(console: Console) -> Progress:
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        TextColumn("{task.fields[words]}"),
        console=console,
        transient=True,
        expand=True,
        # The CPU is needed for the training itself.
        refresh_per_second=2,
    )
    # How many steps there are comes with the first one; until then the bar moves to and fro.
    bar.add_task("starting", total=None, words="")
    return bar
