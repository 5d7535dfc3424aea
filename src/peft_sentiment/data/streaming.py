"""Reviews that do not fit in memory: found, read into files on disk, and split.

Test and validation reviews are those whose fingerprints come first in an order that the seed
decides. Equal texts have equal fingerprints, so they fall on one side. The split does not depend on
the order of the rows or on the names of the files.

Shapes: N rows of a part of the source.
"""

import dataclasses
import glob
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from peft_sentiment.config import DataSettings
from peft_sentiment.data.arrow_files import Labels, Texts
from peft_sentiment.data.bad_rows import BadRows
from peft_sentiment.data.dealing import choose_sizes, deal_sizes
from peft_sentiment.data.dialect import Dialect
from peft_sentiment.data.files import find_format, iterate_rows
from peft_sentiment.data.hub_streams import stream_hub_splits
from peft_sentiment.data.labels import build_unknown_error, order_found_labels, require_two_labels
from peft_sentiment.data.pools import Pool, SourceFile, Told, open_pool
from peft_sentiment.data.sources import refuse_lone_files, refuse_pipes
from peft_sentiment.data.split import require_labels
from peft_sentiment.data.utf8 import build_read_error, estimate_bytes
from peft_sentiment.errors import DataError
from peft_sentiment.files import compute_sha256
from peft_sentiment.records.reviews import Reviews, Splits

PARTS = ("test", "validation", "train")
"""In the order in which they draw, and in which they keep a text that several of them have."""

_EXAMPLES = 3
_PARQUET_ENDINGS = (".parquet", ".pq")

Rows = NDArray[np.int64]
"""(n,), numbers of rows of a part."""


@dataclasses.dataclass(frozen=True)
class StreamedSplits:
    """Splits of which the training reviews are on disk.

    Attributes:
        splits: validation and test reviews in memory; texts and labels of the training reviews are
            read from disk, or made of numbers, when they are asked for.
        pool: the source that the training reviews come from.
        train_rows: of the pool, in its order.
    """

    splits: Splits
    pool: Pool
    train_rows: Rows


def load_streamed(settings: DataSettings, seed: int, root: Path, told: Told) -> StreamedSplits:
    """Read the source that the settings name into files on disk, or find them there; split it.

    Args:
        settings: of the data.
        seed: decides which rows are held out.
        root: folder of the files.
        told: hears of the progress.

    Raises:
        DataError: a file, row or label is missing or malformed, parts share texts, or there are
            fewer reviews than asked for.
        HubError: the hub can't be reached, or does not have the data set.
        OutputError: there is no room on disk.
        SettingsError: there is a validation or test file, but no train file.
    """
    refuse_lone_files(settings)
    if settings.train_file is None:
        return _load_hub(settings, seed, root, told)
    found = {
        name: [list_files(entry) for entry in _list_entries(settings, name)]
        for name in ("train", "validation", "test")
        if getattr(settings, f"{name}_file") is not None
    }
    pools = {
        name: _open_files(root, of_entries, settings, told) for name, of_entries in found.items()
    }
    if settings.train_file_weights is not None:
        pairs = zip(settings.train_file_weights, found["train"], strict=True)
        weights = tuple(weight for weight, paths in pairs for _ in paths)
        pools["train"] = dataclasses.replace(pools["train"], weights=weights)
    rows = {name: _drop_duplicates(pool) for name, pool in pools.items()}
    _refuse_shared_texts(pools, rows)
    every = [path for of_entries in found.values() for paths in of_entries for path in paths]
    sha256 = compute_sha256(*every)
    return _split(", ".join(settings.train_file), sha256, pools, rows, settings, seed, None)


def _list_entries(settings: DataSettings, name: str) -> tuple[str, ...]:
    given = getattr(settings, f"{name}_file")
    return (given,) if isinstance(given, str) else tuple(given)


def _open_files(
    root: Path, of_entries: Sequence[Sequence[Path]], settings: DataSettings, told: Told
) -> Pool:
    paths = [path for of_entry in of_entries for path in of_entry]
    refuse_pipes(paths)
    files = [_describe_file(path, settings) for path in paths]
    try:
        sha256 = compute_sha256(*paths)
    except OSError as error:
        raise build_read_error(Path(str(error.filename)), error) from error
    return open_pool(root, files, sha256, settings, told)


