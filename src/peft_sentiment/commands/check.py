"""`check`: what a file of labelled reviews holds, before anything is trained on it."""

import argparse
from pathlib import Path
from typing import Any

from peft_sentiment.commands.flags import (
    add_command,
    add_setting_flags,
    build_console,
    list_settings,
)
from peft_sentiment.config import load_settings

SETTINGS = ("text_column", "label_column", "encoding", "delimiter", "skip_bad_rows",
            "near_duplicate_similarity", "max_length", "model_name_or_path", "model_revision",
            "seed")  # fmt: skip


def add_check(commands: Any) -> None:  # noqa: ANN401 - argparse keeps this type to itself
    """Add `check`."""
    parser = add_command(
        commands, "check", "look for faults in a file of labelled reviews", run_check
    )
    parser.add_argument(
        "file",
        metavar="FILE",
        help="CSV, TSV, JSON, JSONL or Parquet file, .txt with a review a line, or packaged/imdb",
    )
    parser.add_argument(
        "--against", metavar="FILE", help="another file, such as the test file, to share no text"
    )
    parser.add_argument(
        "--labels",
        action="store_true",
        help="list labels that are probably wrong, by cleanlab from cross-validated predictions",
    )
    parser.add_argument(
        "--no-near", action="store_true", help="look for equal texts only, not for similar ones"
    )
    parser.add_argument(
        "--rows", type=int, default=3, metavar="N", help="rows to show of each kind (default: 3)"
    )
    parser.add_argument("--output", metavar="FILE", help="JSONL file for all rows found")
    add_setting_flags(parser, list_settings(*SETTINGS))


def run_check(parsed: argparse.Namespace) -> None:
    """`peft-sentiment check`."""
    from peft_sentiment.checking import CheckOptions, check_file

    options = CheckOptions(
        against=parsed.against,
        labels=parsed.labels,
        near=not parsed.no_near,
        rows=max(0, parsed.rows),
        output=Path(parsed.output) if parsed.output else None,
    )
    check_file(parsed.file, load_settings(overrides=parsed.overrides), options, build_console())
