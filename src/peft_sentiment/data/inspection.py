"""What a file of labelled reviews holds, and which of its rows deserve a look.

Nothing is refused here but what can't be read at all: a row that training would refuse is a
finding like others.
"""

import re
import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from peft_sentiment.data.checks import clean_text
from peft_sentiment.data.columns import Rows, shorten
from peft_sentiment.data.labels import find_spellings, normalize_label, order_labels
from peft_sentiment.data.near_duplicates import find_near_duplicates
from peft_sentiment.data.text_faults import FAULTS
from peft_sentiment.errors import DataError

REFUSED = ("row", "text", "label")
"""Kinds of findings that training refuses."""

DROPPED = ("duplicate", "conflict")
"""Kinds of findings that training leaves out by itself."""

DOUBTFUL = ("spelling", "overlap", "near", "near_overlap", "mojibake", "html", "control", "short",
            "long", "label_error")  # fmt: skip
"""Kinds of findings that training takes as they are."""

KINDS = (*REFUSED, *DROPPED, *DOUBTFUL)

FEWEST_WORDS = 3
WITHOUT_BLANKS = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff]")
"""A letter of a script that sets words without blanks between (Thai, Lao, Burmese, Khmer, Japanese,
Chinese), whose words are not counted."""

LONG_FACTOR = 10
"""A review with more than so many times the words of the median is very long."""


@dataclass(frozen=True)
class Finding:
    """A row that deserves a look.

    Attributes:
        kind: one of KINDS.
        place: the row, such as 'line 7'.
        label: as the file has it, in normal form.
        text: cleaned.
        detail: what was found, in short.
        other: the other row that is meant, such as 'line 3' or 'b.csv, line 3'.
        score: how alike two texts are, or how likely the label is right; from 0 to 1.
    """

    kind: str
    place: str
    label: str | None
    text: str
    detail: str = ""
    other: str | None = None
    score: float | None = None


@dataclass(frozen=True)
class Lengths:
    """How long reviews are, in words or tokens; `long` is the 95th percentile."""

    shortest: int
    median: int
    mean: float
    long: int
    longest: int


@dataclass(frozen=True)
class Inspection:
    """What was found in one file or packaged data set.

    Attributes:
        source: file or data set.
        rows: all of them, those that training refuses included.
        label_counts: label -> rows with it.
        words: of the texts; None where there is no text.
        findings: in the order of KINDS, each kind in the file's order.
    """

    source: str
    rows: int
    label_counts: Mapping[str, int]
    words: Lengths | None
    findings: Sequence[Finding]

    def count(self, kind: str) -> int:
        """Return the number of findings of a kind."""
        return sum(finding.kind == kind for finding in self.findings)


@dataclass(frozen=True)
class UsableRows:
    """The rows of a file that have a text and a label.

    Attributes:
        places: such as 'line 7'.
        texts: cleaned.
        labels: in normal form; empty where the file has none.
        refused: what was found in the others.
    """

    places: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    refused: list[Finding] = field(default_factory=list)

    def label(self, index: int) -> str | None:
        """Return the label of a row, if the file has labels."""
        return self.labels[index] if self.labels else None

    def find(
        self,
        kind: str,
        index: int,
        detail: str = "",
        other: str | None = None,
        score: float | None = None,
    ) -> Finding:
        """Return a finding about a row."""
        return Finding(
            kind, self.places[index], self.label(index), self.texts[index], detail, other, score
        )


def sort_rows(rows: Rows, text_column: str, label_column: str | None) -> UsableRows:
    """Clean the rows of a file, and set those apart that training refuses.

    Args:
        rows: as they were read.
        text_column: column of the texts.
        label_column: column of the labels, if there is one.
    """
    usable = UsableRows()
    labels = rows.columns[label_column] if label_column else [None] * len(rows.numbers)
    for number, value, label in zip(rows.numbers, rows.columns[text_column], labels, strict=True):
        place = f"{rows.unit} {number}"
        text = clean_text(value) if isinstance(value, str) else ""
        name, fault = _read_label(label) if label_column else (None, None)
        if not text:
            detail = "empty" if isinstance(value, str) else f"{shorten(value)}, which is no text"
            usable.refused.append(Finding("text", place, name, text, detail))
        elif fault is not None:
            usable.refused.append(Finding("label", place, None, text, fault))
        else:
            usable.places.append(place)
            usable.texts.append(text)
            usable.labels.extend([] if name is None else [name])
    return usable


def _read_label(value: object) -> tuple[str | None, str | None]:
    """Return a label in normal form, or what is wrong with it."""
    try:
        return normalize_label(value, ""), None
    except DataError:
        is_missing = value is None or (isinstance(value, str) and not value.strip())
        return None, "missing" if is_missing else shorten(value)