def list_files(entry: str) -> list[Path]:
    """Return the files that a path, a folder of Parquet files or a glob stands for, in order.

    Raises:
        DataError: there is none.
    """
    path = Path(entry)
    if path.is_dir():
        found = [file for file in path.rglob("*") if file.suffix.lower() in _PARQUET_ENDINGS]
        if not found:
            raise DataError(f"{entry}: there are no Parquet files in this folder or below it.")
        return sorted(found)
    if path.exists() or not glob.has_magic(entry):
        return [path]
    matches = sorted(Path(name) for name in glob.glob(entry, recursive=True))
    found = [file for file in matches if file.is_file()]
    if not found:
        raise DataError(f"{entry}: no file fits this pattern. It is relative to {Path.cwd()}.")
    return found


def _describe_file(path: Path, settings: DataSettings) -> SourceFile:
    # The file is looked at now: one that is missing is told before any is read.
    columns = [settings.text_column, settings.label_column]
    dialect = Dialect.of(settings)
    iterate_rows(path, columns)
    return SourceFile(
        name=str(path),
        unit=find_format(path).unit,
        read=lambda bad: (
            (number, text, label)
            for number, (text, label) in iterate_rows(path, columns, bad=bad, dialect=dialect)
        ),
        bytes=_count_text_bytes(path, settings.text_column),
    )


def _count_text_bytes(path: Path, column: str) -> int:
    """Return what the texts of a file take: as its footer says, or else as much as the file."""
    if path.suffix.lower() not in _PARQUET_ENDINGS:
        return estimate_bytes(path)
    import pyarrow as pa
    from pyarrow import parquet

    try:
        footer = parquet.read_metadata(path)
        groups = [footer.row_group(number) for number in range(footer.num_row_groups)]
        chunks = [group.column(number) for group in groups for number in range(group.num_columns)]
        return sum(c.total_uncompressed_size for c in chunks if c.path_in_schema == column)
    except (pa.ArrowException, OSError, UnicodeDecodeError):
        return 0  # Reading it tells what is wrong with it.


def _load_hub(settings: DataSettings, seed: int, root: Path, told: Told) -> StreamedSplits:
    found = stream_hub_splits(settings)
    pools = {
        name: open_pool(
            root,
            [SourceFile(split.name, "row", split.read, split.bytes)],
            found.commit,
            settings,
            told,
        )
        for name, split in found.splits.items()
    }
    rows = {name: _drop_duplicates(pool) for name, pool in pools.items()}
    # The hub's own parts share a few texts, which no user can mend.
    for name, other in _list_pairs(pools):
        shared = np.isin(
            pools[other].fingerprints[rows[other]], pools[name].fingerprints[rows[name]]
        )
        rows[other] = rows[other][~shared]
    name = settings.dataset_name
    return _split(name, found.commit, pools, rows, settings, seed, found.label_names)


def _list_pairs(pools: Mapping[str, Pool]) -> list[tuple[str, str]]:
    """Return every two parts, first the one that keeps a text which both have."""
    names = [name for name in PARTS if name in pools]
    return [(one, other) for place, one in enumerate(names) for other in names[place + 1 :]]


