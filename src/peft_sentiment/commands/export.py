"""`export`: a saved adapter in a form that other programs run."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from peft_sentiment.commands.flags import (
    REVIEW_FILES,
    Parser,
    add_adapter_argument,
    add_command,
    add_count_argument,
    add_setting_flags,
    build_console,
    list_settings,
)
from peft_sentiment.errors import SettingsError

FORMS = ("merged", "onnx", "onnx-int8")
CHECK_SIZE = 2000


def add_export(commands: Any) -> None:  # noqa: ANN401 - argparse keeps this type to itself
    """Add `export`."""
    parser = add_command(
        commands, "export", "write a saved adapter in a form that other programs run", run_export
    )
    add_adapter_argument(parser)
    parser.add_argument(
        "--to",
        required=True,
        choices=FORMS,
        help="merged: a folder of transformers that pipeline loads; onnx: for ONNX Runtime, in "
        "float32; onnx-int8: the same, smaller",
    )
    parser.add_argument(
        "--output", metavar="FOLDER", help="folder to write (default: DIR and the form)"
    )
    parser.add_argument(
        "--reviews",
        metavar="FILE",
        help=f"reviews to check on: {REVIEW_FILES} (default: packaged ones)",
    )
    add_count_argument(parser, "--check-size", CHECK_SIZE, "reviews to check on, at most")
    _add_limits(parser)
    add_setting_flags(
        parser,
        list_settings("text_column", "label_column", "encoding", "delimiter", "model_name_or_path",
                      "model_revision", "device", "use_companion"),
    )  # fmt: skip


def _add_limits(parser: Parser) -> None:
    limits = {
        "--most-flips": "percent of the labels that may be other ones (default: 1 for onnx-int8, "
        "0.1 for the others)",
        "--most-loss": "points of accuracy that may be lost (default: 0.3 for onnx-int8, 0.1 for "
        "the others)",
        "--most-difference": "by which a logit may differ (default: 1 for onnx-int8, 0.01 for the "
        "others)",
    }
    for flag, text in limits.items():
        parser.add_argument(
            flag, type=_parse_limit(flag), metavar="X", help=text.replace("%", "%%")
        )


def run_export(parsed: argparse.Namespace) -> None:
    """`peft-sentiment export`."""
    from peft_sentiment.exporting import ExportOptions, export_saved_adapter
    from peft_sentiment.inference.export import LIMITS, ExportLimits

    usual = LIMITS[parsed.to]
    flips, loss, difference = parsed.most_flips, parsed.most_loss, parsed.most_difference
    limits = ExportLimits(
        usual.flipped if flips is None else flips / 100,
        usual.accuracy_loss if loss is None else loss / 100,
        usual.logit_difference if difference is None else difference,
    )
    adapter = Path(parsed.adapter)
    output = Path(parsed.output or f"{adapter}-{parsed.to}")
    reviews = Path(parsed.reviews) if parsed.reviews else None
    options = ExportOptions(parsed.to, output, reviews, parsed.check_size, limits)
    export_saved_adapter(adapter, parsed.overrides, options, build_console())


def _parse_limit(flag: str) -> Callable[[str], float]:
    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = -1.0
        if not value >= 0:
            raise SettingsError(f"{flag} is {text!r}, but must be a number from 0 up.")
        return value

    return parse
