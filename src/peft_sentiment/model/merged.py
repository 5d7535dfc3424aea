"""A saved adapter merged into its base, read without transformers and peft.

To import those takes longer than to label a text. What most people have, plain LoRA or trained
biases on a DistilBERT or a BERT, is therefore read from its files and computed by the fast path,
with the same result. Whatever is not plainly that, or not in order, is left to
`SentimentClassifier.load`, which knows every case and says what is wrong.

Shapes: N tokens of all reviews, B reviews, D width, C labels.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import nn
from torch.nn.functional import embedding, linear

from peft_sentiment.config import PACKAGED_MODELS
from peft_sentiment.files import fingerprint_weights
from peft_sentiment.model.attention import ChooseForm
from peft_sentiment.model.layer import Layer
from peft_sentiment.model.linear import FrozenLinear
from peft_sentiment.model.metadata import (
    COMPANION_FILES,
    PROBE,
    AdapterMetadata,
    load_metadata,
)
from peft_sentiment.model.packaged import load_packaged_folder
from peft_sentiment.model.packed import PackedModel
from peft_sentiment.model.speed import EncoderShape

Weights = dict[str, torch.Tensor]

PLAIN_SETTINGS = frozenset({
    "auto_mapping", "base_model_name_or_path", "exclude_modules", "inference_mode",
    "init_lora_weights", "layers_pattern", "layers_to_transform", "lora_alpha", "lora_dropout",
    "megatron_core", "modules_to_save", "peft_type", "peft_version", "qalora_group_size", "r",
    "revision", "target_modules", "task_type", "use_rslora", "bias",
})  # fmt: skip
"""Settings of peft.LoraConfig that are allowed for or change nothing once training is over; any
other that is set makes an adapter that is not plain."""

PLAIN_STARTS = (True, False, "gaussian", "orthogonal")
"""Initialisations that leave the base as it was."""


HEAD_COPIES = (".modules_to_save.", ".original_module.")
"""In the names of a head's biases that peft saves once more, where it saves all biases."""


class NotPlainError(Exception):
    """The adapter or its base is something that is not read here."""


@dataclass(frozen=True)
class Family:
    """How an architecture names its weights and its dimensions.

    Attributes:
        layer: prefix of a layer's weights, with its number left open.
        parts: query, key, value, attention's output, inner and outer layer, and both norms.
        heads: name in config.json of the number of attention heads; there are 12 by default.
        activation: name in config.json of the activation; gelu by default.
        embeddings: word, position and type embeddings, as far as there are any.
        head: the linear layers of the head, in order.
        head_activation: what stands between the two.
    """

    layer: str
    parts: tuple[str, ...]
    heads: str
    activation: str
    embeddings: tuple[str, ...]
    head: tuple[str, str]
    head_activation: Any


FAMILIES = {
    "distilbert": Family(
        "transformer.layer.{}.",
        ("attention.q_lin", "attention.k_lin", "attention.v_lin", "attention.out_lin",
         "ffn.lin1", "ffn.lin2", "sa_layer_norm", "output_layer_norm"),
        "n_heads",
        "activation",
        ("word_embeddings", "position_embeddings"),
        ("pre_classifier", "classifier"),
        torch.relu,
    ),
    "bert": Family(
        "encoder.layer.{}.",
        ("attention.self.query", "attention.self.key", "attention.self.value",
         "attention.output.dense", "intermediate.dense", "output.dense",
         "attention.output.LayerNorm", "output.LayerNorm"),
        "num_attention_heads",
        "hidden_act",
        ("word_embeddings", "token_type_embeddings", "position_embeddings"),
        ("bert.pooler.dense", "classifier"),
        torch.tanh,
    ),
}  # fmt: skip
"""Model type -> its names."""


