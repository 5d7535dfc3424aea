"""The tree of all settings: presets, TOML files and flags laid over the defaults."""

import dataclasses
import tomllib
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, Self

from peft_sentiment.config.conversion import convert, may_be_tuple
from peft_sentiment.config.data import DataSettings
from peft_sentiment.config.evaluation import EvaluationSettings, OutputSettings
from peft_sentiment.config.model import AdapterSettings, ModelSettings, require_settings_of_method
from peft_sentiment.config.requirements import require_known
from peft_sentiment.config.training import TrainingSettings
from peft_sentiment.errors import SettingsError

DEFAULT_PRESET = "quickstart"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All settings of one run."""

    data: DataSettings = field(default_factory=DataSettings)
    model: ModelSettings = field(default_factory=ModelSettings)
    adapter: AdapterSettings = field(default_factory=AdapterSettings)
    training: TrainingSettings = field(default_factory=TrainingSettings)
    evaluation: EvaluationSettings = field(default_factory=EvaluationSettings)
    output: OutputSettings = field(default_factory=OutputSettings)

    def updated(self, values: Mapping[str, Mapping[str, Any]], where: str) -> Self:
        """Return these settings with some of them replaced.

        Args:
            values: section name -> setting name -> value, as parsed from TOML or flags.
            where: what the values come from, named in errors.

        Raises:
            SettingsError: a section or setting is unknown, or a value malformed or out of range.
        """
        changed = {}
        for section, entries in values.items():
            require_known(section, list(SECTIONS), f"{where}: section [{section}]")
            if not isinstance(entries, Mapping):
                raise SettingsError(
                    f"{where}: {section} is {entries!r}, but must be a table of settings. "
                    f"Write it as [{section}] with one setting a line below it."
                )
            changed[section] = _replace_values(getattr(self, section), section, entries, where)
        return dataclasses.replace(self, **changed)

    def varied(self, values: Mapping[str, Mapping[str, Any]], where: str) -> Self:
        """Return these settings with some of them replaced, as `updated` does.

        A learning rate belongs to the method it was named with: where the values name another
        method and no rate, the rate is left to that method.

        Args:
            values: as for `updated`.
            where: as for `updated`.

        Raises:
            SettingsError: as `updated` does.
        """
        changed = self.updated(values, where)
        is_same = changed.adapter.method == self.adapter.method
        if is_same or "learning_rate" in values.get("training", {}):
            return changed
        return changed.updated({"training": {"learning_rate": 0.0}}, where)

    def as_tables(self) -> dict[str, dict[str, Any]]:
        """Return section -> setting -> value, ready for JSON and TOML.

        TOML has no word for what is unset: such a setting is left out, or an empty list where it
        would be one, so that a preset which sets it does not shine through.
        """
        tables: dict[str, dict[str, Any]] = {}
        for section, kinds in _KINDS.items():
            tables[section] = {}
            for name, value in dataclasses.asdict(getattr(self, section)).items():
                if isinstance(value, tuple) or (value is None and may_be_tuple(kinds[name])):
                    tables[section][name] = list(value or ())
                elif value is not None:
                    tables[section][name] = value
        return tables


SECTIONS: dict[str, type] = typing.get_type_hints(Settings)

_KINDS: dict[str, dict[str, Any]] = {
    name: typing.get_type_hints(section) for name, section in SECTIONS.items()
}
"""Section -> setting -> its type. Found once: a classifier asks at every call."""


def list_presets() -> list[str]:
    """Return the names of the presets in the package."""
    folder = resources.files("peft_sentiment") / "presets"
    return sorted(Path(item.name).stem for item in folder.iterdir() if item.name.endswith(".toml"))


def load_settings(
    preset: str = DEFAULT_PRESET,
    config_file: str | None = None,
    overrides: Mapping[str, Mapping[str, Any]] | None = None,
) -> Settings:
    """Build the settings of a run: defaults, then preset, then TOML file, then overrides.

    Raises:
        SettingsError: a preset, file or setting does not exist or is malformed.
    """
    require_known(preset, list_presets(), f"preset {preset!r}")
    preset_text = (resources.files("peft_sentiment") / "presets" / f"{preset}.toml").read_text()
    settings = Settings().updated(tomllib.loads(preset_text), f"preset {preset}")
    if config_file is not None:
        settings = settings.varied(_read_toml(Path(config_file)), config_file)
    settings = settings.varied(overrides or {}, "command line")
    # A file holds all settings, as --dry-run prints them; what is typed is meant.
    typed = (overrides or {}).get("adapter", {})
    require_settings_of_method(typed, settings.adapter.method, "command line")
    return settings


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(
            f"{path}: the settings file can't be read ({error.strerror}). "
            "Give the path of a TOML file with --config."
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(
            f"{path}: this is not valid TOML: {error}. Correct the file."
        ) from error


def _replace_values(section: Any, name: str, entries: Mapping[str, Any], where: str) -> Any:  # noqa: ANN401 - a section of any type
    kinds = _KINDS[name]
    values = {}
    for key, value in entries.items():
        require_known(key, list(kinds), f"{where}: setting {name}.{key}")
        values[key] = convert(kinds[key], value, f"{where}: {name}.{key}")
    try:
        return dataclasses.replace(section, **values)
    except SettingsError as error:
        raise SettingsError(f"{where}: {error}") from None
