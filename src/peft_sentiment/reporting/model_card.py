"""The model card of a saved adapter: README.md in the hub's form, with its scores as metadata."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peft_sentiment.errors import AdapterError
from peft_sentiment.files import write_text
from peft_sentiment.records import Results
from peft_sentiment.reporting.html import build_environment
from peft_sentiment.reporting.page import build_score_grid, describe_schedule

if TYPE_CHECKING:
    from huggingface_hub import ModelCardData

CARD_FILE = "README.md"
METADATA_FILE = "peft_sentiment.json"
BRACKETS = {"f1": "macro", "precision": "macro", "recall": "macro"}
METRICS = ("accuracy", "f1", "precision", "recall", "roc_auc")

HUB_NAMES = {
    "packaged/distilbert-minilm-l6-mean": "sentence-transformers/all-MiniLM-L6-v2",
    "packaged/distilbert-minilm-l6": "sentence-transformers/all-MiniLM-L6-v2",
    "packaged/minilm-l6": "sentence-transformers/all-MiniLM-L6-v2",
    "packaged/imdb": "stanfordnlp/imdb",
    "packaged/rotten_tomatoes": "cornell-movie-review-data/rotten_tomatoes",
}
"""Our names of packaged models and data -> where the hub has what they are made of."""

BASE_LICENCES = {
    "sentence-transformers/all-MiniLM-L6-v2": "Apache-2.0",
    "distilbert-base-uncased": "Apache-2.0",
    "distilbert/distilbert-base-uncased": "Apache-2.0",
    "bert-base-uncased": "Apache-2.0",
    "google-bert/bert-base-uncased": "Apache-2.0",
    "roberta-base": "MIT",
    "FacebookAI/roberta-base": "MIT",
    "answerdotai/ModernBERT-base": "Apache-2.0",
}
"""Encoder -> licence that its page names."""

UNSTATED_DATA = {
    "stanfordnlp/imdb": "the collection of Maas et al. (2011) names no licence; its reviews belong "
    "to those who wrote them",
    "cornell-movie-review-data/rotten_tomatoes": "the collection of Pang and Lee (2005) names no "
    "licence; its sentences belong to those who wrote them",
}


@dataclass(frozen=True)
class CardFacts:
    """What a card is made of.

    Attributes:
        base: name of the base, as a hub knows it; None for a local folder.
        base_shown: name of the base as it was asked for, without the folders before it.
        dataset: name of the data on the hub; None for files.
        dataset_shown: name of the data as it was asked for.
        metadata: contents of the adapter's own file.
        results: of the run that made the adapter, where it has been measured.
    """

    base: str | None
    base_shown: str
    dataset: str | None
    dataset_shown: str
    metadata: dict[str, Any]
    results: Results | None


def write_model_card(folder: Path, results: Results | None) -> Path:
    """Write the card of an adapter beside it, and return its place.

    Args:
        folder: of the adapter.
        results: of the run that made it, where it has been measured.

    Raises:
        AdapterError: the folder is not that of an adapter of ours.
        OutputError: the card can't be written.
    """
    path = folder / CARD_FILE
    write_text(path, render_model_card(read_facts(folder, results)))
    return path


def read_facts(folder: Path, results: Results | None) -> CardFacts:
    """Read what the card says from an adapter's own file.

    Raises:
        AdapterError: it is missing or damaged.
    """
    path = folder / METADATA_FILE
    try:
        metadata = json.loads(path.read_text(encoding="utf-8"))
        base = str(metadata["base_name"])
        trained_with = metadata["trained_with"] or {}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise AdapterError(
            f"{path}: not readable ({type(error).__name__}: {error}). "
            "Name the folder that a training has written."
        ) from error
    data = trained_with.get("data", {})
    files, name = data.get("train_file") or (), data.get("dataset_name", "reviews of its own")
    return CardFacts(
        base=None if _is_folder(base) else HUB_NAMES.get(base, base),
        base_shown=Path(base).name if _is_folder(base) else base,
        dataset=None if files or not data else HUB_NAMES.get(name, name),
        dataset_shown=", ".join(Path(file).name for file in files) or name,
        metadata=metadata,
        results=results,
    )


def render_model_card(facts: CardFacts) -> str:
    """Return the card: metadata between lines of dashes, then Markdown."""
    template = build_environment().get_template("card.md")
    results = facts.results
    body = template.render(
        facts=facts,
        metadata=facts.metadata,
        results=results,
        scores=None if results is None else build_score_grid(results.models),
        schedule="" if results is None else describe_schedule(results.training),
        base_licence=BASE_LICENCES.get(facts.base or ""),
        data_licence=UNSTATED_DATA.get(facts.dataset or ""),
    )
    return f"---\n{build_card_data(facts).to_yaml()}\n---\n\n{body}"


def build_card_data(facts: CardFacts) -> "ModelCardData":
    """Return the card's metadata in the hub's own form."""
    # Imported here: it takes half a second, which `report` need not wait for.
    from huggingface_hub import EvalResult, ModelCardData

    results = facts.results
    values = (
        {name: getattr(results.models["peft"], name) for name in METRICS}
        if results is not None
        else {}
    )
    return ModelCardData(
        base_model=facts.base,
        datasets=facts.dataset,
        library_name="peft",
        pipeline_tag="text-classification",
        tags=["sentiment-analysis", "peft-sentiment", "safetensors"],
        metrics=[name for name, value in values.items() if value is not None] or None,
        model_name=f"{facts.base_shown} on {facts.dataset_shown}",
        eval_results=[
            EvalResult(
                task_type="text-classification",
                dataset_type=facts.dataset or "file",
                dataset_name=facts.dataset_shown,
                dataset_split="held-out test reviews",
                metric_type=name,
                metric_name=f"{name} ({BRACKETS[name]})" if name in BRACKETS else name,
                metric_value=round(value, 6),
            )
            for name, value in values.items()
            if value is not None
        ]
        or None,
    )


def _is_folder(base: str) -> bool:
    """Tell whether a base's name is a path; a hub's names have one slash at most."""
    is_path = base.startswith((".", "/", "~")) or base.count("/") > 1
    return base not in HUB_NAMES and (is_path or Path(base).is_dir())
