"""Labels: one name for each, whatever a file wrote, and one order for all reports."""

import itertools
import math
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches

from peft_sentiment.data.columns import name_some, shorten
from peft_sentiment.errors import BadRowError, DataError

_WHOLE_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,17})")
_WHOLE_FLOAT = re.compile(r"(-?[0-9]{1,18})\.0+")
_FRACTION = re.compile(r"-?[0-9]*\.[0-9]+")

_MISSING = frozenset({"nan", "<na>", "#n/a", "null"})
"""What pandas, R and spreadsheets write where a cell is empty, in small letters."""

_LIKE = 0.85
"""How much a name must be like another one to be taken for a slip of it (difflib's ratio)."""

_RARE = 20
"""Times that a name must be rarer than the one of which it is taken for a slip."""


def normalize_label(value: object, place: str) -> str:
    """Return a label as text: 1, 1.0 and " 1 " are "1", true is "true", NaN is none.

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
    if name.casefold() in _MISSING:
        raise BadRowError(
            place,
            f"the label is {name}, which is written where one is missing. Add one, or remove the "
            "review.",
        )
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
        f"label {shorten(label)!r} is not one of {name_some(label_names)}{numbers}. "
        "Correct the row; for training, the label may be added to --label-names.",
    )


def order_labels(labels: Iterable[str]) -> tuple[str, ...]:
    """Return each label once: numbers by size, or else names by the alphabet.

    So negative stands before positive, and neg before pos, however they are capitalised.
    """
    unique = set(labels)
    if all(map(_WHOLE_NUMBER.fullmatch, unique)):
        return tuple(sorted(unique, key=int))
    return tuple(sorted(unique, key=lambda label: (label.casefold(), label)))


def order_found_labels(labels: Iterable[str], own_order: Sequence[str] | None) -> tuple[str, ...]:
    """Return the labels that occur, in the data set's own order where it has one."""
    found = order_labels(labels)
    return found if own_order is None else tuple(name for name in own_order if name in found)


def require_two_labels(source: str, labels: Iterable[str]) -> None:
    """Check that there is something to tell apart.

    Args:
        source: of the training reviews.
        labels: of each of them.

    Raises:
        DataError: they have one label or none.
    """
    if len(found := set(labels)) < 2:
        raise DataError(
            f"{source}: training needs reviews of two labels or more, but there is only "
            f"{', '.join(found) or 'none'}. Add reviews with another label."
        )


def build_unknown_error(place: str, label: str, label_names: Sequence[str]) -> BadRowError:
    """Return what is told of a row with a label that no training review has."""
    return BadRowError(
        place,
        f"label {shorten(label)!r} is not one of the labels of the training reviews "
        f"({name_some(label_names)}). Correct the row, or add training reviews with this label.",
    )


def find_spellings(counts: Mapping[str, int]) -> dict[str, str]:
    """Return the labels that seem to be others written differently, with what they seem to be.

    Those are labels that differ from a more frequent one in capitals, spaces or the form of a
    character alone, and rare ones that differ in a letter or two and are no part of it.

    Args:
        counts: label -> rows with it.
    """
    by_count = sorted(counts, key=lambda label: (-counts[label], label))
    usual: dict[str, str] = {}
    found: dict[str, str] = {}
    for label in by_count:
        form = _fold(label)
        if likely := usual.get(form) or _find_slip(form, counts[label], usual, counts):
            found[label] = likely
        else:
            usual[form] = label
    return found


def _find_slip(
    form: str, count: int, usual: Mapping[str, str], counts: Mapping[str, int]
) -> str | None:
    """Return the much more frequent label of which a rare one is a slip, or None."""
    if not form.isalpha():
        return None
    # They come by how frequent they are: where every row has a label of its own, there is none.
    much_more = itertools.takewhile(lambda item: counts[item[1]] >= _RARE * count, usual.items())
    # "satisfied" is not a slip of "dissatisfied".
    frequent = [other for other, _ in much_more if other not in form and form not in other]
    nearest = get_close_matches(form, frequent, n=1, cutoff=_LIKE)
    return usual[nearest[0]] if nearest else None


def _fold(label: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", label).casefold().split())
