"""Flags made from the settings, and what all commands share."""

import argparse
import tomllib
import typing
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn

from peft_sentiment.config import SettingField, list_kinds, list_setting_fields, parse_flag_value
from peft_sentiment.errors import SettingsError

if typing.TYPE_CHECKING:
    from rich.console import Console

Overrides = dict[str, dict[str, Any]]
"""Section -> setting -> value, as given on the command line."""

DEFAULT_ADAPTER = "saved_peft_model"
DEFAULT_RUN = "peft_model_output"
REVIEW_FILES = "CSV, TSV, JSON, JSONL or Parquet file, or .txt with one a line"
SCORING_SETTINGS = ("device", "model_name_or_path", "model_revision", "per_device_eval_batch_size",
                    "bf16", "fp16", "deterministic", "calibrate", "use_companion", "min_precision",
                    "undecided_share")  # fmt: skip
TEXT_FILE_SETTINGS = ("text_column", "encoding", "delimiter", "skip_bad_rows")
TEST_DATA_SETTINGS = ("dataset_name", "dataset_config_name", "dataset_revision", "test_file",
                      "text_column", "label_column", "label_names", "encoding", "delimiter",
                      "skip_bad_rows", "test_size", "confidence_level")  # fmt: skip


class Parser(argparse.ArgumentParser):
    """A parser that takes no abbreviations and raises our error instead of exiting."""

    def __init__(self, **options: Any) -> None:  # noqa: ANN401 - argparse's own options
        super().__init__(**options, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        """Raise what argparse would print below a page of usage."""
        raise SettingsError(f"{message}. See: {self.prog} --help")


def add_command(
    commands: Any,  # noqa: ANN401 - argparse keeps this type to itself
    name: str,
    text: str,
    command: Callable[[argparse.Namespace], None],
) -> Parser:
    """Add a command and return its parser; `text` is its line in the help."""
    parser: Parser = commands.add_parser(
        name, help=text, description=f"{text[0].upper()}{text[1:]}."
    )
    parser.set_defaults(command=command, overrides={})
    return parser


def add_adapter_argument(parser: Parser) -> None:
    """Add the folder of the adapter, which may be left out."""
    parser.add_argument(
        "adapter",
        nargs="?",
        default=DEFAULT_ADAPTER,
        metavar="DIR",
        help=f"folder of the adapter (default: {DEFAULT_ADAPTER})",
    )


def add_adapters_argument(parser: Parser, text: str) -> None:
    """Add the folders of any number of adapters, which may be named; `text` is the help."""
    parser.add_argument(
        "adapters",
        nargs="*",
        default=[DEFAULT_ADAPTER],
        metavar="[NAME=]DIR",
        help=f"{text} (default: {DEFAULT_ADAPTER})",
    )


def add_run_folder(parser: Parser) -> None:
    """Add the output folder of a finished run, which may be left out."""
    parser.add_argument(
        "run",
        nargs="?",
        default=DEFAULT_RUN,
        metavar="RUN",
        help=f"output folder of the run (default: {DEFAULT_RUN})",
    )


def add_count_argument(parser: Parser, flag: str, default: int, text: str) -> None:
    """Add a whole number from 1 up; `text` is its help."""

    def parse(value: str) -> int:
        if not value.isdecimal() or int(value) < 1:
            raise SettingsError(f"{flag} is {value!r}, but must be a whole number from 1 up.")
        return int(value)

    parser.add_argument(
        flag, type=parse, default=default, metavar="N", help=f"{text} (default: {default})"
    )


def add_setting_flags(parser: Parser, settings: Iterable[SettingField]) -> None:
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


def list_settings(*names: str) -> list[SettingField]:
    """Return the settings of these names, in order of declaration."""
    return [item for item in list_setting_fields() if item.name in names]


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


def build_console(is_quiet: bool = False) -> "Console":
    """Return the console that everything is shown on; a quiet one shows nothing."""
    from rich.console import Console

    return Console(highlight=False, quiet=is_quiet)
