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
from peft_sentiment.config.tree import SECTIONS


@dataclass(frozen=True)
class SettingField:
    """One setting as flags, help and reference need it."""

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
    return tuple(
        item for section, type_ in SECTIONS.items() for item in read_setting_fields(section, type_)
    )


def read_setting_fields(section: str, settings_type: type) -> tuple[SettingField, ...]:
    """Return the settings that a record declares, in its order."""
    kinds, texts = typing.get_type_hints(settings_type), _read_explanations(settings_type)
    return tuple(
        SettingField(section, item.name, kinds[item.name], _get_default(item), texts[item.name])
        for item in dataclasses.fields(settings_type)
    )


def _get_default(item: dataclasses.Field[Any]) -> Any:  # noqa: ANN401 - a setting of any type
    if item.default_factory is not dataclasses.MISSING:
        return item.default_factory()
    return item.default


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
