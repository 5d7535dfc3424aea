"""Words about rows of files that were left out."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from peft_sentiment.records.skipped import SkippedRow
from peft_sentiment.reporting.numbers import as_count
from peft_sentiment.reporting.terminal import say


def show_skipped(console: Console, rows: Sequence[SkippedRow], path: Path) -> None:
    """Show how many rows are left out, the first of them, and where all are listed.

    Args:
        console: where to write.
        rows: left out; nothing is shown where there is none.
        path: of the list.
    """
    if not rows:
        return
    first, count = rows[0], len(rows)
    words = "1 row is" if count == 1 else f"{as_count(count)} rows are"
    which = "" if count == 1 else " the first of them"
    say(console, f"Skipped  {words} left out,{which} {first.place}: {first.reason}")
    say(console, f"         All are listed in {path}")


def show_dropped(console: Console, count: int) -> None:
    """Show how many rows are left out because nothing new or nothing sure stands in them."""
    if count:
        words = "1 row is" if count == 1 else f"{as_count(count)} rows are"
        say(console, f"Dropped  {words} left out: their text came before, or has two labels")
