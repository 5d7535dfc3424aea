"""The command line: parse, call, print.

Parsing must not import torch, so that `--help` answers at once; the commands are in `commands`.
"""

import argparse
import io
import os
import sys
import warnings
from collections.abc import Sequence

from peft_sentiment import __version__
from peft_sentiment.commands import ADDERS
from peft_sentiment.commands.flags import Parser
from peft_sentiment.errors import PeftSentimentError, SettingsError, suggest
from peft_sentiment.interruptions import get_exit_code, termination_raised
from peft_sentiment.launchers import count_local


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code.

    0 is success, 2 an error with a message on standard error, 130 an interruption by Ctrl-C, 143
    one by SIGTERM.
    """
    set_up_libraries()
    if isinstance(sys.stdout, io.TextIOWrapper):
        # What an ASCII terminal can't show must not end a command, as it does not on stderr.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        parsed = parse_arguments(sys.argv[1:] if arguments is None else list(arguments))
        with termination_raised():
            parsed.command(parsed)
    except PeftSentimentError as error:
        print(f"peft-sentiment: {error}", file=sys.stderr)  # noqa: T201 - the console is written here
        return error.exit_code
    except KeyboardInterrupt as stop:
        print("peft-sentiment: stopped; nothing was changed.", file=sys.stderr)  # noqa: T201
        return get_exit_code(stop)
    except BrokenPipeError:
        # Whoever read our output, such as `head`, has had enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def set_up_libraries() -> None:
    """Keep the libraries below from reporting home, talking on our console and hogging cores.

    Must be called before torch is imported, which reads some of this when it is loaded.
    """
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    # Threads that wait for each other spin, which takes the core from the one they wait for when
    # another program is busy too. Spinning for a short while only costs 1 % on an idle machine
    # and gains a quarter on a busy one.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    here = count_local()
    if here > 1:  # Processes of one machine share its cores.
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // here)))
    if not sys.warnoptions:
        warnings.simplefilter("ignore", FutureWarning)


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    """Parse a command line.

    Raises:
        SettingsError: a flag or value is unknown or malformed.
    """
    parser = build_parser()
    parsed, unknown = parser.parse_known_args(arguments)
    if unknown:
        flags = [flag for flag in _list_flags(parser, parsed.name) if flag.startswith("--")]
        raise SettingsError(
            f"{unknown[0]} is not an argument of `peft-sentiment {parsed.name}`. "
            + suggest(unknown[0].partition("=")[0], flags)
        )
    return parsed


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    parser = Parser(
        prog="peft-sentiment",
        description="Fine-tune a sentiment classifier of your own with LoRA: measure before, "
        "train, measure after, try it.",
        epilog="`peft-sentiment COMMAND --help` explains the settings of a command.",
    )
    parser.add_argument("--version", action="version", version=f"peft-sentiment {__version__}")
    commands = parser.add_subparsers(dest="name", metavar="COMMAND", required=True)
    for add in ADDERS:
        add(commands)
    return parser


def _list_flags(parser: argparse.ArgumentParser, command: str) -> list[str]:
    commands = next(a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    return list(commands.choices[command]._option_string_actions)


if __name__ == "__main__":
    sys.exit(main())
