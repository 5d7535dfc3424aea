"""Labelled reviews from files, from the packaged data sets or from the hub.

Every source gives the same: texts cleaned, each label a name, no text twice.
"""

import contextlib
import dataclasses
import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from peft_sentiment.config import DataSettings
from peft_sentiment.data.bad_rows import BadRows
from peft_sentiment.data.checks import (
    Part,
    clean_text,
    drop_duplicates,
    drop_shared_texts,
    join_parts,
    refuse_shared_groups,
    refuse_shared_texts,
)
from peft_sentiment.data.columns import Rows, shorten
from peft_sentiment.data.dialect import Dialect
from peft_sentiment.data.files import TEXTS, find_format, iterate_rows, read_rows
from peft_sentiment.data.hub import load_hub_rows
from peft_sentiment.data.labels import (
    build_unknown_error,
    name_label,
    normalize_label,
    order_found_labels,
    require_two_labels,
)
from peft_sentiment.data.packaged import PACKAGED_SHA256, read_packaged_rows
from peft_sentiment.errors import BadRowError, DataError, SettingsError
from peft_sentiment.files import compute_sha256
from peft_sentiment.records.reviews import Reviews, SourceData

# Parts in the order in which they keep a text that several of them have.
_PRECEDENCE = ("test", "validation", "train")


def load_reviews(settings: DataSettings) -> SourceData:
    """Load the reviews that the settings name: files, packaged reviews or a data set on the hub.

    Raises:
        DataError: a file, row or label is missing or malformed, files share texts, or there is
            only one label.
        HubError: the hub can't be reached, or does not have the data set.
        SettingsError: there is a validation or test file, but no train file; or the reviews are to
            be streamed.
    """
    if settings.streaming:
        raise SettingsError(
            "data.streaming is for run and train. Here reviews are held in memory: name a file of "
            "some that the training has not seen with --test-file, or leave --streaming out."
        )
    if settings.train_file is not None:
        return _load_files(settings, settings.train_file)
    if settings.group_column is not None:
        raise SettingsError("--group-column is for files: name one with --train-file, or leave it.")
    refuse_lone_files(settings)
    if settings.dataset_name.startswith("packaged/"):
        return _load_packaged(settings)
    return _load_hub(settings)


def refuse_lone_files(settings: DataSettings) -> None:
    """Check that there is no validation or test file without a train file.

    Raises:
        SettingsError: there is one.
    """
    for name in ("validation_file", "test_file"):
        if getattr(settings, name) is not None and settings.train_file is None:
            flag = "--" + name.replace("_", "-")
            raise SettingsError(f"{flag} is given without --train-file. Give both, or neither.")


def refuse_pipes(files: Iterable[Path]) -> None:
    """Check that files can be read more than once, as training does; a pipe would have no end.

    Raises:
        DataError: one is a pipe.
    """
    for file in files:
        with contextlib.suppress(OSError):  # what can't be looked at is told when it is read
            if file.is_fifo():
                raise DataError(
                    f"{file}: this is a pipe, and files to train on are read more than once. Write "
                    "what comes out of it into a file first."
                )


def iterate_text_rows(
    path: Path, settings: DataSettings, bad: BadRows | None = None
) -> Iterator[tuple[str, str]]:
    """Yield the texts of a file that needs no labels; of a .txt file, each line is one.

    They come in the file's order and cleaned, in memory that does not grow with the file. A missing
    file and an unknown ending are told at once, all else when it is reached.

    Args:
        path: a CSV, TSV, JSON Lines, Parquet or text file.
        settings: name the column of the texts, and say how the file is written.
        bad: meets the rows that can't be used; by default the first ends the reading.

    Returns:
        An iterator of the place of each text, such as 'reviews.csv, line 7', and the text.

    Raises:
        DataError: the file or a text is missing or malformed.
    """
    unit = find_format(path, TEXTS).unit
    bad = BadRows() if bad is None else bad
    rows = iterate_rows(path, [settings.text_column], TEXTS, bad, Dialect.of(settings))
    placed = ((f"{path}, {unit} {number}", value) for number, (value,) in rows)
    return _iterate_usable(str(path), placed, bad)


