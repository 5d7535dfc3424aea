"""Train, validation and test reviews of the sizes asked for, drawn by one seed.

The test reviews are drawn first and the training reviews last, from one shuffled order, so runs
that differ in train_size alone are tested on the same reviews, and train on ever more of the same.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from peft_sentiment.config import DataSettings, Settings
from peft_sentiment.data.checks import find_seen_texts
from peft_sentiment.errors import DataError, SettingsError
from peft_sentiment.records import Reviews, SourceData, Splits

_DRAWING_ORDER = ("test", "validation", "train")


def split_reviews(source: SourceData, settings: DataSettings, seed: int) -> Splits:
    """Draw train, validation and test reviews.

    Parts that the source does not have are split off from its training reviews.

    Raises:
        DataError: there are fewer reviews than asked for, a label has no training review, or the
            test reviews have one label only.
        SettingsError: two parts are to take all that is left of the same reviews.
    """
    generator = np.random.default_rng(seed)
    own = {"train": source.train, "validation": source.validation, "test": source.test}
    drawn: dict[str, Reviews] = {}
    for pool_name, pool in own.items():
        if pool is None:
            continue
        order = generator.permutation(len(pool))
        takers = [n for n in _DRAWING_ORDER if n == pool_name or _shares(n, pool_name, own)]
        sizes = {name: getattr(settings, f"{name}_size") for name in takers}
        drawn |= {name: pool.take(indices) for name, indices in _deal(order, sizes).items()}
    splits = Splits(
        name=source.name,
        sha256=source.sha256,
        label_names=source.label_names,
        train=drawn["train"],
        validation=drawn["validation"],
        test=drawn["test"],
        duplicates_removed=source.duplicates_removed,
    )
    _check_labels(splits)
    return splits


def draw_unseen_reviews(
    source: SourceData, trained_with: Settings, seen: NDArray[np.uint64], size: int | str
) -> Reviews:
    """Draw reviews that a training has not seen from what it drew from.

    Its own test reviews come first, in their order; then the others that it left, so that more
    can be asked for than the training itself was tested on.

    Args:
        source: the data of the training, which may have changed since.
        trained_with: settings of the training.
        seen: fingerprints of the reviews it was trained and validated on.
        size: reviews to draw, or `full` for all.

    Raises:
        DataError: there are not as many.
    """
    pool = source.train if source.test is None else source.test
    tested = split_reviews(source, trained_with.data, trained_with.training.seed).test.texts
    places = {text: place for place, text in enumerate(pool.texts)}
    first = [places[text] for text in tested]
    others = np.random.default_rng(trained_with.training.seed).permutation(len(pool)).tolist()
    barred = set(find_seen_texts(pool.texts, seen).tolist())
    order = [place for place in dict.fromkeys([*first, *others]) if place not in barred]
    if size != "full" and int(size) > len(order):
        raise DataError(
            f"{int(size):,} test reviews are asked for, but the training left {len(order):,} of "
            f"{source.name}. Lower --test-size, or name others with --test-file."
        )
    return pool.take(order if size == "full" else order[: int(size)])


def _shares(name: str, pool_name: str, own: Mapping[str, Reviews | None]) -> bool:
    """Return whether a part without reviews of its own draws from this pool."""
    return pool_name == "train" and own[name] is None


def _deal(order: NDArray[np.int64], sizes: Mapping[str, int | str]) -> dict[str, NDArray[np.int64]]:
    """Cut a shuffled order into parts: sizes in numbers first, then the one that takes the rest."""
    full = [name for name, size in sizes.items() if size == "full"]
    if len(full) > 1:
        flags = " and ".join(f"{_flag(name)} full" for name in full)
        raise SettingsError(
            f"{flags}: both would take all reviews that are left. Give one of them as a number."
        )
    numbers = {name: int(size) for name, size in sizes.items() if size != "full"}
    needed = sum(numbers.values())
    if needed + len(full) > len(order):
        raise _too_few(numbers, full, len(order))
    ends = np.cumsum(list(numbers.values()), dtype=int)
    parts = dict(zip([*numbers, "rest"], np.split(order, ends), strict=True))
    rest = parts.pop("rest")
    return parts | dict.fromkeys(full, rest)


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


def _check_labels(splits: Splits) -> None:
    found = set(splits.train.labels)
    missing = [name for name in splits.label_names if name not in found]
    if missing:
        raise DataError(
            f"No review among the {len(splits.train):,} training reviews has the label "
            f"{' or '.join(missing)}. Raise --train-size, or remove the label from the data and "
            "from --label-names."
        )
    if len(set(splits.test.labels)) < 2:
        raise DataError(
            f"All {len(splits.test):,} test reviews have the label {splits.test.labels[0]}, so "
            "they can't tell a good model from a bad one. Raise --test-size, or add test reviews "
            "with another label."
        )
