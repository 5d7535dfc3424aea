"""Where the reviews come from, how they are split and cut."""

from dataclasses import dataclass
from typing import Literal

from peft_sentiment.config.requirements import (
    SHORTEST_PART,
    read_delimiter,
    require,
    require_encoding,
    require_part,
    require_size,
)
from peft_sentiment.errors import SettingsError

PACKAGED_IMDB = "packaged/imdb"
PACKAGED_ROTTEN_TOMATOES = "packaged/rotten_tomatoes"

USUAL_SIZES = {"train": 3000, "validation": 500, "test": 600}
"""Part -> its reviews where nothing else is asked for and there are enough."""

Truncation = Literal["head", "tail", "head+tail"]
"""Which part of a long review is kept."""


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    """Where the reviews come from, how they are split and cut."""

    dataset_name: str = PACKAGED_IMDB
    """Reviews to use where no file is named: packaged/imdb, packaged/rotten_tomatoes, or the
    name of a data set on the hub, such as stanfordnlp/imdb."""

    dataset_config_name: str | None = None
    """Configuration of a data set on the hub that has several."""

    dataset_revision: str | None = None
    """Branch, tag or commit of a data set on the hub."""

    train_file: tuple[str, ...] | None = None
    """A CSV, TSV, JSON, JSONL or Parquet file (by its ending) with a text and a label column, or
    several with commas between. Validation and test reviews are split off from it where they have
    no file of their own."""

    train_file_weights: tuple[float, ...] | None = None
    """How much a review of each train_file counts in training, such as 1,0.5: a review of weight
    0.5 moves the weights of the model half as much. Scores count every review the same."""

    streaming: bool = False
    """For more reviews than fit in memory: texts and token ids stay in files on disk, and memory
    holds a few numbers a row. train_file may then be a folder of Parquet files or a glob, and a
    data set on the hub is read without a copy of its own. See docs/scale.md."""

    shuffle_buffer_size: int | Literal["full"] = "full"
    """With streaming: rows among which each next training review is drawn, as in the shuffle of
    datasets; full draws among all. A number reads the disk nearly in order, which a slow disk may
    need, and mixes less: rows that are sorted by label come that way."""

    token_cache_dir: str | None = None
    """With streaming: folder for the files of texts and token ids, which later runs on the same
    data use again. By default in the user's cache."""

    validation_file: str | None = None
    """File of the validation reviews, in the form of train_file."""

    test_file: str | None = None
    """File of the test reviews, in the form of train_file; it must share no text with it."""

    unlabelled: str | None = None
    """A CSV, TSV, JSON, JSONL, Parquet or .txt file of reviews without labels, of the same kind. A
    first classifier labels them, and the one that is kept learns from those that it is surest of as
    well (self-training). Worth it where labels are few."""

    unlabelled_size: int | Literal["full"] = 3000
    """Reviews to read of unlabelled, from its start, or full for all."""

    text_column: str = "text"
    """Column that holds the review."""

    label_column: str = "label"
    """Column that holds the label: a name, or a whole number."""

    label_names: tuple[str, ...] | None = None
    """Names for the labels 0, 1, 2, ... of a file whose labels are numbers, in that order; or the
    labels that a file may have, in the order in which to report them."""

    encoding: str = "utf-8"
    """Encoding of the files but Parquet's, such as cp1252 (Excel's CSV on Windows), latin-1 or
    utf-16 (Excel's "Unicode text")."""

    delimiter: str | None = None
    """What stands between the fields of CSV and TSV files: a character, or tab. By default a comma
    in files that end in .csv, and a tab in .tsv. Excel writes ; where a comma stands in numbers."""

    skip_bad_rows: bool = False
    """Leave out the rows of a file that can't be used (broken, not in its encoding, without a text
    or with a label that is none), count them, and list them in skipped_rows.jsonl. Otherwise the
    first of them is told and nothing done."""

    group_column: str | None = None
    """Column of a file that holds what no split may divide, such as the film or the author of a
    review: all reviews of a group are in one part."""

    stratify: bool | None = None
    """Give each part the labels in the shares of the whole, and every label at least one review in
    each part if it has three. By default where the rarest label has less than half of an equal
    share; --stratify and --no-stratify decide by hand."""

    near_duplicates: Literal["report", "drop", "ignore"] = "report"
    """What to do with training reviews that are nearly the same as a validation or test review:
    tell how many there are, drop them, or not look for them."""

    near_duplicate_similarity: float = 0.8
    """How much two reviews must be alike to be nearly the same: the share of their runs of three
    words that both have, from 0 to 1. A copy of a longer review in which a few words were changed
    has more than 0.8."""

    train_size: int | Literal["full", "auto"] = "auto"
    """Reviews to train on, or full for all that are left; auto is 3000. Time grows in proportion;
    when training is slow, try 1000. Where there are fewer reviews than the three sizes ask for
    together, auto takes a tenth each to validate and to test, and the rest to train on."""

    validation_size: int | Literal["full", "auto"] = "auto"
    """Reviews held out of the training reviews to choose the best weights by; 0 for none. auto is
    500, or a tenth as for train_size."""

    test_size: int | Literal["full", "auto"] = "auto"
    """Reviews to compare base and PEFT on; auto is 600, or a tenth as for train_size. With 600 a
    score near 88 % is known to within 2.6 points, with 5000 to within 0.9."""

    max_length: int = 256
    """Tokens of a review that the model reads, special tokens included. Memory and time grow with
    it; when memory is short, try 128."""

    truncation: Truncation = "head+tail"
    """Which part of a review longer than max_length is kept: its head, its tail, or a quarter from
    its head and the rest from its tail, where reviewers sum up."""

    window_length: int = 0
    """Tokens that are scored at once, special tokens included: a longer review is scored in windows
    of equal length, and what they say is averaged. Best near crop_length, where training reads
    stretches. 0 scores max_length tokens at once."""

    def __post_init__(self) -> None:
        if isinstance(self.train_file, str):
            object.__setattr__(self, "train_file", (self.train_file,))
        self._require_weights()
        require_encoding("data.encoding", self.encoding)
        if self.delimiter is not None:
            object.__setattr__(self, "delimiter", read_delimiter("data.delimiter", self.delimiter))
        require_size("data.train_size", self.train_size, 1)
        require_size("data.validation_size", self.validation_size, 0)
        require_size("data.test_size", self.test_size, 1)
        require_size("data.unlabelled_size", self.unlabelled_size, 1)
        self._require_streamable()
        similarity = self.near_duplicate_similarity
        name = "data.near_duplicate_similarity"
        require(0 < similarity <= 1, name, similarity, "above 0, and 1 at most")
        is_long = self.max_length >= SHORTEST_PART
        require(is_long, "data.max_length", self.max_length, f"at least {SHORTEST_PART}")
        require_part("data.window_length", self.window_length)
        if self.label_names is not None:
            unique = len(set(self.label_names)) == len(self.label_names) >= 2
            require(unique, "data.label_names", list(self.label_names), "two or more unlike names")

    @property
    def longest_window(self) -> int:
        """Most tokens of a review that are scored at once."""
        return min(self.window_length or self.max_length, self.max_length)

    def _require_streamable(self) -> None:
        size, name = self.shuffle_buffer_size, "data.shuffle_buffer_size"
        is_size = size == "full" or (isinstance(size, int) and size >= 1)
        require(is_size, name, size, 'a number from 1 up, or "full"')
        if not self.streaming:
            return
        given = {
            "--group-column": self.group_column is not None,
            "--stratify": bool(self.stratify),
            "--near-duplicates drop": self.near_duplicates == "drop",
            "--unlabelled": self.unlabelled is not None,
        }
        refused = [flag for flag, is_given in given.items() if is_given]
        if refused:
            raise SettingsError(
                f"data.streaming is on, but {' and '.join(refused)} must see all reviews at once. "
                "Leave one of them out."
            )
        if self.train_file is None and self.dataset_name.startswith("packaged/"):
            raise SettingsError(
                f"data.streaming is on, but the reviews of {self.dataset_name} fit in memory. "
                "Name files with --train-file or a data set on the hub with --dataset-name, or "
                "leave --streaming out."
            )

    def _require_weights(self) -> None:
        weights = self.train_file_weights
        if weights is None:
            return
        name, files = "data.train_file_weights", len(self.train_file or ())
        require(
            len(weights) == files,
            name,
            list(weights),
            f"one per train_file, of which there are {files}",
        )
        is_fit = all(0 < weight < float("inf") for weight in weights)
        require(is_fit, name, list(weights), "numbers above 0")
