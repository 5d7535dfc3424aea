"""`report`: a finished run as a page, or as Markdown."""

import argparse
from pathlib import Path
from typing import Any

from peft_sentiment.commands.flags import add_command, add_run_folder, build_console


def add_report(commands: Any) -> None:  # noqa: ANN401 - argparse keeps this type to itself
    """Add `report`."""
    parser = add_command(commands, "report", "make a finished run's report again", run_report)
    add_run_folder(parser)
    parser.add_argument(
        "--markdown",
        action="store_true",
        help="print the figures as Markdown, for a pull request, instead of writing report.html",
    )


def run_report(parsed: argparse.Namespace) -> None:
    """`peft-sentiment report`."""
    from peft_sentiment.reporting.html import describe_run, write_report

    if parsed.markdown:
        print(describe_run(Path(parsed.run)), end="")  # noqa: T201 - the console is written here
        return
    path = write_report(Path(parsed.run))
    build_console().print(f"Report: {path}", markup=False, highlight=False, soft_wrap=True)
