"""The command line: parse, call, print.

Parsing must not import torch, so that `--help` answers at once: each command imports what it
needs when it is called.
"""

import argparse
import os
import sys
import tomllib
import typing
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from peft_sentiment import __version__
from peft_sentiment.config import (
    DEFAULT_PRESET,
    SettingField,
    Settings,
    list_kinds,
    list_presets,
    list_setting_fields,
    load_settings,
    parse_flag_value,
    suggest,
)
from peft_sentiment.errors import PeftSentimentError, SettingsError

if typing.TYPE_CHECKING:
    from rich.console import Console

Overrides = dict[str, dict[str, Any]]
"""Section -> setting -> value, as given on the command line."""

DEFAULT_ADAPTER = "saved_peft_model"
SCORING_SETTINGS = ("device", "model_name_or_path", "model_revision", "per_device_eval_batch_size",
                    "bf16", "fp16")  # fmt: skip
TEST_DATA_SETTINGS = ("dataset_name", "dataset_config_name", "dataset_revision", "test_file",
                      "text_column", "label_column", "label_names", "test_size",
                      "confidence_level")  # fmt: skip
EXIT_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code.

    0 is success, 2 an error with a message on standard error, 130 an interruption by Ctrl-C.
    """
    set_up_libraries()
    try:
        parsed = parse_arguments(sys.argv[1:] if arguments is None else list(arguments))
        parsed.command(parsed)
    except PeftSentimentError as error:
        print(f"peft-sentiment: {error}", file=sys.stderr)  # noqa: T201 - the console is written here
        return error.exit_code
    except KeyboardInterrupt:
        print("peft-sentiment: stopped; nothing was changed.", file=sys.stderr)  # noqa: T201
        return EXIT_INTERRUPTED
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
    every = list_setting_fields()
    scoring = [item for item in every if item.name in SCORING_SETTINGS]
    testing = [item for item in every if item.name in TEST_DATA_SETTINGS]

    run = _add_command(commands, "run", "base model, PEFT training, comparison, demo", run_all)
    _add_run_arguments(run, every)
    train = _add_command(commands, "train", "train and save an adapter", run_training)
    _add_run_arguments(train, every)

    evaluate = _add_command(commands, "evaluate", "score a saved adapter", run_evaluation)
    _add_adapter_argument(evaluate)
    evaluate.add_argument("--output", help="Parquet file for the predictions of each review")
    _add_setting_flags(evaluate, [*testing, *scoring])

    compare = _add_command(commands, "compare", "compare finished runs", run_comparison)
    compare.add_argument(
        "runs",
        nargs="*",
        default=["peft_model_output"],
        metavar="RUN",
        help="output folders; one shows its own comparison (default: peft_model_output)",
    )
    _add_setting_flags(compare, [item for item in every if item.section == "evaluation"])

    predict = _add_command(commands, "predict", "label texts", run_prediction)
    predict.add_argument("texts", nargs="*", metavar="TEXT", help="or a text a line on stdin")
    predict.add_argument("--adapter", default=DEFAULT_ADAPTER, metavar="DIR", help="saved adapter")
    predict.add_argument("--file", help="CSV, TSV, JSONL or Parquet file, or .txt with one a line")
    predict.add_argument("--output", help="CSV, TSV, JSONL or Parquet file for the labels")
    _add_setting_flags(predict, [i for i in every if i.name == "text_column"] + scoring)

    demo = _add_command(commands, "demo", "try a saved adapter", run_demo)
    _add_adapter_argument(demo)
    _add_setting_flags(demo, scoring)

    _add_command(commands, "doctor", "what this machine has and what is missing", run_doctor)
    return parser


class Parser(argparse.ArgumentParser):
    """A parser that takes no abbreviations and raises our error instead of exiting."""

    def __init__(self, **options: Any) -> None:  # noqa: ANN401 - argparse's own options
        super().__init__(**options, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        """Raise what argparse would print below a page of usage."""
        raise SettingsError(f"{message}. See: {self.prog} --help")


def _add_command(
    commands: Any,  # noqa: ANN401 - argparse keeps this type to itself
    name: str,
    text: str,
    command: Callable[[argparse.Namespace], None],
) -> Parser:
    parser: Parser = commands.add_parser(
        name, help=text, description=f"{text[0].upper()}{text[1:]}."
    )
    parser.set_defaults(command=command, overrides={})
    return parser


def _add_adapter_argument(parser: Parser) -> None:
    parser.add_argument(
        "adapter",
        nargs="?",
        default=DEFAULT_ADAPTER,
        metavar="DIR",
        help=f"folder of the adapter (default: {DEFAULT_ADAPTER})",
    )


def _add_run_arguments(parser: Parser, settings: Iterable[SettingField]) -> None:
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
    _add_setting_flags(parser, settings)


def _add_setting_flags(parser: Parser, settings: Iterable[SettingField]) -> None:
    """Add a flag per setting, grouped by section, explained by the setting's own words."""
    groups: dict[str, Any] = {}
    for item in settings:
        if item.section not in groups:
            groups[item.section] = parser.add_argument_group(f"[{item.section}]")
        names = [item.flag]
        if _is_switch(item):
            names.append(f"--no-{item.flag.removeprefix('--')}")
        groups[item.section].add_argument(
            *names,
            action=SettingAction,
            setting=item,
            nargs=0 if _is_switch(item) else None,
            metavar=None if _is_switch(item) else _describe_value(item),
            help=_describe(item),
        )