def inspect_rows(
    source: str, rows: UsableRows, near: float | None, other: tuple[str, UsableRows] | None = None
) -> Inspection:
    """Inspect the rows of a file.

    Args:
        source: file or data set, for the record.
        rows: its rows.
        near: how alike texts must be to be nearly the same; None to look for equal ones only.
        other: name and rows of another file, that should share no text with it.
    """
    counts = Counter(rows.labels)
    found = [*rows.refused, *_find_duplicates(rows), *_find_text_faults(rows)]
    found += _find_spellings(rows, find_spellings(counts))
    words = [len(text.split()) for text in rows.texts]
    found += _find_odd_lengths(rows, words)
    if near is not None:
        found += _find_near(rows, near)
    if other is not None:
        found += _find_overlaps(rows, *other, near)
    return Inspection(
        source=source,
        rows=len(rows.texts) + len(rows.refused),
        label_counts={label: counts[label] for label in order_labels(counts)},
        words=summarize_lengths(words),
        findings=sort_findings(found),
    )


def sort_findings(findings: Iterable[Finding]) -> list[Finding]:
    """Return findings in the order of their kinds, each kind as it came."""
    return sorted(findings, key=lambda finding: KINDS.index(finding.kind))


def summarize_lengths(lengths: Sequence[int]) -> Lengths | None:
    """Return how long reviews are, or None if there are none."""
    if not lengths:
        return None
    return Lengths(
        shortest=min(lengths),
        median=int(statistics.median(lengths)),
        mean=statistics.fmean(lengths),
        long=int(np.percentile(lengths, 95)),
        longest=max(lengths),
    )


def _find_duplicates(rows: UsableRows) -> Iterator[Finding]:
    """Yield the rows whose text stands in an earlier one, and all whose labels contradict."""
    first: dict[str, int] = {}
    names: dict[str, set[str | None]] = {}
    for index, text in enumerate(rows.texts):
        first.setdefault(text, index)
        names.setdefault(text, set()).add(rows.label(index))
    for index, text in enumerate(rows.texts):
        earlier = rows.places[first[text]]
        if len(names[text]) > 1:
            labels = " and ".join(sorted(map(str, names[text])))
            other = None if first[text] == index else earlier
            yield rows.find("conflict", index, f"labels {labels}", other)
        elif first[text] != index:
            yield rows.find("duplicate", index, other=earlier)


def _find_spellings(rows: UsableRows, spellings: Mapping[str, str]) -> Iterator[Finding]:
    for index, label in enumerate(rows.labels):
        if usual := spellings.get(label):
            yield rows.find("spelling", index, f"label {label}, else {usual}")


def _find_text_faults(rows: UsableRows) -> Iterator[Finding]:
    for index, text in enumerate(rows.texts):
        for kind, find in FAULTS.items():
            if trace := find(text):
                yield rows.find(kind, index, trace)


def _find_odd_lengths(rows: UsableRows, words: Sequence[int]) -> Iterator[Finding]:
    if not words:
        return
    most = LONG_FACTOR * statistics.median(words)
    for index, count in enumerate(words):
        if count < FEWEST_WORDS and not WITHOUT_BLANKS.search(rows.texts[index]):
            yield rows.find("short", index, f"{count} word{'s' * (count != 1)}")
        elif count > most:
            yield rows.find("long", index, f"{count:,} words")


def _find_near(rows: UsableRows, similarity: float) -> Iterator[Finding]:
    unique = list({text: index for index, text in reversed(list(enumerate(rows.texts)))}.values())
    unique.sort()
    found = find_near_duplicates([rows.texts[index] for index in unique], similarity)
    for place in found.find_places().tolist():
        index, other = unique[place], unique[found.partner[place]]
        detail = ""
        if rows.label(index) != rows.label(other):
            detail = f"labels {rows.label(index)} and {rows.label(other)}"
        score = float(found.similarity[place])
        yield rows.find("near", index, detail, rows.places[other], score)


def _find_overlaps(
    rows: UsableRows, name: str, others: UsableRows, similarity: float | None
) -> Iterator[Finding]:
    """Yield the rows whose text another file has too, or nearly so."""
    index_of = {text: index for index, text in reversed(list(enumerate(others.texts)))}
    rest = []
    for index, text in enumerate(rows.texts):
        if text in index_of:
            yield rows.find("overlap", index, other=f"{name}, {others.places[index_of[text]]}")
        else:
            rest.append(index)
    if similarity is None:
        return
    texts = [*others.texts, *(rows.texts[index] for index in rest)]
    parts = [0] * len(others.texts) + [1] * len(rest)
    found = find_near_duplicates(texts, similarity, parts)
    for place in found.find_places().tolist():
        if place >= len(others.texts):
            other = f"{name}, {others.places[found.partner[place]]}"
            index = rest[place - len(others.texts)]
            score = float(found.similarity[place])
            yield rows.find("near_overlap", index, other=other, score=score)
