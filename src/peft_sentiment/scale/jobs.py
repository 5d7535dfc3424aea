"""A scoring job as its user sees it: how far it has come, and what it has left."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from rich.console import Console

from peft_sentiment.reporting.numbers import as_count
from peft_sentiment.reporting.terminal import say
from peft_sentiment.scale.scoring import Job, PartDone, Pool, score_files
from peft_sentiment.scale.store import FAULTS_FOLDER


@dataclass
class Tally:
    """What a job has done since it was started.

    Attributes:
        rss_bytes: process of a worker -> the most memory that it had after a part.
    """

    parts: int = 0
    rows: int = 0
    broken: int = 0
    rss_bytes: dict[int, int] = field(default_factory=dict)

    def add(self, done: PartDone) -> None:
        """Count a part."""
        self.parts += 1
        self.rows += int(done.rows)
        self.broken += int(done.broken)
        process = int(done.process)
        self.rss_bytes[process] = max(self.rss_bytes.get(process, 0), int(done.rss_bytes))


def run_job(
    job: Job, pool: Pool, console: Console, clock: Callable[[], float] = time.perf_counter
) -> Tally:
    """Score files, show how far that has come, and sum it up.

    Raises:
        PeftSentimentError: as in `score_files`.
    """
    tally, start = Tally(), clock()
    with console.status("Planning, and starting the workers") as status:
        for done in score_files(job, pool):
            tally.add(done)
            rate = tally.rows / (clock() - start)
            status.update(f"{as_count(tally.rows)} reviews labelled, {rate:.0f} a second")
    show_tally(console, job, tally, clock() - start)
    return tally


def show_tally(console: Console, job: Job, tally: Tally, seconds: float) -> None:
    """Say what a job has done and where it is."""
    if not tally.parts:
        say(console, f"Nothing was left to do: {job.output}")
        return
    say(
        console,
        f"{as_count(tally.rows)} reviews labelled in {seconds:.0f} s "
        f"({tally.rows / seconds:.0f} a second, start included) by {len(tally.rss_bytes)} workers "
        f"of at most {max(tally.rss_bytes.values()) / 1e9:.2f} GB",
    )
    if tally.broken:
        say(console, f"{as_count(tally.broken)} broken rows: {job.output}/{FAULTS_FOLDER}")
    say(console, f"Labels: {job.output}")
