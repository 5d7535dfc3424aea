"""TOML values, and what is typed after flags, as the types that settings have."""

import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, Literal

from peft_sentiment.errors import SettingsError


def convert(kind: Any, value: Any, where: str) -> Any:  # noqa: ANN401 - any setting's type
    """Convert a TOML value, or the text of a flag, to a setting's type."""
    options = list_kinds(kind)
    is_unset = types.NoneType in options and may_be_tuple(kind) and value in ([], ())
    if is_unset:  # TOML has no word for it, and a list that may be unset is never empty.
        return None
    for option in options:
        try:
            return _CONVERTERS[typing.get_origin(option) or option](option, value)
        except (TypeError, ValueError):
            continue
    raise SettingsError(f"{where} is {value!r}, but must be {describe_kind(kind)}.")


def list_kinds(kind: Any) -> list[Any]:  # noqa: ANN401 - any setting's type
    """Return the types that a setting may have, in the order in which to try them."""
    if isinstance(kind, types.UnionType) or typing.get_origin(kind) is typing.Union:
        # str takes any text, so it is tried last.
        return sorted(typing.get_args(kind), key=lambda option: option is str)
    return [kind]


def may_be_tuple(kind: Any) -> bool:  # noqa: ANN401 - any setting's type
    """Tell whether a setting may be a list."""
    return any(typing.get_origin(option) is tuple for option in list_kinds(kind))


def _accept(value: Any, is_valid: bool) -> Any:  # noqa: ANN401 - any setting's type
    if not is_valid:
        raise ValueError
    return value


def _convert_number(kind: Any, value: Any) -> Any:  # noqa: ANN401 - any setting's type
    is_exact = not isinstance(value, float) or kind is float
    return kind(_accept(value, is_exact and not isinstance(value, bool)))


def _convert_bool(_kind: Any, value: Any) -> Any:  # noqa: ANN401 - any setting's type
    value = {"true": True, "false": False}.get(value, value)
    return _accept(value, isinstance(value, bool))


def _convert_tuple(kind: Any, value: Any) -> Any:  # noqa: ANN401 - any setting's type
    items = [item.strip() for item in value.split(",")] if isinstance(value, str) else value
    _accept(items, isinstance(items, list | tuple))
    item_kind = typing.get_args(kind)[0]
    return tuple(_CONVERTERS[item_kind](item_kind, item) for item in items)


_CONVERTERS: dict[Any, Callable[[Any, Any], Any]] = {
    int: _convert_number,
    float: _convert_number,
    bool: _convert_bool,
    str: lambda _, value: _accept(value, isinstance(value, str)),
    tuple: _convert_tuple,
    dict: lambda _, value: dict(_accept(value, isinstance(value, Mapping))),
    Literal: lambda kind, value: _accept(value, value in typing.get_args(kind)),
    types.NoneType: lambda _, value: _accept(value, value is None),
}


def describe_kind(kind: Any) -> str:  # noqa: ANN401 - any setting's type
    """Return a setting's type in words, such as 'a whole number or "full"'."""
    names = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}
    words = []
    for option in list_kinds(kind):
        origin = typing.get_origin(option)
        if option is type(None):
            continue
        if origin is Literal:
            words += [f'"{choice}"' for choice in typing.get_args(option)]
        elif origin is tuple:
            words.append("a list, with commas between")
        elif origin is dict:
            words.append("a table of name=value")
        else:
            words.append(names[option])
    return " or ".join(words)
