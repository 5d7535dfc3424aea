"""The forms of an export, each written into a folder: the model and its tokenizer."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedModel

from peft_sentiment.errors import ExportError
from peft_sentiment.model.encoder import Encoder
from peft_sentiment.model.exported_files import MERGED, ONNX, ONNX_FILE, ONNX_INT8, TOKENIZER_FILE
from peft_sentiment.model.metadata import AdapterMetadata
from peft_sentiment.model.onnx_export import write_int8_onnx, write_onnx


@dataclass(frozen=True)
class ExportSource:
    """What an export is written from.

    Attributes:
        model: base and adapter in one, in float32 on the CPU.
        encoder: with the tokenizer.
        metadata: of the adapter.
        reviews: token ids of those that show how wide the numbers are that int8 is to hold.
    """

    model: PreTrainedModel
    encoder: Encoder
    metadata: AdapterMetadata
    reviews: Sequence[NDArray[np.int32]]


def _write_fast_tokenizer(encoder: Encoder, draft: Path) -> None:
    backend = getattr(encoder.tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise ExportError(
            f"{encoder.name}: its tokenizer has no {TOKENIZER_FILE}, without which an ONNX model "
            "can't read text. Export it with --to merged."
        )
    backend.save(str(draft / TOKENIZER_FILE))


def _write_merged(source: ExportSource, draft: Path) -> None:
    source.model.save_pretrained(draft, max_shard_size="1000GB")
    tokenizer = source.encoder.tokenizer
    usual, tokenizer.model_max_length = tokenizer.model_max_length, source.metadata.max_length
    tokenizer.save_pretrained(draft)
    tokenizer.model_max_length = usual


def _write_onnx(source: ExportSource, draft: Path) -> None:
    _write_fast_tokenizer(source.encoder, draft)
    write_onnx(source.model, draft / ONNX_FILE)


def _write_int8(source: ExportSource, draft: Path) -> None:
    _write_fast_tokenizer(source.encoder, draft)
    write_int8_onnx(source.model, draft / ONNX_FILE, source.reviews)


WRITERS: dict[str, Callable[[ExportSource, Path], None]] = {
    MERGED: _write_merged,
    ONNX: _write_onnx,
    ONNX_INT8: _write_int8,
}
"""Form -> what writes its model and tokenizer into a folder."""