class SettingAction(argparse.Action):
    """Collect a setting's value in `overrides`, section by section."""

    def __init__(self, setting: SettingField, **options: Any) -> None:  # noqa: ANN401 - argparse's
        super().__init__(**{**options, "dest": argparse.SUPPRESS})
        self.setting = setting

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        """Convert the value and keep it."""
        item = self.setting
        overrides: Overrides = {name: {**table} for name, table in namespace.overrides.items()}
        section = overrides.setdefault(item.section, {})
        if _is_switch(item):
            section[item.name] = not str(option_string).startswith("--no-")
        elif item.kind_is_table:
            section[item.name] = {**section.get(item.name, {}), **_parse_option(item, str(values))}
        else:
            section[item.name] = parse_flag_value(item, str(values))
        namespace.overrides = overrides


def _parse_option(item: SettingField, text: str) -> dict[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise SettingsError(f"{item.flag} is {text!r}, but must be name=value.")
    try:
        return {name: tomllib.loads(f"value = {value}")["value"]}
    except tomllib.TOMLDecodeError:
        return {name: value}


def _is_switch(item: SettingField) -> bool:
    return item.kind is bool or typing.get_args(item.kind)[:1] == (bool,)


def _describe(item: SettingField) -> str:
    default = ",".join(item.default) if isinstance(item.default, tuple) else item.default
    words = item.explanation.replace("%", "%%")
    is_set = default is not None and default != {} and not isinstance(default, bool)
    if isinstance(default, bool) and _is_switch(item):
        return f"{words} (default: {'on' if default else 'off'})"
    return f"{words} (default: {default})" if is_set else words


def _describe_value(item: SettingField) -> str:
    """Return what stands for the value in the help, such as N|full."""
    names = {int: "N", float: "X", str: "TEXT"}
    words: list[str] = []
    for kind in list_kinds(item.kind):
        if typing.get_origin(kind) is typing.Literal:
            words += typing.get_args(kind)
        elif typing.get_origin(kind) is tuple:
            words.append(f"{names[typing.get_args(kind)[0]]},...")
        elif kind in names:
            words.append(names[kind])
    return "NAME=VALUE" if item.kind_is_table else "|".join(words)


def _list_flags(parser: argparse.ArgumentParser, command: str) -> list[str]:
    commands = next(a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    return list(commands.choices[command]._option_string_actions)


def build_console() -> "Console":
    """Return the console that everything is shown on."""
    from rich.console import Console

    return Console(highlight=False)


def _load_run_settings(parsed: argparse.Namespace) -> Settings | None:
    """Return the run's settings, or None after printing them for --dry-run."""
    settings = load_settings(parsed.preset, parsed.config, parsed.overrides)
    if not parsed.dry_run:
        return settings
    import tomli_w

    print(tomli_w.dumps(settings.as_tables()), end="")  # noqa: T201 - the console is written here
    return None


def run_all(parsed: argparse.Namespace) -> None:
    """`peft-sentiment run`."""
    if settings := _load_run_settings(parsed):
        from peft_sentiment.pipeline import run_pipeline

        run_pipeline(settings, build_console())


def run_training(parsed: argparse.Namespace) -> None:
    """`peft-sentiment train`."""
    if settings := _load_run_settings(parsed):
        from peft_sentiment import pipeline

        pipeline.run_training(settings, build_console())


def run_evaluation(parsed: argparse.Namespace) -> None:
    """`peft-sentiment evaluate`."""
    from peft_sentiment.saved_runs import evaluate_adapter

    output = Path(parsed.output) if parsed.output else None
    evaluate_adapter(Path(parsed.adapter), parsed.overrides, build_console(), output)


def run_comparison(parsed: argparse.Namespace) -> None:
    """`peft-sentiment compare`."""
    settings = load_settings(overrides=parsed.overrides).evaluation
    from peft_sentiment.saved_runs import compare_runs

    compare_runs([Path(run) for run in parsed.runs], build_console(), settings)


def run_prediction(parsed: argparse.Namespace) -> None:
    """`peft-sentiment predict`."""
    from peft_sentiment.data.texts import collect_texts

    text_column = load_settings(overrides=parsed.overrides).data.text_column
    texts = collect_texts(parsed.texts, parsed.file, text_column, sys.stdin)
    output = Path(parsed.output) if parsed.output else None
    from peft_sentiment.labelling import predict_texts

    predict_texts(Path(parsed.adapter), texts, parsed.overrides, build_console(), output)


def run_demo(parsed: argparse.Namespace) -> None:
    """`peft-sentiment demo`."""
    from peft_sentiment.labelling import load_classifier
    from peft_sentiment.serving.demo import ask_for_reviews, show_samples

    console = build_console()
    classifier = load_classifier(Path(parsed.adapter), parsed.overrides)
    show_samples(console, classifier)
    if console.is_terminal and sys.stdin.isatty():
        ask_for_reviews(console, classifier)


def run_doctor(parsed: argparse.Namespace) -> None:
    """`peft-sentiment doctor`."""
    from peft_sentiment.diagnosis import show_diagnosis

    show_diagnosis(build_console())


if __name__ == "__main__":
    sys.exit(main())
