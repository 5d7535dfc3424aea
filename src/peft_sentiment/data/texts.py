"""Texts to label: from arguments, from a file, or from standard input."""

from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from peft_sentiment.data.checks import clean_text
from peft_sentiment.data.sources import read_texts
from peft_sentiment.errors import DataError, SettingsError


def collect_texts(
    arguments: Sequence[str], file: str | None, text_column: str, stdin: TextIO
) -> list[str]:
    """Return the texts to label: from the arguments, from a file, or a line each from `stdin`.

    They are cleaned as those of the training are.

    Raises:
        DataError: there is no text, or the file is missing or malformed.
        SettingsError: texts are given in two ways.
    """
    if arguments and file is not None:
        raise SettingsError("Give texts as arguments or with --file, not both.")
    if file is not None:
        return read_texts(Path(file), text_column)
    if not arguments and stdin.isatty():
        raise SettingsError(
            "There is no text to label. Give texts as arguments, a file with --file, "
            "or a text a line on standard input."
        )
    texts = [clean_text(text) for text in arguments or _read_lines(stdin)]
    if not texts:
        raise DataError("Standard input is empty, but must hold a text a line.")
    for place, text in enumerate(texts, start=1):
        _require_text(text, f"Text {place}")
    return texts


def _read_lines(stdin: TextIO) -> list[str]:
    try:
        return stdin.readlines()
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
