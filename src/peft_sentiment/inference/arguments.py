"""What a caller gives the classifier: settings by name; texts and labels, checked."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from peft_sentiment.config import list_setting_fields
from peft_sentiment.errors import DataError
from peft_sentiment.records.reviews import Reviews

PARAMETERS = {
    item.name: item
    for item in list_setting_fields()
    if item.section in ("model", "adapter", "training")
    or item.name in ("max_length", "truncation", "window_length", "calibrate", "use_companion")
}
"""Constructor argument -> its setting: everything but where data comes from and results go."""


def read_reviews(texts: Sequence[str], labels: ArrayLike) -> Reviews:
    """Return labelled texts with their labels as names.

    Raises:
        DataError: there are not as many labels as texts, or a text is no str.
    """
    names = [str(label) for label in np.asarray(labels).tolist()]
    texts = require_texts(texts)
    if len(texts) != len(names):
        raise DataError(f"There are {len(texts)} texts but {len(names)} labels; give one for each.")
    return Reviews(texts, names)


def require_texts(texts: Iterable[str]) -> list[str]:
    """Return the texts as a list.

    Raises:
        DataError: they are a single str or a table, or one is no str or can't be UTF-8.
    """
    if isinstance(texts, str):
        raise DataError("The texts are a single str. Put it into a list: [text].")
    if (dimensions := getattr(texts, "ndim", 1)) != 1:
        raise DataError(
            f"The texts have {dimensions} dimensions, but must be one row of str. "
            "Give one column of the table."
        )
    listed = list(texts)
    for place, text in enumerate(listed):
        if not isinstance(text, str):
            raise DataError(
                f"Text {place} is {text!r}, a {type(text).__name__}, but must be a str. "
                "Leave it out or convert it."
            )
        if not text.isascii():
            _require_utf8(text, place)
    return listed


def _require_utf8(text: str, place: int) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        # Bytes that are no UTF-8 come as half characters, which no tokenizer takes.
        raise DataError(
            f"Text {place} is not UTF-8 (character {error.start + 1} is {text[error.start]!a}). "
            "Leave it out or convert it."
        ) from error


def require_known_labels(labels: Sequence[str], known: Sequence[str]) -> None:
    """Check that labels are among those of the training.

    Raises:
        DataError: one is not.
    """
    unknown = sorted(set(labels) - set(known))
    if unknown:
        raise DataError(
            f"The label {unknown[0]!r} is not one of {sorted(known)}, the labels "
            "of the training texts. Correct it, or train with it."
        )


def list_classes(labels: ArrayLike) -> list[Any]:
    """Return the classes of labels, sorted.

    Raises:
        DataError: the labels are not str or int throughout, or are all the same.
    """
    values = np.asarray(labels)
    if values.ndim != 1 or not (_are_all(values, str) or _are_all(values, int)):
        raise DataError(
            f"The labels have the dtype {values.dtype} and {values.ndim} dimensions, but must be "
            "one row of str or int. Convert them."
        )
    classes = sorted(set(values.tolist()))
    if len(classes) < 2:
        raise DataError(
            f"The labels have one class only ({classes}). Training needs texts of at least two."
        )
    return classes


def _are_all(values: NDArray[Any], kind: type) -> bool:
    return all(isinstance(value, kind) and not isinstance(value, bool) for value in values.tolist())
