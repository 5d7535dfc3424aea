"""`run` and `train`."""

import argparse
from typing import Any

from peft_sentiment.commands.flags import Parser, add_command, add_setting_flags, build_console
from peft_sentiment.config import (
    DEFAULT_PRESET,
    Settings,
    list_presets,
    list_setting_fields,
    load_settings,
)
from peft_sentiment.launchers import is_restarted
from peft_sentiment.processes import joined_processes


def add_run(commands: Any) -> None:  # noqa: ANN401 - argparse keeps this type to itself
    """Add `run`."""
    parser = add_command(commands, "run", "base model, PEFT training, comparison, demo", run_all)
    add_resume_argument(parser)
    add_run_arguments(parser)


def add_train(commands: Any) -> None:  # noqa: ANN401 - argparse keeps this type to itself
    """Add `train`."""
    parser = add_command(commands, "train", "train and save an adapter", run_training)
    add_resume_argument(parser)
    add_run_arguments(parser)


def add_resume_argument(parser: Parser) -> None:
    """Add what asks for an unfinished run to be gone on with."""
    parser.add_argument(
        "--resume",
        action="store_true",
        help="go on from where an unfinished run of the same settings was stopped, if there is "
        "one; the result is the same, bit for bit, as without the stop",
    )


def add_run_arguments(parser: Parser) -> None:
    """Add what says which settings a run has."""
    parser.add_argument(
        "--preset",
        default=DEFAULT_PRESET,
        help=f"settings to start from: {', '.join(list_presets())} (default: {DEFAULT_PRESET})",
    )
    parser.add_argument(
        "--config", metavar="FILE", help="TOML file of settings, in sections as below"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="print the settings that would be used, and end"
    )
    add_setting_flags(parser, list_setting_fields())


def load_run_settings(parsed: argparse.Namespace) -> Settings | None:
    """Return the run's settings, or None after printing them for --dry-run."""
    settings = load_settings(parsed.preset, parsed.config, parsed.overrides)
    if not parsed.dry_run:
        return settings
    import tomli_w

    print(tomli_w.dumps(settings.as_tables()), end="")  # noqa: T201 - the console is written here
    return None


def run_all(parsed: argparse.Namespace) -> None:
    """`peft-sentiment run`."""
    if settings := load_run_settings(parsed):
        from peft_sentiment.pipeline import run_pipeline

        with joined_processes(settings.model.device) as processes:
            console = build_console(is_quiet=not processes.is_main)
            run_pipeline(settings, console, parsed.resume or is_restarted())


def run_training(parsed: argparse.Namespace) -> None:
    """`peft-sentiment train`."""
    if settings := load_run_settings(parsed):
        from peft_sentiment import pipeline

        with joined_processes(settings.model.device) as processes:
            console = build_console(is_quiet=not processes.is_main)
            pipeline.run_training(settings, console, parsed.resume or is_restarted())
