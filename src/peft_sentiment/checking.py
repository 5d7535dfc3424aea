"""Check a file of labelled reviews: read it, look for faults, show and store what was found."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from peft_sentiment.config import Settings
from peft_sentiment.data.bad_rows import BadRows
from peft_sentiment.data.columns import Rows
from peft_sentiment.data.dialect import Dialect
from peft_sentiment.data.files import TEXTS, find_format, get_ending, iterate_rows, read_rows
from peft_sentiment.data.inspection import (
    Finding,
    Inspection,
    UsableRows,
    inspect_rows,
    sort_findings,
    sort_rows,
    summarize_lengths,
)
from peft_sentiment.data.packaged import read_packaged_rows
from peft_sentiment.data.split import are_no_labels
from peft_sentiment.errors import OutputError, RefusedRowsError
from peft_sentiment.files import require_other_file, write_text
from peft_sentiment.model.tokenizer_files import count_tokens, find_tokenizer_file
from peft_sentiment.reporting.data_report import TokenLengths, show_inspection


@dataclass(frozen=True)
class CheckOptions:
    """What is looked for, and where it goes.

    Attributes:
        against: another file that should share no text.
        labels: whether to look for labels that are probably wrong.
        near: whether to look for texts that are nearly the same.
        rows: of each kind, that are shown.
        output: JSONL file for all.
    """

    against: str | None = None
    labels: bool = False
    near: bool = True
    rows: int = 3
    output: Path | None = None


def check_file(name: str, settings: Settings, options: CheckOptions, console: Console) -> None:
    """Show what a file or packaged data set holds and which rows deserve a look.

    Args:
        name: path, or a name such as packaged/imdb.
        settings: name the columns, the encoder that counts tokens, and the seed.
        options: what is looked for.
        console: where to show it.

    Raises:
        DataError: the file can't be read.
        RefusedRowsError: it has rows that training would refuse; they are shown before.
        OutputError: the output file can't be written.
        SettingsError: cleanlab is asked for, but not installed.
    """
    if options.output is not None and options.output.suffix.lower() != ".jsonl":
        raise OutputError(
            f"{options.output}: rows are written as JSON Lines. Let the name end in .jsonl."
        )
    if options.output is not None:
        require_other_file(options.output, Path(name), Path(options.against or name))
    rows = load_rows(name, settings)
    other = None
    if options.against is not None:
        other = (options.against, load_rows(options.against, settings))
    near = settings.data.near_duplicate_similarity if options.near else None
    with console.status("Looking for faults"):
        inspection = inspect_rows(name, rows, near, other)
        if options.labels:
            inspection = add_label_errors(inspection, rows, settings.training.seed)
        tokens = measure_tokens(rows, settings)
    show_inspection(console, inspection, tokens, options.rows)
    if options.output is not None:
        write_findings(options.output, name, inspection)
        words = f"All rows found: {options.output}"
        console.print(words, markup=False, highlight=False, soft_wrap=True)
    if settings.data.skip_bad_rows and rows.texts:
        tell_skipped(len(rows.refused), console)
    else:
        require_no_refused(name, rows)
    require_trainable(name, rows)
    if other is not None and rows.labels:
        require_no_overlap(name, other[0], inspection)


def load_rows(name: str, settings: Settings) -> UsableRows:
    """Read the texts and labels of a file or packaged data set; of a .txt file, texts alone.

    Raises:
        DataError: it can't be read.
    """
    text, label = settings.data.text_column, settings.data.label_column
    bad, dialect = BadRows(settings.data.skip_bad_rows), Dialect.of(settings.data)
    if name.startswith("packaged/"):
        return sort_rows(read_packaged_rows(name, text, label), text, label)
    path = Path(name)
    if get_ending(path) != ".txt":
        rows = sort_rows(read_rows(path, (text, label), bad, dialect), text, label)
        return add_unreadable(rows, name, bad)
    lines = list(iterate_rows(path, [text], TEXTS, bad, dialect))
    columns = {text: [value for _, (value,) in lines]}
    unit = find_format(path, TEXTS).unit
    rows = sort_rows(Rows(name, unit, [number for number, _ in lines], columns), text, None)
    return add_unreadable(rows, name, bad)


def add_unreadable(rows: UsableRows, name: str, bad: BadRows) -> UsableRows:
    """Return the rows of a file with those that could not be read among the refused ones."""
    unreadable = [
        Finding("row", row.place.removeprefix(f"{name}, "), None, "", row.reason)
        for row in bad.found
    ]
    return dataclasses.replace(rows, refused=[*unreadable, *rows.refused])


def add_label_errors(inspection: Inspection, rows: UsableRows, seed: int) -> Inspection:
    """Return the inspection with the labels that are probably wrong, the worst first.

    Raises:
        DataError: there are too few reviews or labels.
        SettingsError: cleanlab is not installed.
    """
    from peft_sentiment.evaluation.label_errors import find_label_errors

    first = {text: index for index, text in reversed(list(enumerate(rows.texts)))}
    unique = sorted(first.values()) if rows.labels else []
    texts = [rows.texts[index] for index in unique]
    errors = find_label_errors(texts, [rows.labels[index] for index in unique], seed)
    found = [
        rows.find(
            "label_error", unique[error.index], f"rather {error.suggested}", None, error.score
        )
        for error in errors
    ]
    return dataclasses.replace(inspection, findings=sort_findings([*inspection.findings, *found]))


def measure_tokens(rows: UsableRows, settings: Settings) -> TokenLengths | None:
    """Return how many tokens the encoder makes of the texts; None if its tokenizer is not here."""
    model = settings.model
    file = find_tokenizer_file(model.model_name_or_path, model.model_revision)
    if file is None:
        return None
    counts = count_tokens(file, rows.texts)
    most = settings.data.max_length
    cut = sum(count > most for count in counts)
    return TokenLengths(model.model_name_or_path, summarize_lengths(counts), most, cut)


def write_findings(path: Path, name: str, inspection: Inspection) -> None:
    """Write a line of JSON per finding.

    Raises:
        OutputError: the file can't be written.
    """
    lines = (
        json.dumps(_as_record(name, finding), ensure_ascii=False) for finding in inspection.findings
    )
    write_text(path, "".join(line + "\n" for line in lines))


def _as_record(name: str, finding: Finding) -> dict[str, object]:
    record = {"source": name, **dataclasses.asdict(finding)}
    return {key: value for key, value in record.items() if value not in (None, "") or key == "text"}


def tell_skipped(count: int, console: Console) -> None:
    """Say how many rows training would leave out."""
    if count:
        words = "1 row" if count == 1 else f"{count:,} rows"
        console.print(f"With --skip-bad-rows, training leaves {words} out.", highlight=False)


def require_no_refused(name: str, rows: UsableRows) -> None:
    """Check that training would take every row.

    Raises:
        RefusedRowsError: it would not.
    """
    if not rows.refused:
        return
    first = rows.refused[0]
    count = len(rows.refused)
    words = "1 row has" if count == 1 else f"{count:,} rows have"
    raise RefusedRowsError(
        f"{name}: {words} no text or no label, the first of them {first.place}; training would "
        "refuse the file. Correct them, remove them, or leave them out with --skip-bad-rows; "
        "--output FILE.jsonl lists all."
    )


def require_trainable(name: str, rows: UsableRows) -> None:
    """Check that training would find labels to tell apart; a file without labels has nothing to.

    Raises:
        RefusedRowsError: it would not.
    """
    if not rows.labels:
        return
    label_of: dict[str, str | None] = {}
    for text, label in zip(rows.texts, rows.labels, strict=True):
        label_of[text] = label if label_of.get(text, label) == label else None
    labels = [label for label in label_of.values() if label is not None]  # of texts with one alone
    found = sorted(set(labels))
    if len(found) < 2:
        raise RefusedRowsError(
            f"{name}: training needs reviews of two labels or more, and each text with one, but "
            f"there is only {', '.join(found) or 'none'}. Add reviews with another label."
        )
    if are_no_labels(len(found), len(labels)):
        raise RefusedRowsError(
            f"{name}: there are {len(found):,} labels and {len(labels):,} reviews: that is no "
            "column of labels. Name another with --label-column."
        )


def require_no_overlap(name: str, other: str, inspection: Inspection) -> None:
    """Check that a file shares no text with another one.

    Raises:
        RefusedRowsError: it does.
    """
    count = sum(finding.kind == "overlap" for finding in inspection.findings)
    if count:
        words = "1 text stands" if count == 1 else f"{count:,} texts stand"
        raise RefusedRowsError(
            f"{name}: {words} in {other} too; training would refuse the two. Remove them from one."
        )
