"""`demo`: try saved adapters, in the terminal or on a page."""

import argparse
import sys
from typing import Any

from peft_sentiment.commands.flags import (
    SCORING_SETTINGS,
    add_adapters_argument,
    add_command,
    add_setting_flags,
    build_console,
    list_settings,
)

PORT = 7860
"""Where Gradio's pages are looked for."""


def add_demo(commands: Any) -> None:  # noqa: ANN401 - argparse keeps this type to itself
    """Add `demo`."""
    parser = add_command(commands, "demo", "try saved adapters", run_demo)
    add_adapters_argument(parser, "saved adapters; the first is shown first")
    parser.add_argument("--web", action="store_true", help="on a page; needs the extra [demo]")
    parser.add_argument(
        "--host", default="127.0.0.1", help="address of the page (default: this machine's own)"
    )
    parser.add_argument("--port", type=int, default=PORT, help=f"of the page (default: {PORT})")
    add_setting_flags(parser, list_settings(*SCORING_SETTINGS))


def run_demo(parsed: argparse.Namespace) -> None:
    """`peft-sentiment demo`."""
    from peft_sentiment.serving.showcase import load_showcase

    console = build_console()
    showcase = load_showcase(parsed.adapters, parsed.overrides)
    if parsed.web:
        from peft_sentiment.serving.page import serve_page

        serve_page(showcase, parsed.host, parsed.port, console)
        return
    from peft_sentiment.data.texts import read_lines
    from peft_sentiment.serving.demo import ask_for_reviews, label_lines, show_samples

    if not sys.stdin.isatty():
        label_lines(console, showcase, read_lines(sys.stdin))
        return
    show_samples(console, showcase)
    if console.is_terminal:
        ask_for_reviews(console, showcase)
