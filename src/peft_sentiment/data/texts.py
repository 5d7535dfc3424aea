"""Texts to label: from arguments, from a file, or from standard input."""

import contextlib
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO

from peft_sentiment.config import DataSettings
from peft_sentiment.data.bad_rows import BadRows
from peft_sentiment.data.checks import clean_text
from peft_sentiment.data.sources import iterate_text_rows
from peft_sentiment.data.utf8 import UTF_8, is_utf8
from peft_sentiment.errors import BadRowError, DataError, SettingsError


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
    file, or the lines of standard input, that can't be used; by default the first ends the reading.

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
    if arguments:
        return _iterate_arguments(arguments)
    return _iterate_lines(stdin, settings.encoding, BadRows() if bad is None else bad)


def _iterate_arguments(arguments: Sequence[str]) -> Iterator[str]:
    for place, text in enumerate(arguments, start=1):
        cleaned = clean_text(text)
        if fault := find_fault(cleaned):
            raise DataError(f"Text {place} {fault}")
        yield cleaned


def _iterate_lines(stdin: TextIO, encoding: str, bad: BadRows) -> Iterator[str]:
    number, kept = 0, 0
    for number, line in enumerate(read_lines(stdin, encoding), start=1):
        cleaned = clean_text(line)
        if fault := find_fault(cleaned, encoding):
            advice = "" if not cleaned else " --encoding names another encoding."
            bad.meet(BadRowError(f"Standard input, line {number}", f"the text {fault}{advice}"))
            continue
        kept += 1
        yield cleaned
    if number == 0:
        raise DataError("Standard input is empty, but must hold a text a line.")
    bad.require_rest("Standard input", kept)


def read_lines(stdin: TextIO, encoding: str = UTF_8) -> Iterator[str]:
    """Yield the lines of standard input, a mark of byte order aside.

    Bytes that are none in the encoding come as half characters, as Python has them.

    Args:
        stdin: read by its bytes, where it has them.
        encoding: of the bytes.
    """
    if not hasattr(stdin, "buffer"):
        yield from stdin
        return
    name = "utf-8-sig" if is_utf8(encoding) else encoding
    text = io.TextIOWrapper(stdin.buffer, name, "surrogateescape")
    try:
        yield from text
    finally:
        with contextlib.suppress(ValueError):  # it is closed already
            text.detach()  # whoever has opened standard input closes it


def find_fault(text: str, encoding: str = UTF_8) -> str | None:
    """Return what makes a cleaned text none, and what to do; None where nothing does."""
    if not text:
        return "is empty. Write one, or leave it out."
    try:
        text.encode()
    except UnicodeEncodeError as error:
        # Bytes that are none in the encoding come as half characters, which nothing can read.
        name = "UTF-8" if is_utf8(encoding) else encoding
        return f"is not {name} (character {error.start + 1} is {text[error.start]!a}). Convert it."
    return None
