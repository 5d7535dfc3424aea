"""Texts to label: from arguments, from a file, or from standard input."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TextIO

from peft_sentiment.config import DataSettings
from peft_sentiment.data.bad_rows import BadRows
from peft_sentiment.data.checks import clean_text
from peft_sentiment.data.sources import iterate_text_rows
from peft_sentiment.errors import DataError, SettingsError


def iterate_texts(
    arguments: Sequence[str],
    file: str | None,
    settings: DataSettings,
    stdin: TextIO,
    bad: BadRows | None = None,
) -> Iterator[str]:
    """Return the texts to label: from the arguments, from a file, or a line each from `stdin`.

    They are cleaned as those of the training are, and read one by one, in memory that does not
    grow with their number: a missing file is told at once, a broken row when it is reached.
    The settings name a file's column of texts, and say how it is written. `bad` meets the rows of a
    file that can't be used; by default the first ends the reading.

    Raises:
        DataError: there is no text, or the file is missing or malformed.
        SettingsError: texts are given in two ways.
    """
    if arguments and file is not None:
        raise SettingsError("Give texts as arguments or with --file, not both.")
    if file is not None:
        return (text for _, text in iterate_text_rows(Path(file), settings, bad))
    if not arguments and stdin.isatty():
        raise SettingsError(
            "There is no text to label. Give texts as arguments, a file with --file, "
            "or a text a line on standard input."
        )
    return _iterate_checked(arguments or _iterate_lines(stdin))


def _iterate_checked(texts: Iterable[str]) -> Iterator[str]:
    place = 0
    for place, text in enumerate(texts, start=1):
        cleaned = clean_text(text)
        _require_text(cleaned, f"Text {place}")
        yield cleaned
    if place == 0:
        raise DataError("Standard input is empty, but must hold a text a line.")


def _iterate_lines(stdin: TextIO) -> Iterator[str]:
    try:
        yield from stdin
    except UnicodeDecodeError as error:
        raise DataError(f"Standard input is not UTF-8 ({error}). Convert it.") from error


def _require_text(text: str, place: str) -> None:
    if not text:
        raise DataError(f"{place} is empty. Write one, or leave it out.")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        # Python hands bytes that are no UTF-8 through as half characters, which nothing can read.
        raise DataError(
            f"{place} is not UTF-8 (character {error.start + 1} is {text[error.start]!a}). "
            "Convert it."
        ) from error
