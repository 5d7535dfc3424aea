"""`doctor`."""

import argparse
from typing import Any

from peft_sentiment.commands.flags import add_command, build_console


def add_doctor(commands: Any) -> None:  # noqa: ANN401 - argparse keeps this type to itself
    """Add `doctor`."""
    add_command(commands, "doctor", "what this machine has and what is missing", run_doctor)


def run_doctor(parsed: argparse.Namespace) -> None:
    """`peft-sentiment doctor`."""
    from peft_sentiment.diagnosis import show_diagnosis

    show_diagnosis(build_console())
