"""Check a saved adapter: the same in a new process, by plain `peft`, merged, and turned off."""

import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from peft_sentiment.config import PACKAGED_IMDB, DataSettings, ModelSettings, Settings, Truncation
from peft_sentiment.data.batching import tokenize_reviews
from peft_sentiment.data.sources import load_reviews
from peft_sentiment.data.windows import divide_reviews
from peft_sentiment.errors import AdapterError
from peft_sentiment.evaluation.fresh_process import Job, check_answer, load_elsewhere
from peft_sentiment.evaluation.verification import Check, check_model, compute_padded_logits
from peft_sentiment.model.encoder import load_encoder
from peft_sentiment.model.saved_adapters import load_adapter
from peft_sentiment.reporting.verification import show_checks

SAMPLE_SIZE = 32
"""Reviews that are scored where the user names none: enough for long and short ones."""


def verify_adapter(
    folder: Path,
    texts: Sequence[str] | None,
    overrides: Mapping[str, Mapping[str, Any]],
    console: Console,
) -> None:
    """Check a saved adapter on some reviews, and show what was found.

    Args:
        folder: of the adapter.
        texts: reviews to compare on; by default some of the packaged ones.
        overrides: settings of the model given by hand, such as where its base is.
        console: where to show the checks.

    Raises:
        AdapterError: the adapter can't be loaded, or a check has failed.
    """
    settings = Settings().updated({"model": overrides.get("model", {})}, "command line").model
    base_name = overrides.get("model", {}).get("model_name_or_path")
    texts = load_sample_texts() if texts is None else list(texts)
    with console.status(f"Comparing on {len(texts):,} reviews"):
        checks = list(iterate_checks(folder, texts, settings, base_name))
    show_checks(console, f"{folder} on {len(texts):,} reviews", checks)
    failed = [check.name for check in checks if check.status == "fail"]
    if failed:
        raise AdapterError(
            f"{folder}: {len(failed)} of {len(checks)} checks have failed: {', '.join(failed)}. "
            "Do not use this adapter; copy the folder again, or train it again."
        )


def load_sample_texts() -> list[str]:
    """Return some packaged reviews, from all over the data."""
    source = load_reviews(DataSettings(dataset_name=PACKAGED_IMDB))
    reviews = source.train if source.test is None else source.test
    return list(reviews.texts[:: len(reviews) // SAMPLE_SIZE][:SAMPLE_SIZE])


def iterate_checks(
    folder: Path,
    texts: Sequence[str],
    settings: ModelSettings,
    base_name: str | None,
) -> Iterator[Check]:
    """Yield the checks of a saved adapter.

    Args:
        folder: of the adapter.
        texts: reviews to compare on.
        settings: how its base is loaded.
        base_name: where the base is on this machine, if not under its saved name.

    Raises:
        AdapterError: the adapter can't be loaded.
    """
    model, encoder, metadata = load_adapter(folder, settings, base_name)
    pad_id = int(encoder.tokenizer.pad_token_id)
    truncation = typing.cast("Truncation", metadata.truncation)
    whole = tokenize_reviews(
        texts, encoder.tokenizer, metadata.max_length, truncation, metadata.window_length
    )
    reviews = divide_reviews(whole).reviews  # what is computed, and plain peft can compute as well
    answer = load_elsewhere([Job(str(folder), str(encoder.folder), pad_id)], reviews)[0]
    yield from check_answer(answer, compute_padded_logits(model, reviews, pad_id))
    base = load_encoder(
        ModelSettings(model_name_or_path=str(encoder.folder)),
        metadata.label_names,
        metadata.head_seed,
    )
    yield from check_model(model, base.model, metadata.method, reviews, pad_id)
