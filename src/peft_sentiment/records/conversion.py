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


def _has_default(item: dataclasses.Field[Any]) -> bool:
    missing = dataclasses.MISSING
    return item.default is not missing or item.default_factory is not missing
