"""Where the reviews come from, how they are split and cut."""

from dataclasses import dataclass
from typing import Literal

from peft_sentiment.config.requirements import require, require_size

PACKAGED_IMDB = "packaged/imdb"
PACKAGED_ROTTEN_TOMATOES = "packaged/rotten_tomatoes"

Truncation = Literal["head", "tail", "head+tail"]
"""Which part of a long review is kept."""


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    """Where the reviews come from, how they are split and cut."""

    dataset_name: str = PACKAGED_IMDB
    """Reviews to use when no train_file is given: packaged/imdb, packaged/rotten_tomatoes, or the
    name of a data set on the hub, such as stanfordnlp/imdb."""

    dataset_config_name: str | None = None
    """Configuration of a data set on the hub that has several."""

    dataset_revision: str | None = None
    """Branch, tag or commit of a data set on the hub."""

    train_file: str | None = None
    """A CSV, TSV, JSONL or Parquet file (by its ending) with a text and a label column. Validation
    and test reviews are split off from it where they have no file of their own."""

    validation_file: str | None = None
    """File of the validation reviews, in the form of train_file."""

    test_file: str | None = None
    """File of the test reviews, in the form of train_file; it must share no text with it."""

    text_column: str = "text"
    """Column that holds the review."""

    label_column: str = "label"
    """Column that holds the label: a name, or a whole number."""

    label_names: tuple[str, ...] | None = None
    """Names for the labels 0, 1, 2, ... of a file whose labels are numbers, in that order; or the
    labels that a file may have, in the order in which to report them."""

    near_duplicate_similarity: float = 0.8
    """How much two reviews must be alike to be nearly the same: the share of their runs of three
    words that both have, from 0 to 1. A copy of a longer review in which a few words were changed
    has more than 0.8."""

    train_size: int | Literal["full"] = 3000
    """Reviews to train on, or full for all that are left. Time grows in proportion; when training
    is slow, try 1000."""

    validation_size: int | Literal["full"] = 500
    """Reviews held out of the training reviews to choose the best weights by; 0 for none."""

    test_size: int | Literal["full"] = 600
    """Reviews to compare base and PEFT on. With 600 a score near 88 % is known to within 2.6
    points, with 5000 to within 0.9."""

    max_length: int = 256
    """Tokens of a review that the model reads, special tokens included. Memory and time grow with
    it; when memory is short, try 128."""

    truncation: Truncation = "head+tail"
    """Which part of a review longer than max_length is kept: its head, its tail, or a quarter from
    its head and the rest from its tail, where reviewers sum up."""

    def __post_init__(self) -> None:
        require_size("data.train_size", self.train_size, 1)
        require_size("data.validation_size", self.validation_size, 0)
        require_size("data.test_size", self.test_size, 1)
        similarity = self.near_duplicate_similarity
        name = "data.near_duplicate_similarity"
        require(0 < similarity <= 1, name, similarity, "above 0, and 1 at most")
        require(self.max_length >= 8, "data.max_length", self.max_length, "at least 8")
        if self.label_names is not None:
            unique = len(set(self.label_names)) == len(self.label_names) >= 2
            require(unique, "data.label_names", list(self.label_names), "two or more unlike names")
