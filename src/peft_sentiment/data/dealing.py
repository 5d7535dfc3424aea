"""How the reviews of one pool are dealt to parts: whole groups, even labels, sizes that fit.

A unit is what must stay together: a group of reviews or, where there are no groups, one review.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from peft_sentiment.config import USUAL_SIZES, DataSettings
from peft_sentiment.errors import DataError, SettingsError
from peft_sentiment.records.reviews import Reviews

Unit = list[int]
"""Places of the reviews that must stay together."""

Size = int | str
"""Reviews of a part, or `full` for all that are left."""

_SMALL_SHARE = 0.1
"""Of a pool too small for the usual sizes: the share of each part but the one to train on."""

_SURE = 1.5
"""Units of a label that a part is to expect, from which it has one without further ado."""


def choose_sizes(
    settings: DataSettings, parts: Sequence[str], own: bool, found: int
) -> tuple[dict[str, Size], bool]:
    """Return the size of each part, and whether the pool was too small for the usual ones.

    Args:
        settings: sizes as they were asked for; `auto` for the usual ones, or less.
        parts: the parts that draw from the pool.
        own: whether it is the pool of a part of its own, which may be taken whole.
        found: reviews of the pool.
    """
    asked: dict[str, Size] = {name: getattr(settings, f"{name}_size") for name in parts}
    free = [name for name, size in asked.items() if size == "auto"]
    usual = asked | {name: USUAL_SIZES[name] for name in free}
    needed = sum(int(size) for size in usual.values() if size != "full")
    if not free or needed + sum(size == "full" for size in usual.values()) <= found:
        return usual, False
    if own:
        return asked | dict.fromkeys(free, "full"), True
    few = min(max(1, round(_SMALL_SHARE * found)), found)
    small: dict[str, Size] = {
        name: "full" if name == "train" else min(few, USUAL_SIZES[name]) for name in free
    }
    return asked | small, True


def arrange_units(
    reviews: Reviews, order: NDArray[np.int64], stratify: bool | None
) -> tuple[list[Unit], list[str]]:
    """Return the units in the order in which they are dealt, and the label of each.

    Stratified, the units of each label are spread evenly, so that any piece of the order has the
    labels in about the shares of the whole.

    Args:
        reviews: of the pool.
        order: (N,), places of its reviews, shuffled.
        stratify: whether to spread labels evenly; None to do so where they are unequal.
    """
    units = _gather_units(reviews, order)
    labels = [_find_label(reviews, unit) for unit in units]
    if not (is_unequal(reviews.labels) if stratify is None else stratify):
        return units, []
    counts, ranks, keys = Counter(labels), Counter[str](), []
    for label in labels:
        keys.append((ranks[label] + 0.5) / counts[label])
        ranks[label] += 1
    places = np.argsort(keys, kind="stable").tolist()
    return [units[place] for place in places], [labels[place] for place in places]


def is_unequal(labels: Sequence[str]) -> bool:
    """Tell whether the rarest label has less than half of an equal share."""
    counts = Counter(labels)
    return bool(counts) and min(counts.values()) < len(labels) / len(counts) / 2


def _gather_units(reviews: Reviews, order: NDArray[np.int64]) -> list[Unit]:
    if reviews.groups is None:
        return [[place] for place in order.tolist()]
    units: dict[str, Unit] = {}
    for place in order.tolist():
        units.setdefault(reviews.groups[place], []).append(place)
    return list(units.values())


def _find_label(reviews: Reviews, unit: Unit) -> str:
    if len(unit) == 1:
        return reviews.labels[unit[0]]
    return Counter(reviews.labels[place] for place in unit).most_common(1)[0][0]


def deal_units(
    units: Sequence[Unit], labels: Sequence[str], sizes: Mapping[str, Size]
) -> dict[str, list[int]]:
    """Deal units to parts: sizes in numbers first, then the one that takes all that are left.

    Args:
        units: in order.
        labels: of each, if each part is to begin with a unit of each label; or empty.
        sizes: part -> its size, in the order in which they draw.

    Raises:
        DataError: there are fewer reviews than asked for, or no group fits into a part.
        SettingsError: two parts are to take all that is left.
    """
    numbers, full = _sort_sizes(sizes, sum(map(len, units)))
    reserved = _reserve_units(labels, sizes)
    taken = {place for places in reserved.values() for place in places}
    left = [unit for place, unit in enumerate(units) if place not in taken]
    dealt: dict[str, list[int]] = {}
    for name in [*numbers, *full]:
        first = [units[place] for place in reserved[name]]
        size = numbers.get(name)
        dealt[name], rest = _fill([*first, *left], size)
        if not dealt[name] and size != 0:
            raise _nothing_fits(name, size, left)
        left = rest
    return dealt


def _nothing_fits(name: str, size: int | None, left: Sequence[Unit]) -> DataError:
    """Return what is told where groups stay whole, and none of those left is a part's."""
    if size is None or not left:
        found = f"none is left for {name}. Lower the sizes of the other parts"
    else:
        smallest = min(map(len, left))
        found = (
            f"none fits into {size:,} reviews for {name}: the smallest left has {smallest:,}. Give "
            f"{_flag(name)} {smallest} or more"
        )
    return DataError(f"Groups stay whole, and {found}, or leave --group-column out.")


