"""The fast form of a model of transformers or peft, where its architecture has one."""

from collections.abc import Callable
from typing import Any

import torch
from peft import PeftConfig, PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn

from peft_sentiment.model.architectures import ends_with
from peft_sentiment.model.attention import ChooseForm
from peft_sentiment.model.dropout import CheapDropout
from peft_sentiment.model.layer import Layer
from peft_sentiment.model.linear import Projection
from peft_sentiment.model.lora import build_merged_projection, build_projection
from peft_sentiment.model.packed import PackedModel


def can_score_packed(model: nn.Module) -> bool:
    """Tell whether a model's architecture is one of those that can be computed without padding."""
    bare = _get_bare_model(model)
    if bare.config.model_type not in READERS:
        return False
    if isinstance(model, PeftModel) and model.active_peft_config.is_prompt_learning:
        return False
    # Norms that an adapter has taken the place of are read by name, and would be passed over.
    adapted = (part for part in bare.modules() if isinstance(part, BaseTunerLayer))
    return all(isinstance(part.get_base_layer(), nn.Linear) for part in adapted)


def can_score_packed_with(model: nn.Module, config: PeftConfig) -> bool:
    """Tell whether a plain model is going to be one that `can_score_packed`, with an adapter."""
    if config.is_prompt_learning or not can_score_packed(model):
        return False
    targets = getattr(config, "target_modules", None)
    if targets is None or isinstance(targets, str):
        return True
    return all(
        isinstance(part, nn.Linear)
        for name, part in model.named_modules()
        if any(ends_with(name, target) for target in targets)
    )


def can_train_packed(model: nn.Module) -> bool:
    """Tell whether all that is trained lies in linear layers of the encoder and in the head.

    And whether the encoder drops nothing itself, which the fast path does not do.
    """
    if not can_score_packed(model):
        return False
    packed = build_packed_model(model, torch.float32, lambda _: "fused", is_merged=False)
    known = {id(weight) for weight in packed.head_weights}
    for layer in packed.layers:
        known.update(id(w) for projection in layer.projections for w in projection.trained)
    trained = {id(weight) for weight in model.parameters() if weight.requires_grad}
    return trained <= known and not _drops_in_body(_get_bare_model(model))


def _drops_in_body(model: Any) -> bool:  # noqa: ANN401 - a model of transformers
    inside = model.base_model.named_modules()
    rates = [
        getattr(module, "p", 0.0)
        for name, module in inside
        if isinstance(module, nn.Dropout | CheapDropout) and "lora_dropout" not in name
    ]
    return any(rate > 0 for rate in rates)


def build_packed_model(
    model: nn.Module, dtype: torch.dtype, choose_form: ChooseForm, *, is_merged: bool
) -> PackedModel:
    """Return the fast form of a model; it shares the weights that are trained.

    Args:
        model: plain or with an adapter, of an architecture that `can_score_packed`.
        dtype: to compute in.
        choose_form: which form of attention a review takes.
        is_merged: whether adapters are merged for scoring; else they can be trained.
    """
    build = build_merged_projection if is_merged else build_projection
    return read_packed_model(model, dtype, choose_form, build)


def read_packed_model(
    model: nn.Module,
    dtype: torch.dtype,
    choose_form: ChooseForm,
    build: Callable[[nn.Module, torch.dtype], Projection],
) -> PackedModel:
    """Return the fast form of a model, as `build_packed_model` does.

    Args:
        model: as there.
        dtype: as there.
        choose_form: as there.
        build: makes what computes a linear layer, adapted or not.
    """
    bare = _get_bare_model(model)
    embed, blocks, read, classify = READERS[bare.config.model_type](bare)
    layers = tuple(
        read(block, lambda module: build(module, dtype), bare.config) for block in blocks
    )
    in_layers = {id(weight) for block in blocks for weight in block.parameters()}
    in_layers.update(id(weight) for weight in bare.base_model.embeddings.parameters())
    head = tuple(w for w in bare.parameters() if w.requires_grad and id(w) not in in_layers)
    return PackedModel(embed, layers, classify, head, dtype, choose_form)


def _get_bare_model(model: nn.Module) -> Any:  # noqa: ANN401 - a model of transformers
    return model.get_base_model() if isinstance(model, PeftModel) else model


Build = Callable[[nn.Module], Projection]


def _read_distilbert_layer(block: Any, build: Build, config: Any) -> Layer:  # noqa: ANN401
    attention, ffn = block.attention, block.ffn
    return Layer(
        build(attention.q_lin), build(attention.k_lin), build(attention.v_lin),
        build(attention.out_lin), block.sa_layer_norm,
        build(ffn.lin1), ffn.activation, config.activation, build(ffn.lin2),
        block.output_layer_norm, attention.n_heads,
    )  # fmt: skip


def _read_bert_layer(block: Any, build: Build, config: Any) -> Layer:  # noqa: ANN401
    attention, output = block.attention.self, block.attention.output
    return Layer(
        build(attention.query), build(attention.key), build(attention.value),
        build(output.dense), output.LayerNorm,
        build(block.intermediate.dense), block.intermediate.intermediate_act_fn,
        config.hidden_act, build(block.output.dense),
        block.output.LayerNorm, attention.num_attention_heads,
    )  # fmt: skip


def _read_distilbert(model: Any) -> tuple[Any, ...]:  # noqa: ANN401 - a model of transformers
    body = model.distilbert

    def classify(first: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = model.classifier(
            model.dropout(torch.relu(model.pre_classifier(first)))
        )
        return logits

    return _embed_by(body, 0), body.transformer.layer, _read_distilbert_layer, classify


def _read_bert(model: Any) -> tuple[Any, ...]:  # noqa: ANN401 - a model of transformers
    body = model.bert

    def classify(first: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = model.classifier(model.dropout(body.pooler(first[:, None])))
        return logits

    return _embed_by(body, 0), body.encoder.layer, _read_bert_layer, classify


def _read_roberta(model: Any) -> tuple[Any, ...]:  # noqa: ANN401 - a model of transformers
    return _read_with_whole_head(model, model.config.pad_token_id + 1)


def _read_electra(model: Any) -> tuple[Any, ...]:  # noqa: ANN401 - a model of transformers
    return _read_with_whole_head(model, 0)


def _read_with_whole_head(model: Any, first_place: int) -> tuple[Any, ...]:  # noqa: ANN401
    """Read a model whose classification head takes the encoder's output whole."""
    body = model.base_model

    def classify(first: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = model.classifier(first[:, None])
        return logits

    return _embed_by(body, first_place), body.encoder.layer, _read_bert_layer, classify


def _embed_by(body: Any, first_place: int) -> Callable[..., torch.Tensor]:  # noqa: ANN401
    project = getattr(body, "embeddings_project", nn.Identity())

    def embed(ids: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        positions = (places + first_place)[None]
        embedded: torch.Tensor = project(body.embeddings(ids[None], position_ids=positions))
        return embedded[0]

    return embed


READERS: dict[str, Callable[[Any], tuple[Any, ...]]] = {
    "distilbert": _read_distilbert,
    "bert": _read_bert,
    "roberta": _read_roberta,
    "xlm-roberta": _read_roberta,
    "camembert": _read_roberta,
    "electra": _read_electra,
}
"""Model type -> what finds its embeddings, layers and head."""
