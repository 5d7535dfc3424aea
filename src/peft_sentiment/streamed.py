"""The reviews of a run: in memory, or streamed from files on disk where they are too many."""

import dataclasses
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from rich.console import Console

from peft_sentiment.config import Settings
from peft_sentiment.data.arrow_files import Texts
from peft_sentiment.data.batching import LabelledTokens
from peft_sentiment.data.disk_cache import CachedFolder
from peft_sentiment.data.pools import Told
from peft_sentiment.data.sources import load_reviews
from peft_sentiment.data.split import split_reviews
from peft_sentiment.data.streaming import StreamedSplits, load_streamed
from peft_sentiment.data.token_files import open_tokens
from peft_sentiment.errors import SettingsError
from peft_sentiment.inference.classifier import SentimentClassifier
from peft_sentiment.model.packaged import get_cache_folder
from peft_sentiment.records.reviews import Splits
from peft_sentiment.reporting.unfinished import show_note

SAMPLE = 20_000
"""Training reviews, drawn by chance, that baselines and companion learn from when they are
streamed: both hold in memory what they learn from."""


SECONDS_BETWEEN_LINES = 60.0


@dataclasses.dataclass(frozen=True)
class Reading:
    """The reviews of a run.

    Attributes:
        splits: train, validation and test.
        streamed: where the training reviews are, if they are streamed.
    """

    settings: Settings
    console: Console
    splits: Splits
    streamed: StreamedSplits | None = None

    def tokenize_train(self, classifier: SentimentClassifier) -> LabelledTokens:
        """Return the token ids of the training reviews, in memory or on disk.

        Raises:
            OutputError: there is no room on disk.
        """
        if self.streamed is None:
            return classifier.tokenize(self.splits.train)
        with progress_told(self.console, "Tokenizing") as told:
            tokens, folder = open_tokens(
                get_root(self.settings),
                self.streamed,
                classifier.encoder_.tokenizer,
                self.settings.data,
                told,
            )
        folders = {"texts": self.streamed.pool.folder, "token ids": folder}
        show_note(self.console, _describe_folders(folders, get_root(self.settings)))
        if self.settings.data.near_duplicates == "report":
            show_note(self.console, "Streamed reviews are not searched for near duplicates.")
        return tokens


def _describe_folders(folders: Mapping[str, CachedFolder], root: Path) -> str:
    parts = (
        f"{what} {folder.size / 1e6:,.1f} MB {'written' if folder.is_new else 'found'}"
        for what, folder in folders.items()
    )
    return f"On disk: {', '.join(parts)} in {root}"


def read_data(settings: Settings, console: Console) -> Reading:
    """Load and split the reviews that the settings name.

    Raises:
        DataError, HubError, OutputError, SettingsError: as in `load_reviews`, `split_reviews` and
            `load_streamed`.
    """
    data, seed = settings.data, settings.training.seed
    if not data.streaming:
        return Reading(settings, console, split_reviews(load_reviews(data), data, seed))
    for name in ("contrastive_epochs", "linear_probing"):
        if getattr(settings.training, name):
            raise SettingsError(
                f"data.streaming is on, but training.{name} is for few labels, all in memory. "
                "Leave one of the two out."
            )
    with progress_told(console, "Reading") as told:
        streamed = load_streamed(data, seed, get_root(settings), told)
    return Reading(settings, console, streamed.splits, streamed)


@contextmanager
def progress_told(console: Console, what: str) -> Iterator[Told]:
    """Give what shows progress: in place at a terminal, elsewhere a line a minute."""
    if console.is_terminal:
        with console.status(what) as status:
            yield status.update
        return
    last = time.monotonic()

    def tell(words: str) -> None:
        nonlocal last
        if time.monotonic() - last >= SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            show_note(console, words)

    yield tell


def get_root(settings: Settings) -> Path:
    """Return the folder for the files of streamed reviews."""
    chosen = settings.data.token_cache_dir
    return get_cache_folder() / "streamed" if chosen is None else Path(chosen)


def hold_sample(splits: Splits, train: LabelledTokens, seed: int) -> tuple[Splits, LabelledTokens]:
    """Return what a learner that holds all in memory may learn from.

    Args:
        splits: of a run.
        train: its training reviews, tokenized.
        seed: decides which of streamed reviews are taken.

    Returns:
        The same where training reviews are in memory, else `SAMPLE` of them at most.
    """
    if not isinstance(splits.train.texts, Texts):
        return splits, train
    places = draw_sample(len(train), seed)
    taken = dataclasses.replace(
        train,
        reviews=train.reviews.take(places),
        targets=train.targets[places],
        weights=None if train.weights is None else train.weights[places],
        shuffle_buffer=None,
    )
    return hold_reviews(splits, seed), taken


def hold_reviews(splits: Splits, seed: int) -> Splits:
    """Return the splits with the training reviews that `hold_sample` takes."""
    if not isinstance(splits.train.texts, Texts):
        return splits
    return dataclasses.replace(
        splits, train=splits.train.take(draw_sample(len(splits.train), seed))
    )


def draw_sample(count: int, seed: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Return the places of `SAMPLE` reviews at most, in order."""
    if count <= SAMPLE:
        return np.arange(count)
    return np.sort(np.random.default_rng(seed).choice(count, SAMPLE, replace=False))