def _iterate_usable(
    source: str, placed: Iterator[tuple[str, object]], bad: BadRows
) -> Iterator[tuple[str, str]]:
    kept, found_before = 0, len(bad.found)
    for place, value in placed:
        try:
            text = read_text(value, place)
        except BadRowError as error:
            bad.meet(error)
            continue
        kept += 1
        yield place, text
    bad.require_rest(source, kept, found_before)


@dataclass(frozen=True)
class LabelledFile:
    """The reviews of one file.

    Attributes:
        reviews: each text once.
        duplicates_removed: rows whose text came before, or comes with another label too.
    """

    reviews: Reviews
    duplicates_removed: int


def load_labelled_file(
    path: Path, settings: DataSettings, label_names: Sequence[str], bad: BadRows | None = None
) -> LabelledFile:
    """Load the reviews of one file for a model whose labels are known.

    Args:
        path: a CSV, TSV, JSON Lines or Parquet file.
        settings: name the columns, and say how the file is written.
        label_names: the model's labels; whole numbers in the file stand for their places.
        bad: meets the rows that can't be used; by default the settings decide.

    Raises:
        DataError: the file, a row or a label is missing or malformed, or no review is left.
    """
    known = dataclasses.replace(settings, label_names=tuple(label_names), group_column=None)
    bad = BadRows(settings.skip_bad_rows) if bad is None else bad
    part = _read_part(str(path), known, bad)
    unique = drop_duplicates(part)
    return LabelledFile(unique.reviews(), len(part) - len(unique))


@dataclass(frozen=True)
class _Loaded:
    """What a source holds before texts that occur twice are looked for."""

    name: str
    sha256: str | None
    parts: Mapping[str, Part]
    label_names: tuple[str, ...] | None
    bad: BadRows


def _load_files(settings: DataSettings, train_files: Sequence[str]) -> SourceData:
    given = {"train": tuple(train_files)}
    for name in ("validation", "test"):
        file = getattr(settings, f"{name}_file")
        given |= {} if file is None else {name: (file,)}
    refuse_pipes(Path(file) for files in given.values() for file in files)
    bad = BadRows(settings.skip_bad_rows)
    parts = {name: join_parts([_read_part(file, settings, bad) for file in files])
             for name, files in given.items()}  # fmt: skip
    parts["train"] = _weigh(parts["train"], settings)
    sha256 = compute_sha256(*(Path(file) for files in given.values() for file in files))
    loaded = _Loaded(", ".join(train_files), sha256, parts, settings.label_names, bad)
    unique = {name: drop_duplicates(part) for name, part in parts.items()}
    for name, other in _list_pairs(unique):
        refuse_shared_texts(unique[name], unique[other])
        refuse_shared_groups(unique[name], unique[other])
    return _build_source(loaded, unique)


def _read_part(file: str, settings: DataSettings, bad: BadRows) -> Part:
    columns = [settings.text_column, settings.label_column]
    if settings.group_column is not None:
        columns.append(settings.group_column)
    found_before = len(bad.found)
    rows = read_rows(Path(file), list(dict.fromkeys(columns)), bad, Dialect.of(settings))
    part = _check_rows(rows, settings, bad)
    bad.require_rest(file, len(part), found_before)
    return part


def _weigh(part: Part, settings: DataSettings) -> Part:
    """Return the training reviews with the weights of their files."""
    files, weights = settings.train_file, settings.train_file_weights
    if files is None or weights is None:
        return part
    names = [str(Path(file)) for file in files]  # as the rows have them, ./a.csv as a.csv
    weight_of = dict(zip(names, weights, strict=True))
    return dataclasses.replace(
        part, weights=[weight_of[file] for file in part.files or names * len(part)]
    )


def _load_packaged(settings: DataSettings) -> SourceData:
    name = settings.dataset_name
    rows = read_packaged_rows(name, settings.text_column, settings.label_column)
    bad = BadRows(settings.skip_bad_rows)
    part = _check_rows(rows, settings, bad)
    loaded = _Loaded(name, PACKAGED_SHA256, {"train": part}, settings.label_names, bad)
    return _build_source(loaded, {"train": drop_duplicates(part)})


