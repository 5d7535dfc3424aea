"""`serve`: adapters over HTTP."""

import argparse
import os
import sys
from typing import Any

from peft_sentiment.commands.flags import (
    SCORING_SETTINGS,
    add_adapters_argument,
    add_command,
    add_setting_flags,
    list_settings,
)
from peft_sentiment.config import SERVICE_SECTION, ServiceSettings, read_setting_fields
from peft_sentiment.errors import SettingsError, build_missing_error


def add_serve(commands: Any) -> None:  # noqa: ANN401 - argparse keeps this type to itself
    """Add `serve`."""
    parser = add_command(commands, "serve", "answer over HTTP with saved adapters", run_service)
    add_adapters_argument(
        parser,
        "folders of adapters on one encoder, or of exported models, each under the name given or "
        "that of its folder; the first one answers requests that name none",
    )
    add_setting_flags(parser, read_setting_fields(SERVICE_SECTION, ServiceSettings()))
    add_setting_flags(parser, list_settings(*SCORING_SETTINGS))


def run_service(parsed: argparse.Namespace) -> None:
    """`peft-sentiment serve`."""
    settings = ServiceSettings(**parsed.overrides.get(SERVICE_SECTION, {}))
    adapters = read_adapters(parsed.adapters)
    overrides = {name: part for name, part in parsed.overrides.items() if name != SERVICE_SECTION}
    try:
        from peft_sentiment.serving.server import serve
    except ModuleNotFoundError as error:
        if str(error.name).partition(".")[0] not in ("fastapi", "uvicorn", "prometheus_client"):
            raise
        raise build_missing_error("The service needs", str(error.name), "serve") from error
    serve(adapters, settings, overrides)
    end_at_once()


def end_at_once() -> None:
    """End the process without taking its libraries apart, which takes them seconds of computing.

    What was accepted has been answered by then, and nothing is left to be written.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def read_adapters(arguments: list[str]) -> dict[str, str]:
    """Return name -> folder of what was typed, DIR or NAME=DIR each.

    Raises:
        SettingsError: two have the same name.
    """
    from peft_sentiment.serving.showcase import split_name

    adapters: dict[str, str] = {}
    for argument in arguments:
        name, folder = split_name(argument)
        if name in adapters:
            raise SettingsError(
                f"{argument}: there is an adapter {name} already. "
                "Give it another name, as in: other=DIR."
            )
        adapters[name] = folder
    return adapters