@dataclass(frozen=True)
class MergedModel:
    """A base with its adapter merged, in float32.

    Attributes:
        metadata: what was saved with the adapter besides.
        family: how its architecture names its weights.
        weights: of the encoder, without the model type in front.
        head: of the classification head.
        config: of the base, as its config.json has it.
        tokenizer: that was saved with the adapter.
    """

    metadata: AdapterMetadata
    family: Family
    config: dict[str, Any]
    weights: Weights
    head: Weights
    tokenizer: Tokenizer

    @property
    def heads(self) -> int:
        """Heads of the attention."""
        return int(self.config.get(self.family.heads, 12))

    @property
    def shape(self) -> EncoderShape:
        """What the speed depends on."""
        inner, width = self.weights[self._name(0, 4) + ".weight"].shape
        return EncoderShape(int(width), int(inner), self.heads)

    def pack(self, dtype: torch.dtype, choose_form: ChooseForm) -> PackedModel:
        """Return its fast form.

        Args:
            dtype: to compute in.
            choose_form: which form of attention a review takes.
        """
        numbers = range(_count_layers(self.family, self.weights))
        layers = tuple(self._build_layer(number, dtype) for number in numbers)
        return PackedModel(self._embed, layers, self._classify, (), dtype, choose_form)

    def _name(self, layer: int, part: int) -> str:
        return self.family.layer.format(layer) + self.family.parts[part]

    def _build_layer(self, number: int, dtype: torch.dtype) -> Layer:
        names = [self._name(number, part) for part in range(len(self.family.parts))]
        linears = [
            FrozenLinear(self.weights[f"{name}.weight"], self.weights[f"{name}.bias"], dtype)
            for name in names[:6]
        ]
        query, key, value, out, inner, outer = linears
        attention_norm, output_norm = (self._build_norm(name) for name in names[6:])
        return Layer(
            query, key, value, out, attention_norm, inner, nn.GELU(), "gelu", outer, output_norm,
            self.heads,
        )  # fmt: skip

    def _build_norm(self, name: str) -> nn.LayerNorm:
        weight, bias = self.weights[f"{name}.weight"], self.weights[f"{name}.bias"]
        norm = nn.LayerNorm(len(weight), eps=self._eps)
        norm.weight, norm.bias = (nn.Parameter(w, requires_grad=False) for w in (weight, bias))
        return norm

    @property
    def _eps(self) -> float:
        return float(self.config.get("layer_norm_eps", 1e-12))

    def _embed(self, ids: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        """Return (N, D), added up in the order of the architecture."""
        rows = {"word_embeddings": ids, "position_embeddings": places}
        x: torch.Tensor | None = None
        for name in self.family.embeddings:
            row = rows.get(name, torch.zeros_like(ids))
            part = embedding(row, self.weights[f"embeddings.{name}.weight"])
            x = part if x is None else x + part
        assert x is not None  # noqa: S101 - every family has embeddings
        normalised: torch.Tensor = self._build_norm("embeddings.LayerNorm")(x)
        return normalised

    def _classify(self, first: torch.Tensor) -> torch.Tensor:
        """Return (B, C) logits for the (B, D) outputs at the first tokens."""
        inner, outer = self.family.head
        raised = self.family.head_activation(self._apply_head(inner, first))
        return self._apply_head(outer, raised)

    def _apply_head(self, name: str, x: torch.Tensor) -> torch.Tensor:
        return linear(x, self.head[f"{name}.weight"], self.head[f"{name}.bias"])


def load_merged_model(folder: Path) -> MergedModel | None:
    """Read a saved adapter and its base, or return None if it is not plain or not in order.

    Args:
        folder: of the adapter, whose base must be a packaged one or a local folder.
    """
    try:
        return _load(folder)
    except Exception:  # whatever is wrong, the whole form of the adapter is loaded, and tells it
        return None


def _load(folder: Path) -> MergedModel:
    metadata = load_metadata(folder)
    _require(not any((folder / name).exists() for name in COMPANION_FILES))
    base = _find_base(metadata)
    config = json.loads((base / "config.json").read_text(encoding="utf-8"))
    kind = str(config["model_type"])
    family = FAMILIES[kind]
    _require(config.get(family.activation, "gelu") == "gelu")
    _require(config.get("position_embedding_type", "absolute") == "absolute")
    _require(metadata.max_length <= int(config.get("max_position_embeddings", 512)))
    weights = {
        name.removeprefix(f"{kind}."): weight.float()
        for name, weight in load_file(base / "model.safetensors").items()
    }
    head = _merge(folder, f"base_model.model.{kind}.", family, weights)
    for name in (f"{layer}.{part}" for layer in family.head for part in ("weight", "bias")):
        if name not in head:  # a pooler that the base brings, and that was not trained
            head[name] = weights[name.removeprefix(f"{kind}.")]
    _require(len(head) == 2 * len(family.head))  # nothing besides
    _require(head[f"{family.head[1]}.weight"].shape[0] == len(metadata.label_names))
    return MergedModel(metadata, family, config, weights, head, _load_tokenizer(folder, base))


def _find_base(metadata: AdapterMetadata) -> Path:
    name = metadata.base_name
    base = load_packaged_folder(name) if name in PACKAGED_MODELS else Path(name)
    _require(base.is_dir() and fingerprint_weights(base) == metadata.base_sha256)
    return base


def _merge(folder: Path, prefix: str, family: Family, weights: Weights) -> Weights:
    """Put the adapter's updates and biases into the encoder, as peft does; return the head's."""
    scaling = _read_scaling(json.loads((folder / "adapter_config.json").read_text("utf-8")))
    head: Weights = {}
    updates: dict[str, Weights] = {}
    heads = tuple(f"base_model.model.{name}." for name in family.head)
    for name, weight in load_file(folder / "adapter_model.safetensors").items():
        if name.startswith(heads):
            if not any(copy in name for copy in HEAD_COPIES):
                head[name.removeprefix("base_model.model.")] = weight.float()
            continue
        _require(name.startswith(prefix))
        known = name.removeprefix(prefix).replace(".base_layer.", ".")
        if known.endswith(".bias"):
            _require(weights[known].shape == weight.shape)
            weights[known] = weight.float()
            continue
        module, dot, side = known.rpartition(".lora_")
        _require(bool(dot) and side in ("A.weight", "B.weight"))
        updates.setdefault(module, {})[side[0]] = weight.float()
    linears = {part for part in family.parts if "norm" not in part.lower()}
    for module, update in updates.items():
        _require(any(module.endswith(f".{part}") for part in linears))
        weights[f"{module}.weight"] += (update["B"] @ update["A"]) * scaling
    return head


def _read_scaling(settings: Mapping[str, Any]) -> float:
    foreign = [name for name, value in settings.items() if value and name not in PLAIN_SETTINGS]
    _require(not foreign and settings["peft_type"] == "LORA")
    _require(settings["init_lora_weights"] in PLAIN_STARTS)
    r = int(settings["r"])
    return float(settings["lora_alpha"]) / (math.sqrt(r) if settings["use_rslora"] else r)


def _load_tokenizer(folder: Path, base: Path) -> Tokenizer:
    # Nothing in it is needed here, but a folder that lacks it is not whole.
    _require(isinstance(json.loads((folder / "tokenizer_config.json").read_text("utf-8")), dict))
    try:
        tokenizer, of_base = (
            Tokenizer.from_file(str(place / "tokenizer.json")) for place in (folder, base)
        )
    except Exception as error:  # all that `tokenizers` raises for a bad file
        raise NotPlainError from error
    for file in (tokenizer, of_base):  # what a file says of either, transformers does not follow
        file.no_truncation()
        file.no_padding()
    _require(tokenizer.get_vocab() == of_base.get_vocab())
    _require(tokenizer.encode(PROBE).ids == of_base.encode(PROBE).ids)
    return tokenizer


def _count_layers(family: Family, weights: Weights) -> int:
    first = family.parts[0]
    number = 0
    while f"{family.layer.format(number)}{first}.weight" in weights:
        number += 1
    return number


def _require(is_plain: bool) -> None:
    if not is_plain:
        raise NotPlainError
