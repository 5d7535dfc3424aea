"""Token ids of a pool, made once, kept in an Arrow file on disk and read where they lie."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from peft_sentiment.config import DataSettings
from peft_sentiment.data.arrow_files import ArrowWriter, Labels, MappedColumn, TokenIds
from peft_sentiment.data.batching import (
    CHUNK,
    LabelledTokens,
    TokenizedReviews,
    count_special_tokens,
    tokenize_reviews,
)
from peft_sentiment.data.disk_cache import CachedFolder, open_cached
from peft_sentiment.data.pools import Pool, Told
from peft_sentiment.data.streaming import StreamedSplits

IDS_FILE = "ids.arrow"
_BYTES_OF_ID = 4
_TOLD_EVERY = 20


@dataclass(frozen=True)
class StreamedTokens(TokenizedReviews):
    """Token ids of reviews on disk.

    Attributes:
        own_lengths: (N,), tokens of each review.
        own_sha256: of what the token ids are made from.
    """

    own_lengths: NDArray[np.int32] = field(default_factory=lambda: np.zeros(0, np.int32))
    own_sha256: str = ""

    @property
    def lengths(self) -> NDArray[np.int32]:
        """(N,), tokens of each review."""
        return self.own_lengths

    @property
    def sha256(self) -> str:
        """One hash of what all token ids are made from."""
        return self.own_sha256


def open_tokens(
    root: Path,
    streamed: StreamedSplits,
    tokenizer: Any,  # noqa: ANN401 - any callable tokenizer of transformers
    settings: DataSettings,
    told: Told,
) -> tuple[LabelledTokens, CachedFolder]:
    """Return the token ids of the training reviews, and the folder where they are.

    All rows of the pool are tokenized, so that another split finds them there.

    Args:
        root: where such folders lie.
        streamed: the reviews.
        tokenizer: a tokenizer of `transformers`.
        settings: how long reviews are cut.
        told: hears of the progress.

    Raises:
        OutputError: there is no room on disk.
    """
    pool, rows, length = streamed.pool, streamed.train_rows, settings.max_length
    key = {
        "texts": pool.folder.sha256,
        "tokenizer": fingerprint_tokenizer(tokenizer),
        "max_length": length,
        "truncation": settings.truncation,
    }
    text_bytes = pool.folder.size
    folder = open_cached(
        root,
        "tokens",
        key,
        lambda draft: _write_tokens(draft, pool, tokenizer, settings, told),
        # A token has about four letters, and takes four bytes.
        lambda: min(text_bytes, _BYTES_OF_ID * length * len(pool)),
    )
    reviews = _map_tokens(folder, rows, count_special_tokens(tokenizer), settings.window_length)
    labels = streamed.splits.train.labels
    numbers = labels.numbers if isinstance(labels, Labels) else np.zeros(0, np.int32)
    size = settings.shuffle_buffer_size
    tokens = LabelledTokens(
        reviews,
        numbers.astype(np.int64),
        streamed.splits.label_names,
        pool.weigh(rows),
        None if size == "full" else int(size),
    )
    return tokens, folder


def _map_tokens(
    folder: CachedFolder,
    rows: NDArray[np.int64],
    special_tokens: tuple[int, int],
    window_length: int,
) -> StreamedTokens:
    return StreamedTokens(
        TokenIds(MappedColumn(folder.path / IDS_FILE, np.int32), rows),
        np.load(folder.path / "is_cut.npy")[rows],
        special_tokens,
        window_length,
        np.load(folder.path / "lengths.npy")[rows],
        hashlib.sha256(folder.sha256.encode() + rows.tobytes()).hexdigest(),
    )


def _write_tokens(
    draft: Path,
    pool: Pool,
    tokenizer: Any,  # noqa: ANN401 - as above
    settings: DataSettings,
    told: Told,
) -> dict[str, Any]:
    lengths, is_cut = np.zeros(len(pool), np.int32), np.zeros(len(pool), np.bool_)
    with ArrowWriter(draft / IDS_FILE, is_text=False) as writer:
        for start, reviews in _iterate_tokenized(pool, tokenizer, settings):
            end = start + len(reviews)
            writer.write(reviews.token_ids)
            lengths[start:end], is_cut[start:end] = reviews.lengths, reviews.is_cut
            if start // CHUNK % _TOLD_EVERY == 0:
                told(f"Tokenizing: {end:,} of {len(pool):,} rows")
    np.save(draft / "lengths.npy", lengths)
    np.save(draft / "is_cut.npy", is_cut)
    return {}


def _iterate_tokenized(
    pool: Pool,
    tokenizer: Any,  # noqa: ANN401 - as above
    settings: DataSettings,
) -> Iterator[tuple[int, TokenizedReviews]]:
    for start in range(0, len(pool), CHUNK):
        texts = pool.texts[start : start + CHUNK]
        yield start, tokenize_reviews(texts, tokenizer, settings.max_length, settings.truncation)


def fingerprint_tokenizer(tokenizer: Any) -> str:  # noqa: ANN401 - as above
    """Return a hash of all that a tokenizer makes token ids by."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    rules: Any = [sorted(tokenizer.get_vocab().items()), repr(tokenizer)]
    if backend is not None:
        rules = json.loads(backend.to_str())
        # What the last call has asked for: here, neither.
        rules |= {"truncation": None, "padding": None}
    named = [type(tokenizer).__name__, rules]
    return hashlib.sha256(json.dumps(named, sort_keys=True).encode()).hexdigest()