def _load_hub(settings: DataSettings) -> SourceData:
    found = load_hub_rows(settings)
    bad = BadRows(settings.skip_bad_rows)
    parts = {name: _check_rows(rows, settings, bad) for name, rows in found.splits.items()}
    loaded = _Loaded(settings.dataset_name, None, parts, settings.label_names, bad)
    unique = {name: drop_duplicates(part) for name, part in parts.items()}
    # The hub's own parts share a few texts, which no user can mend.
    for name, other in _list_pairs(unique):
        unique[other] = drop_shared_texts(unique[other], unique[name])
    return _build_source(loaded, unique, found.label_names)


def _list_pairs(parts: Mapping[str, Part]) -> Iterator[tuple[str, str]]:
    """Yield the names of every two parts, first the one that keeps a text which both have."""
    return itertools.combinations([name for name in _PRECEDENCE if name in parts], 2)


def _check_rows(rows: Rows, settings: DataSettings, bad: BadRows) -> Part:
    """Return rows as reviews: each with a text, and a label by its name."""
    texts: list[str] = []
    labels: list[str] = []
    groups: list[str] = []
    numbers: list[int] = []
    has_groups = settings.group_column is not None and settings.group_column in rows.columns
    for index, number in enumerate(rows.numbers):
        try:
            label = _read_label(rows, index, settings)
            text = read_text(rows.columns[settings.text_column][index], rows.place(index))
            group = _read_group(rows, index, settings.group_column) if has_groups else ""
        except BadRowError as error:
            bad.meet(error)
            continue
        texts.append(text)
        labels.append(label)
        groups.append(group)
        numbers.append(number)
    return Part(rows.source, rows.unit, texts, labels, numbers, groups if has_groups else None)


def _read_label(rows: Rows, index: int, settings: DataSettings) -> str:
    place = rows.place(index)
    return read_label(rows.columns[settings.label_column][index], settings, place)


def read_label(value: object, settings: DataSettings, place: str) -> str:
    """Return a value as a label's name.

    Raises:
        BadRowError: it is none, or not one of those that the settings name.
    """
    label = normalize_label(value, place)
    return label if settings.label_names is None else name_label(label, settings.label_names, place)


def _read_group(rows: Rows, index: int, column: str | None) -> str:
    return _name_group(rows.columns[str(column)][index], rows.place(index))


def _name_group(value: object, place: str) -> str:
    # A column of whole numbers with gaps comes as 1.0 and NaN, from pandas for one.
    if isinstance(value, float):
        value = None if math.isnan(value) else int(value) if value.is_integer() else value
    if value is None or not str(value).strip():
        raise BadRowError(
            place, "the group is missing. Add one, remove the row, or leave --group-column out."
        )
    return str(value).strip()


def read_text(value: object, place: str) -> str:
    """Return a value as a cleaned text.

    Raises:
        BadRowError: it is none, or an empty one.
    """
    text = clean_text(value) if isinstance(value, str) else ""
    if not text:
        found = "is empty" if isinstance(value, str) else f"is {shorten(value)}, which is no text"
        raise BadRowError(place, f"the text {found}. Write one, or remove the row.")
    return text


def _build_source(
    loaded: _Loaded, unique: Mapping[str, Part], own_order: Sequence[str] | None = None
) -> SourceData:
    """Build the record from a source's parts before and after shared texts were removed."""
    train = unique["train"]
    label_names = loaded.label_names or order_found_labels(train.labels, own_order)
    require_two_labels(train.source, train.labels)
    known = {
        name: _take_known_labels(part, label_names, loaded.bad) for name, part in unique.items()
    }
    reviews = {name: part.reviews() for name, part in known.items()}
    return SourceData(
        name=loaded.name,
        sha256=loaded.sha256,
        label_names=label_names,
        train=reviews["train"],
        validation=reviews.get("validation"),
        test=reviews.get("test"),
        duplicates_removed=sum(len(loaded.parts[name]) - len(unique[name]) for name in unique),
        skipped=tuple(loaded.bad.found),
    )


def _take_known_labels(part: Part, label_names: Sequence[str], bad: BadRows) -> Part:
    """Return the reviews whose labels the training reviews have."""
    known = set(label_names)
    if known.issuperset(part.labels):
        return part
    found_before = len(bad.found)
    for index, label in enumerate(part.labels):
        if label not in known:
            bad.meet(build_unknown_error(part.place(index), label, label_names))
    rest = part.take(index for index, label in enumerate(part.labels) if label in known)
    bad.require_rest(part.source, len(rest), found_before)
    return rest