def _reserve_units(labels: Sequence[str], sizes: Mapping[str, Size]) -> dict[str, list[int]]:
    """Return places of units that each part is to have, so that it lacks no label.

    They are chosen where the order alone would put them too: the first for the test, the last to
    train on. Only for validation one is taken out of its place, where its share is less than that.
    """
    reserved: dict[str, list[int]] = {name: [] for name in sizes}
    places: dict[str, list[int]] = {}
    for place, label in enumerate(labels):
        places.setdefault(label, []).append(place)
    for of_label in places.values():
        if "train" in sizes:
            reserved["train"].append(of_label[-1])
        if "test" in sizes and len(of_label) >= 2:
            reserved["test"].append(of_label[0])
        size = sizes.get("validation", 0)
        is_rare = size != "full" and int(size) * len(of_label) < _SURE * len(labels)
        if is_rare and size and len(of_label) >= 3:
            reserved["validation"].append(of_label[-2])
    return reserved


def _fill(units: Sequence[Unit], size: int | None) -> tuple[list[int], list[Unit]]:
    """Take the units that fit, in order; return their reviews and the units that are left."""
    taken: list[int] = []
    left: list[Unit] = []
    for unit in units:
        if size is None or len(taken) + len(unit) <= size:
            taken += unit
        else:
            left.append(unit)
    return taken, left


def deal_sizes(sizes: Mapping[str, Size], found: int) -> dict[str, int]:
    """Return how many reviews each part takes: sizes in numbers first, then what is left.

    Args:
        sizes: part -> its size, in the order in which they draw.
        found: reviews there are.

    Raises:
        DataError: there are fewer reviews than asked for.
        SettingsError: two parts are to take all that is left.
    """
    numbers, full = _sort_sizes(sizes, found)
    return numbers | dict.fromkeys(full, found - sum(numbers.values()))


def _sort_sizes(sizes: Mapping[str, Size], found: int) -> tuple[dict[str, int], list[str]]:
    full = [name for name, size in sizes.items() if size == "full"]
    if len(full) > 1:
        flags = " and ".join(f"{_flag(name)} full" for name in full)
        raise SettingsError(
            f"{flags}: both would take all reviews that are left. Give one of them as a number."
        )
    numbers = {name: int(size) for name, size in sizes.items() if size != "full"}
    if sum(numbers.values()) + len(full) > found:
        raise _too_few(numbers, full, found)
    return numbers, full


def _too_few(numbers: dict[str, int], full: Sequence[str], found: int) -> DataError:
    asked = [f"{size:,} for {name}" for name, size in numbers.items() if size]
    asked += [f"1 or more for {name}" for name in full]
    flags = [_flag(name) for name in reversed(numbers) if numbers[name]]
    advice = f"Lower {' or '.join(flags)}, or add reviews." if flags else "Add reviews."
    if flags and not full:
        advice += f" {flags[0]} full takes all that are left by the others."
    return DataError(
        f"{' and '.join(asked)} are asked for, but there are {found:,} reviews. {advice}"
    )


def _flag(name: str) -> str:
    return f"--{name}-size"
