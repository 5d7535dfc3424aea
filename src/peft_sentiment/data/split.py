"""Train, validation and test reviews of the sizes asked for, drawn by one seed.

The test reviews are drawn first and the training reviews last, from one shuffled order, so runs
that differ in train_size alone are tested on the same reviews, and train on ever more of the same.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from peft_sentiment.config import DataSettings, Settings
from peft_sentiment.data.checks import find_seen_texts
from peft_sentiment.data.columns import name_some
from peft_sentiment.data.dealing import arrange_units, choose_sizes, deal_units
from peft_sentiment.data.leakage import settle_near_duplicates
from peft_sentiment.errors import DataError
from peft_sentiment.records.reviews import Reviews, SourceData, Splits

_DRAWING_ORDER = ("test", "validation", "train")

MANY_LABELS = 20
"""From so many on, less than two training reviews a label mean that they are no labels."""


def split_reviews(source: SourceData, settings: DataSettings, seed: int) -> Splits:
    """Draw train, validation and test reviews.

    Parts that the source does not have are split off from its training reviews. Groups stay
    whole, so that parts may have a few reviews less than asked for; unequal labels are spread
    evenly.

    Raises:
        DataError: there are fewer reviews than asked for, a label has no training review, or the
            test reviews have one label only.
        SettingsError: two parts are to take all that is left of the same reviews.
    """
    generator = np.random.default_rng(seed)
    own = {"train": source.train, "validation": source.validation, "test": source.test}
    drawn: dict[str, Reviews] = {}
    is_small = False
    for pool_name, pool in own.items():
        if pool is None:
            continue
        order = generator.permutation(len(pool))
        takers = [n for n in _DRAWING_ORDER if n == pool_name or _shares(n, pool_name, own)]
        sizes, is_too_small = choose_sizes(settings, takers, pool_name != "train", len(pool))
        is_small |= is_too_small and pool_name == "train"
        units, labels = arrange_units(pool, order, settings.stratify)
        dealt = deal_units(units, labels, sizes)
        drawn |= {name: pool.take(places) for name, places in dealt.items()}
    splits = Splits(
        name=source.name,
        sha256=source.sha256,
        label_names=source.label_names,
        train=drawn["train"],
        validation=drawn["validation"],
        test=drawn["test"],
        duplicates_removed=source.duplicates_removed,
        is_small=is_small,
        skipped=source.skipped,
    )
    splits = settle_near_duplicates(splits, settings)
    require_labels(splits)
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
        size: reviews to draw, `full` for all, or `auto` for as many as its own test had.

    Raises:
        DataError: there are not as many.
    """
    pool = source.train if source.test is None else source.test
    tested = split_reviews(source, trained_with.data, trained_with.training.seed).test.texts
    places = {text: place for place, text in enumerate(pool.texts)}
    first = [places[text] for text in tested]
    others = np.random.default_rng(trained_with.training.seed).permutation(len(pool)).tolist()
    barred = set(find_seen_texts(pool.texts, seen).tolist())
    seen_groups = _list_groups(source.train, seen)
    barred |= {i for i, group in enumerate(pool.groups or ()) if group in seen_groups}
    order = [place for place in dict.fromkeys([*first, *others]) if place not in barred]
    if size == "auto":
        size = min(len(tested), len(order))
    if size != "full" and int(size) > len(order):
        raise DataError(
            f"{int(size):,} test reviews are asked for, but the training left {len(order):,} of "
            f"{source.name}. Lower --test-size, or name others with --test-file."
        )
    return pool.take(order if size == "full" else order[: int(size)])


def _shares(name: str, pool_name: str, own: Mapping[str, Reviews | None]) -> bool:
    """Return whether a part without reviews of its own draws from this pool."""
    return pool_name == "train" and own[name] is None


def _list_groups(train: Reviews, seen: NDArray[np.uint64]) -> set[str]:
    """Return the groups of the reviews that a training has seen."""
    if train.groups is None:
        return set()
    return {train.groups[place] for place in find_seen_texts(train.texts, seen).tolist()}


def are_no_labels(labels: int, reviews: int) -> bool:
    """Tell whether so many labels of so many reviews are none, but numbers or names."""
    return labels > MANY_LABELS and 2 * labels > reviews


def _refuse_no_labels(splits: Splits) -> None:
    """Check that the labels are not as many as the reviews, as in a column of numbers or names."""
    count, reviews = len(splits.label_names), len(splits.train)
    if are_no_labels(count, reviews):
        raise DataError(
            f"{splits.name}: there are {count:,} labels ({name_some(splits.label_names, most=3)}), "
            f"and {reviews:,} reviews to train on: that is no column of labels. Name another with "
            "--label-column."
        )


def require_labels(splits: Splits) -> None:
    """Check that training meets every label, and the test more than one.

    Raises:
        DataError: it does not.
    """
    found = set(splits.train.labels)
    missing = [name for name in splits.label_names if name not in found]
    if missing:
        _refuse_no_labels(splits)
        raise DataError(
            f"No review among the {len(splits.train):,} training reviews has the label "
            f"{name_some(missing, ' or ')}. Raise --train-size, or remove the label from the data "
            "and from --label-names."
        )
    if len(set(splits.test.labels)) < 2:
        raise DataError(
            f"All {len(splits.test):,} test reviews have the label {splits.test.labels[0]}, so "
            "they can't tell a good model from a bad one. Raise --test-size, or add test reviews "
            "with another label."
        )
