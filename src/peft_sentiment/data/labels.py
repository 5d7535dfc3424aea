"""Labels: one name for each, whatever a file wrote, and one order for all reports."""

import math
import re
from collections.abc import Iterable, Sequence

from peft_sentiment.data.columns import shorten
from peft_sentiment.errors import BadRowError

_WHOLE_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,17})")
_WHOLE_FLOAT = re.compile(r"(-?[0-9]{1,18})\.0+")
_FRACTION = re.compile(r"-?[0-9]*\.[0-9]+")


def normalize_label(value: object, place: str) -> str:
    """Return a label as text: 1, 1.0 and " 1 " are "1", true is "true".

    Args:
        value: the label as a file holds it.
        place: file and line, for the message.

    Raises:
        BadRowError: there is no label, or it is neither a name nor a whole number.
    """
    match value:
        case bool():
            return str(value).lower()
        case int():
            return str(value)
        case float() if value.is_integer():
            return str(int(value))
        case float() if not math.isnan(value):
            raise _unfit(value, place)
        case str() if value.strip():
            return _normalize_name(value.strip(), place)
        case None | str() | float():
            raise BadRowError(place, "the label is missing. Add one, or remove the review.")
        case _:
            raise _unfit(value, place)


def _normalize_name(name: str, place: str) -> str:
    # CSV has no types: a column of whole numbers with one gap in it is often written as 1.0.
    if whole := _WHOLE_FLOAT.fullmatch(name):
        return str(int(whole[1]))
    if _FRACTION.fullmatch(name):
        raise _unfit(float(name), place)
    return name


def _unfit(value: object, place: str) -> BadRowError:
    return BadRowError(
        place,
        f"label {shorten(value)} is no label: it must be a name or a whole number. "
        "Correct the row, or name another column with --label-column.",
    )


def name_label(label: str, label_names: Sequence[str], place: str) -> str:
    """Return the name that the settings give a label: itself, or the name of that number.

    Names that are numbers themselves name no numbers: with the names 1 and 2, label 1 is "1".

    Raises:
        BadRowError: the settings have no name for it.
    """
    if label in label_names:
        return label
    counts_from_zero = not any(map(_WHOLE_NUMBER.fullmatch, label_names))
    if counts_from_zero and _WHOLE_NUMBER.fullmatch(label) and 0 <= int(label) < len(label_names):
        return label_names[int(label)]
    numbers = f" and not a number from 0 to {len(label_names) - 1}" if counts_from_zero else ""
    raise BadRowError(
        place,
        f"label {shorten(label)!r} is not one of {', '.join(label_names)}{numbers}. "
        "Correct the row, or add the label to --label-names.",
    )


def order_labels(labels: Iterable[str]) -> tuple[str, ...]:
    """Return each label once: numbers by size, or else names by the alphabet.

    So negative stands before positive, and neg before pos, however they are capitalised.
    """
    unique = set(labels)
    if all(map(_WHOLE_NUMBER.fullmatch, unique)):
        return tuple(sorted(unique, key=int))
    return tuple(sorted(unique, key=lambda label: (label.casefold(), label)))
