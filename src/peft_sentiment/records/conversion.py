"""Records as JSON, and back."""

import dataclasses
import json
import math
import types
import typing
from typing import Any


def render_json(record: object) -> str:
    """Return a record as JSON; numbers that are not finite become null."""
    values = dataclasses.asdict(typing.cast("Any", record))
    return json.dumps(_without_nan(values), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _without_nan(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def build_record(kind: Any, value: Any) -> Any:  # noqa: ANN401 - any record
    """Build a record of a type from parsed JSON, nested records included."""
    if dataclasses.is_dataclass(kind):
        kinds = typing.get_type_hints(kind)
        fields = dataclasses.fields(kind)
        # A field with a default is younger than some of the files that lack it.
        given = [item for item in fields if item.name in value or not _has_default(item)]
        return kind(
            **{item.name: build_record(kinds[item.name], value[item.name]) for item in given}
        )  # type: ignore[operator]
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is tuple:
        item_kinds = arguments[:1] * len(value) if arguments[-1] is Ellipsis else arguments
        return tuple(map(build_record, item_kinds, value))
    if origin is dict and value is not None:
        return {key: build_record(arguments[1], item) for key, item in value.items()}
    if origin is types.UnionType and value is not None:
        return build_record(arguments[0], value)
    return value


def require_types(kind: Any, value: Any, name: str) -> None:  # noqa: ANN401 - any record
    """Check that a record built from a stranger's JSON holds what its fields say.

    Args:
        kind: type of the value.
        value: a record, or a part of one.
        name: of the value, for the message.

    Raises:
        TypeError: a value is of another type.
    """
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if dataclasses.is_dataclass(kind) and isinstance(value, typing.cast("type", kind)):
        for field, inner in typing.get_type_hints(kind).items():
            require_types(inner, getattr(value, field), field)
    elif origin is types.UnionType and value is not None:
        require_types(arguments[0], value, name)
    elif origin is tuple and isinstance(value, tuple):
        for item in value:
            require_types(arguments[0], item, name)
    elif origin is dict and isinstance(value, dict):
        for item in value.values():
            require_types(arguments[1], item, name)
    elif not _is_plain(kind, value):
        raise TypeError(f"{name} is {repr(value)[:60]}")


def _is_plain(kind: Any, value: Any) -> bool:  # noqa: ANN401 - any record
    if kind is Any or (typing.get_origin(kind) is types.UnionType and value is None):
        return True
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(kind, type) and type(value) is kind


def _has_default(item: dataclasses.Field[Any]) -> bool:
    missing = dataclasses.MISSING
    return item.default is not missing or item.default_factory is not missing
