"""What all contestants are measured with: the same reviews, encoders and adapter."""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from peft_sentiment.cli import set_up_libraries

set_up_libraries()

import numpy as np  # noqa: E402 - the libraries are set up before they are loaded
import torch  # noqa: E402

from peft_sentiment.config import PACKAGED_MEAN, DataSettings  # noqa: E402
from peft_sentiment.data.sources import load_reviews  # noqa: E402
from peft_sentiment.model.packaged import load_packaged_folder  # noqa: E402
from peft_sentiment.records.reviews import Reviews  # noqa: E402

LABELS = ("negative", "positive")
BATCH = 16
LORA = {"r": 16, "lora_alpha": 32, "lora_dropout": 0.1}
Figures = dict[str, Any]


def draw_reviews(count: int, skip: int = 0) -> Reviews:
    """Return so many of the packaged IMDB reviews, the same ones in every process."""
    everything = load_reviews(DataSettings()).train
    order = np.random.default_rng(0).permutation(len(everything))
    return everything.take(order[skip : skip + count])


def find_base(name: str) -> str:
    """Return the folder of an encoder: packaged, the default, or distilbert-base of random weights.

    The packaged one is the default one without its seventh layer, which takes the mean.
    """
    if name == "packaged":
        return str(load_packaged_folder("packaged/distilbert-minilm-l6"))
    if name == "default":
        return str(load_packaged_folder(PACKAGED_MEAN))
    folder = Path(tempfile.gettempdir()) / "peft-sentiment-bench-distilbert-base"
    if not (folder / "tokenizer.json").is_file():
        from transformers import AutoTokenizer, DistilBertConfig, DistilBertModel

        torch.manual_seed(0)
        tokenizer = AutoTokenizer.from_pretrained(find_base("packaged"))
        DistilBertModel(DistilBertConfig()).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return str(folder)


def time_scoring(score: Callable[[], object], count: int) -> Figures:
    """Time the second of two calls."""
    score()
    start = time.perf_counter()
    score()
    seconds = time.perf_counter() - start
    return {"reviews_per_second": count / seconds, "seconds": seconds}
