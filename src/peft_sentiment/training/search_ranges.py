"""What a search may vary: settings given as ranges.

An example is `training.learning_rate=1e-4..3e-3:log`. A range is `LOW..HIGH` or `LOW..HIGH:log`
for a number, or the values to choose from, with commas between, or with `|` between where the
values are lists themselves.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from peft_sentiment.config import SettingField, Settings, list_setting_fields, parse_flag_value
from peft_sentiment.errors import SettingsError, suggest

FLAG = "--range"
SECTIONS = ("data", "model", "adapter", "training")
DATA_SETTINGS = ("train_size", "max_length", "truncation", "window_length")
"""Settings of the data that leave the validation reviews as they are."""

FIXED = {
    "model.device": "it says where the model runs, not what it learns",
    "training.companion": "trials train the adapter alone",
    "training.seed": "it decides which reviews are the validation reviews",
    "training.metric_for_best_model": "it is what the trials are judged by",
    "training.load_best_model_at_end": "it decides which weights a trial is judged by",
    "training.eval_steps": "more validations would flatter a trial, whose best one counts",
    "training.logging_steps": "it changes nothing but the lines that are shown",
}
"""Settings that a search must leave alone, with the reason."""


@dataclass(frozen=True)
class SearchRange:
    """A setting with the values that it may take: an interval, or else choices.

    Attributes:
        text: as it was given.
        low, high: ends of the interval, both included; None for choices.
        is_log: whether the interval is searched on a logarithmic scale.
        choices: the values as texts; empty for an interval.
    """

    setting: SettingField
    text: str
    low: float | None = None
    high: float | None = None
    is_log: bool = False
    choices: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Section and name of the setting, such as adapter.r."""
        return _name(self.setting)

    def convert(self, value: object) -> object:
        """Return a value of the range as the setting has it: choices are kept as texts."""
        return parse_flag_value(self.setting, str(value)) if self.choices else value


def parse_ranges(texts: Sequence[str], settings: Settings) -> tuple[SearchRange, ...]:
    """Read ranges as they are given on the command line, and check them against the settings.

    Args:
        texts: one range each.
        settings: of the search, which the ranges vary.

    Raises:
        SettingsError: there is none; one is malformed, names no setting or one that a search must
            leave alone, or has a value that the setting does not take; or a setting has two.
    """
    if not texts:
        raise SettingsError(
            f"There is nothing to search. Give one setting or more with {FLAG}, such as "
            f"{FLAG} training.learning_rate=1e-4..3e-3:log."
        )
    ranges = tuple(map(parse_range, texts))
    names = [item.name for item in ranges]
    for name in names:
        if names.count(name) > 1:
            raise SettingsError(f"{FLAG} {name} is given {names.count(name)} times; give it once.")
    for item in ranges:
        for value in (item.low, item.high) if not item.choices else item.choices:
            settings.updated(build_tables({item.name: item.convert(value)}), f"{FLAG} {item.text}")
    return ranges


def parse_range(text: str) -> SearchRange:
    """Read one range.

    Raises:
        SettingsError: as in `parse_ranges`.
    """
    name, equals, values = text.partition("=")
    if not equals or not values:
        raise SettingsError(
            f"{FLAG} {text}: a range is SETTING=LOW..HIGH, SETTING=LOW..HIGH:log or "
            "SETTING=VALUE,VALUE, such as adapter.r=4,8,16."
        )
    setting = _find_setting(name.strip())
    if ".." in values:
        return _parse_interval(setting, text, values)
    separator = "|" if "|" in values or _takes_lists(setting) else ","
    choices = tuple(choice.strip() for choice in values.split(separator))
    for choice in choices:
        _parse_value(setting, choice, text)
    if len(set(choices)) < max(2, len(choices)):
        raise SettingsError(f"{FLAG} {text}: name two values or more, each once.")
    return SearchRange(setting, text, choices=choices)


def build_tables(values: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return values by dotted name as section -> setting -> value."""
    tables: dict[str, dict[str, Any]] = {}
    for dotted, value in values.items():
        section, _, name = dotted.partition(".")
        tables.setdefault(section, {})[name] = value
    return tables


def _find_setting(name: str) -> SettingField:
    settings = {_name(item): item for item in list_setting_fields()}
    if name in settings and (reason := _find_objection(settings[name])):
        raise SettingsError(f"{FLAG} {name}: a search leaves this setting alone, because {reason}.")
    if name in settings:
        return settings[name]
    free = [dotted for dotted, item in settings.items() if not _find_objection(item)]
    named = [dotted for dotted in free if dotted.endswith(f".{name}")]
    hint = f"Did you mean {named[0]}?" if named else suggest(name, free)
    raise SettingsError(f"{FLAG} {name}: there is no such setting. {hint}")


def _find_objection(setting: SettingField) -> str | None:
    if setting.section not in SECTIONS:
        return "it does not change what is learned"
    if setting.section == "data" and setting.name not in DATA_SETTINGS:
        return "trials on other reviews can't be compared"
    if setting.kind_is_table:
        return "it is a table; set it for all trials with its own flag"
    return FIXED.get(_name(setting))


def _parse_interval(setting: SettingField, text: str, values: str) -> SearchRange:
    interval, colon, scale = values.partition(":")
    if colon and scale != "log":
        raise SettingsError(f"{FLAG} {text}: the only scale is :log, and {scale!r} is none.")
    low, high = (_parse_value(setting, end.strip(), text) for end in interval.split("..", 1))
    if not _is_number(low) or not _is_number(high):
        raise SettingsError(
            f"{FLAG} {text}: {_name(setting)} is no number, so name its values with commas between."
        )
    if low >= high:
        raise SettingsError(f"{FLAG} {text}: {low} must be below {high}.")
    if colon and low <= 0:
        raise SettingsError(
            f"{FLAG} {text}: a logarithmic scale must begin above 0. Raise {low}, or drop :log."
        )
    return SearchRange(setting, text, low, high, is_log=bool(colon))


def _parse_value(setting: SettingField, value: str, text: str) -> Any:  # noqa: ANN401 - any setting's type
    try:
        return parse_flag_value(setting, value)
    except SettingsError as error:
        raise SettingsError(
            f"{FLAG} {text}: {str(error).replace(setting.flag, _name(setting))}"
        ) from None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _takes_lists(setting: SettingField) -> bool:
    return "tuple" in str(setting.kind)


def _name(setting: SettingField) -> str:
    return f"{setting.section}.{setting.name}"