def _drop_duplicates(pool: Pool) -> Rows:
    """Return the rows that stay: of equal texts the first, and none where their labels differ."""
    order = np.argsort(pool.fingerprints, kind="stable")
    ordered = pool.fingerprints[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    labels = pool.labels[order]
    agree = np.minimum.reduceat(labels, starts) == np.maximum.reduceat(labels, starts)
    return np.sort(order[starts[agree]])


def _refuse_shared_texts(pools: Mapping[str, Pool], rows: Mapping[str, Rows]) -> None:
    """Check that no two parts have a text in common.

    Raises:
        DataError: two do; the message names the first of them in both parts.
    """
    for name, other in _list_pairs(pools):
        one, two = pools[name], pools[other]
        _, mine, theirs = np.intersect1d(
            one.fingerprints[rows[name]], two.fingerprints[rows[other]], return_indices=True
        )
        if not len(mine):
            continue
        examples = "; ".join(
            f"{one.place(int(rows[name][i]))} is {two.place(int(rows[other][j]))}"
            for i, j in sorted(zip(mine.tolist(), theirs.tolist(), strict=True))[:_EXAMPLES]
        )
        raise DataError(
            f"{one.name} shares {len(mine):,} texts with {two.name} ({examples}). Scores on texts "
            "that are also trained on mean nothing: remove the shared texts from one of the two, "
            f"or leave {one.name} out to split its reviews off from the training reviews."
        )


def _split(
    name: str,
    sha256: str,
    pools: Mapping[str, Pool],
    rows: dict[str, Rows],
    settings: DataSettings,
    seed: int,
    own_order: Sequence[str] | None,
) -> StreamedSplits:
    duplicates = sum(len(pool) - len(rows[part]) for part, pool in pools.items())
    train = pools["train"]
    found = [train.label_names[number] for number in np.unique(train.labels[rows["train"]])]
    require_two_labels(train.name, found)
    label_names = settings.label_names or order_found_labels(found, own_order)
    bad = BadRows(settings.skip_bad_rows)
    bad.found += [row for pool in pools.values() for row in pool.skipped]
    for part in pools:
        rows[part] = _take_known_labels(pools[part], rows[part], label_names, bad)
    dealt, is_small = _deal(pools, rows, settings, seed)
    reviews = {
        part: _build_reviews(pools[origin], taken, label_names)
        for part, (origin, taken) in dealt.items()
    }
    splits = Splits(
        name=name,
        sha256=sha256,
        label_names=label_names,
        train=reviews["train"],
        validation=_hold(reviews["validation"]),
        test=_hold(reviews["test"]),
        duplicates_removed=duplicates,
        is_small=is_small,
        skipped=tuple(bad.found),
    )
    require_labels(splits)
    return StreamedSplits(splits, pools["train"], dealt["train"][1])


def _take_known_labels(pool: Pool, rows: Rows, label_names: Sequence[str], bad: BadRows) -> Rows:
    """Return the rows whose labels the training reviews have."""
    is_known = np.array([name in label_names for name in pool.label_names], np.bool_)
    keep = is_known[pool.labels[rows]]
    found_before = len(bad.found)
    for row in rows[~keep].tolist():
        label = pool.label_names[pool.labels[row]]
        bad.meet(build_unknown_error(pool.place(row), label, label_names))
    bad.require_rest(pool.name, int(keep.sum()), found_before)
    return rows[keep]


def _deal(
    pools: Mapping[str, Pool], rows: Mapping[str, Rows], settings: DataSettings, seed: int
) -> tuple[dict[str, tuple[str, Rows]], bool]:
    """Return the part that each part's reviews come from and their rows of it.

    The second value is whether the source was too small for the usual sizes.
    """
    if settings.train_size == "auto":
        settings = dataclasses.replace(settings, train_size="full")
    dealt: dict[str, tuple[str, Rows]] = {}
    is_small = False
    for origin, pool in pools.items():
        takers = [n for n in PARTS if n == origin or (origin == "train" and n not in pools)]
        own = rows[origin]
        sizes, is_too_small = choose_sizes(settings, takers, origin != "train", len(own))
        is_small |= is_too_small and origin == "train"
        left = own[np.argsort(_mix(pool.fingerprints[own], seed))]
        for part, size in deal_sizes(sizes, len(left)).items():
            # In the order of the source, where the rows lie near each other on disk.
            taken = np.sort(left[:size]) if part == "train" else left[:size]
            dealt[part], left = (origin, taken), left[size:]
    return dealt, is_small


def _mix(fingerprints: NDArray[np.uint64], seed: int) -> NDArray[np.uint64]:
    """Return a number for each that looks like chance, another for every seed (splitmix64)."""
    start = np.random.SeedSequence(seed).generate_state(1, np.uint64)
    mixed = fingerprints ^ start
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    result: NDArray[np.uint64] = mixed ^ (mixed >> np.uint64(31))
    return result


def _build_reviews(pool: Pool, rows: Rows, label_names: Sequence[str]) -> Reviews:
    places = {name: place for place, name in enumerate(label_names)}
    # A label that is none of them has no row here.
    numbers = np.array([places.get(name, -1) for name in pool.label_names], np.int32)
    texts = Texts(pool.texts.column, rows, pool.fingerprints[rows])
    weights = pool.weigh(rows)
    return Reviews(
        texts,
        Labels(numbers[pool.labels[rows]], label_names),
        weights=typing.cast(Sequence[float] | None, weights),
    )


def _hold(reviews: Reviews) -> Reviews:
    """Return the same reviews in memory."""
    return Reviews(list(reviews.texts), list(reviews.labels))
