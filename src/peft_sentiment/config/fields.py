"""Each setting as flags, help and reference need it, with the words that stand below it."""

import ast
import dataclasses
import functools
import inspect
import itertools
import textwrap
import typing
from dataclasses import dataclass
from typing import Any

from peft_sentiment.config.conversion import convert
from peft_sentiment.config.tree import SECTIONS, load_settings


@dataclass(frozen=True)
class SettingField:
    """One setting as flags, help and reference need it.

    Attributes:
        default: what holds where nothing is said; of a run's settings, by the default preset.
    """

    section: str
    name: str
    kind: Any
    default: Any
    explanation: str

    @property
    def flag(self) -> str:
        """Its flag on the command line; one entry of a table a flag, hence no plural."""
        name = self.name.removesuffix("s") if self.kind_is_table else self.name
        return "--" + name.replace("_", "-")

    @property
    def kind_is_table(self) -> bool:
        """Whether its value is a table, given as name=value."""
        return typing.get_origin(self.kind) is dict


@functools.cache
def list_setting_fields() -> tuple[SettingField, ...]:
    """Return every setting of a run, in order of declaration."""
    defaults = load_settings()
    return tuple(
        item
        for section in SECTIONS
        for item in read_setting_fields(section, getattr(defaults, section))
    )


def read_setting_fields(section: str, defaults: Any) -> tuple[SettingField, ...]:  # noqa: ANN401
    """Return the settings that a record declares, in its order.

    Args:
        section: its name.
        defaults: the record, a section of any type, with the values that hold by default.
    """
    declared = type(defaults)
    kinds, texts = typing.get_type_hints(declared), _read_explanations(declared)
    return tuple(
        SettingField(section, name, kinds[name], getattr(defaults, name), texts[name])
        for name in (item.name for item in dataclasses.fields(declared))
    )


def _read_explanations(settings_type: type) -> dict[str, str]:
    """Read the strings that stand below the fields, which Python itself does not keep."""
    source = textwrap.dedent(inspect.getsource(settings_type))
    class_body = typing.cast("ast.ClassDef", ast.parse(source).body[0]).body
    explanations = {}
    for declaration, below in itertools.pairwise(class_body):
        match declaration, below:
            case (
                ast.AnnAssign(target=ast.Name(id=name)),
                ast.Expr(value=ast.Constant(value=str(text))),
            ):
                explanations[name] = " ".join(text.split())
    return explanations


def parse_flag_value(setting: SettingField, text: str) -> object:
    """Convert what was typed after a flag.

    Raises:
        SettingsError: the text is not a value of the setting's type.
    """
    return convert(setting.kind, text, setting.flag)
