"""Rows that a command on saved adapters has left out: listed in a file, and told."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from peft_sentiment.data.bad_rows import SKIPPED_FILE, write_skipped_rows
from peft_sentiment.records.skipped import SkippedRow
from peft_sentiment.reporting.skipped import show_skipped


def report_skipped(console: Console, rows: Sequence[SkippedRow], output: Path | None) -> None:
    """List the rows that were left out, if there are any, and say where.

    Args:
        console: where to say it.
        rows: left out.
        output: file that the command writes; the list stands beside it, or else in the working
            folder.

    Raises:
        OutputError: the list can't be written.
    """
    if not rows:
        return
    path = Path(SKIPPED_FILE)
    if output is not None:
        path = output.with_name(f"{output.stem}.{SKIPPED_FILE}")
    write_skipped_rows(path, rows)
    show_skipped(console, rows, path)
