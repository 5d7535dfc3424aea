"""The encoder without padding: the tokens of all reviews end to end, attention review by review.

Linear layers, norms and activations see one matrix of real tokens. The last layer is computed only
at the first token of each review, where the head reads it. Gradients are written out: none is
computed for a frozen weight or below the first adapter, and what they need lies in a workspace.

Shapes: N tokens of all reviews, B reviews, D width, C labels.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from peft import PeftModel
from torch import nn

from peft_sentiment.model.attention import (
    ChooseForm,
    Group,
    attend,
    attend_first,
    group_by_length,
    pull_attention,
    pull_first_attention,
    round_up,
)
from peft_sentiment.model.dropout import CheapDropout
from peft_sentiment.model.linear import (
    FrozenLinear,
    LoraLinear,
    Projection,
    Tape,
    build_merged_projection,
    build_projection,
)
from peft_sentiment.model.workspace import Workspace

ROW_ROUNDING = 64
"""oneDNN compiles a kernel for each number of rows; this keeps them few, at 1 to 2 % more rows."""


@dataclass(frozen=True)
class PackedReviews:
    """Reviews laid end to end.

    Attributes:
        ids: (N,) token ids.
        places: (N,) place of each token in its review.
        lengths: tokens of each of the B reviews.
    """

    ids: torch.Tensor
    places: torch.Tensor
    lengths: tuple[int, ...]

    @property
    def first_rows(self) -> list[int]:
        """Rows of the B first tokens."""
        return [0, *itertools.accumulate(self.lengths[:-1])]


def pack_reviews(token_ids: Sequence[NDArray[np.int32]]) -> PackedReviews:
    """Lay reviews end to end, in their order, and round the number of rows up.

    The rows after the last review hold token 0 at place 0; nothing reads what becomes of them.
    """
    lengths = tuple(map(len, token_ids))
    rows, end = round_up(sum(lengths), ROW_ROUNDING), 0
    ids, places = np.zeros(rows, np.int64), np.zeros(rows, np.int64)
    for review, length in zip(token_ids, lengths, strict=True):
        ids[end : end + length], places[end : end + length] = review, np.arange(length)
        end += length
    return PackedReviews(torch.from_numpy(ids), torch.from_numpy(places), lengths)


@dataclass(frozen=True)
class Layer:
    """One layer of an encoder whose norms follow its residuals, as BERT's do."""

    query: Projection
    key: Projection
    value: Projection
    out: Projection
    attention_norm: nn.LayerNorm
    inner: Projection
    activation: nn.Module
    activation_name: str
    outer: Projection
    output_norm: nn.LayerNorm
    heads: int

    @property
    def projections(self) -> tuple[Projection, ...]:
        """All six."""
        return (self.query, self.key, self.value, self.out, self.inner, self.outer)

    @property
    def is_trained(self) -> bool:
        """Whether any of its weights is."""
        return any(projection.trained for projection in self.projections)

    def push(
        self,
        x: torch.Tensor,
        groups: Sequence[Group],
        choose_form: ChooseForm,
        workspace: Workspace,
        tape: Tape,
    ) -> tuple[torch.Tensor, Any]:
        """Return the (N, D) output for the (N, D) input, and what `pull` needs."""
        (query, kept_query), (key, kept_key), (value, kept_value) = (
            projection.push(x, tape) for projection in (self.query, self.key, self.value)
        )
        attended, kept_attention = attend(
            query, key, value, groups, self.heads, choose_form, workspace, tape.is_kept
        )
        y, kept_rest = self._push_rest(attended, x, tape)
        return y, (kept_query, kept_key, kept_value, kept_attention, kept_rest)

    def pull(
        self,
        gradient: torch.Tensor,
        kept: Any,  # noqa: ANN401 - what `push` returned
        groups: Sequence[Group],
        workspace: Workspace,
        tape: Tape,
        *,
        is_first: bool,
    ) -> torch.Tensor | None:
        """Return the gradient of the input, or None for the first layer that is trained."""
        kept_query, kept_key, kept_value, kept_attention, kept_rest = kept
        of_attended, of_x = self._pull_rest(gradient, kept_rest, tape)
        pulled = pull_attention(of_attended, kept_attention, groups, self.heads, workspace)
        of_query, of_key, of_value = pulled
        parts = (
            (self.query, of_query, kept_query),
            (self.key, of_key, kept_key),
            (self.value, of_value, kept_value),
        )
        if is_first:
            pull_weights_only(parts, tape)
            return None
        for projection, of_output, kept_part in parts:
            of_x = projection.pull(of_output, kept_part, tape, of_x)
        return of_x

    def push_first(
        self, x: torch.Tensor, reviews: PackedReviews, tape: Tape
    ) -> tuple[torch.Tensor, Any]:
        """Return the (B, D) output at the first tokens for the (N, D) input."""
        first = x[reviews.first_rows]
        query, kept_query = self.query.push(first, tape)
        (key, kept_key), (value, kept_value) = (
            projection.push(x, tape) for projection in (self.key, self.value)
        )
        attended, kept_attention = attend_first(query, key, value, reviews.lengths, self.heads)
        y, kept_rest = self._push_rest(attended, first, tape)
        return y, (kept_query, kept_key, kept_value, kept_attention, kept_rest)

    def pull_first(
        self,
        gradient: torch.Tensor,
        kept: Any,  # noqa: ANN401 - what `push_first` returned
        reviews: PackedReviews,
        tape: Tape,
        *,
        is_first: bool,
    ) -> torch.Tensor | None:
        """Return the (N, D) gradient of the input, or None for the first layer that is trained."""
        kept_query, kept_key, kept_value, kept_attention, kept_rest = kept
        of_attended, of_first = self._pull_rest(gradient, kept_rest, tape)
        of_query, of_key, of_value = pull_first_attention(
            of_attended, kept_attention, reviews.lengths, len(reviews.ids)
        )
        parts = ((self.key, of_key, kept_key), (self.value, of_value, kept_value))
        if is_first:
            pull_weights_only(((self.query, of_query, kept_query), *parts), tape)
            return None
        of_first = self.query.pull(of_query, kept_query, tape, of_first)
        of_x: torch.Tensor | None = None
        for projection, of_output, kept_part in parts:
            of_x = projection.pull(of_output, kept_part, tape, of_x)
        assert of_x is not None  # noqa: S101 - there are two parts
        of_x[reviews.first_rows] += of_first
        return of_x

    def _push_rest(
        self, attended: torch.Tensor, x: torch.Tensor, tape: Tape
    ) -> tuple[torch.Tensor, Any]:
        """Return what follows attention: its output layer, the feed-forward part, both norms."""
        total, kept_out = _push_onto(self.out, x, attended, tape)
        middle, *moments = _normalise(total, self.attention_norm)
        if isinstance(self.inner, FrozenLinear) and not tape.is_kept:
            active = self.inner.activate(middle, self.activation_name, self.activation)
            raised = kept_inner = None
        else:
            raised, kept_inner = self.inner.push(middle, tape)
            active = self.activation(raised)
        second, kept_outer = _push_onto(self.outer, middle, active, tape)
        y, *second_moments = _normalise(second, self.output_norm)
        return y, (
            (total, *moments), kept_out, raised, kept_inner, kept_outer, (second, *second_moments)
        )  # fmt: skip

    def _pull_rest(
        self,
        gradient: torch.Tensor,
        kept: Any,  # noqa: ANN401 - what `_push_rest` returned
        tape: Tape,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the gradients of attention's output and, by the residual, of the layer's input."""
        first_norm, kept_out, raised, kept_inner, kept_outer, second_norm = kept
        of_second = _pull_norm(gradient, second_norm, self.output_norm)
        of_active = self.outer.pull(of_second, kept_outer, tape, None)
        of_raised = self._pull_activation(of_active, raised)
        of_middle = self.inner.pull(of_raised, kept_inner, tape, of_second)
        of_total = _pull_norm(of_middle, first_norm, self.attention_norm)
        return self.out.pull(of_total, kept_out, tape, None), of_total

    def _pull_activation(self, gradient: torch.Tensor, raised: torch.Tensor) -> torch.Tensor:
        if self.activation_name == "gelu":
            torch.ops.aten.gelu_backward.grad_input(gradient, raised, grad_input=gradient)
            return gradient
        with torch.enable_grad():
            raised = raised.detach().requires_grad_()
            return torch.autograd.grad(self.activation(raised), raised, gradient)[0]


def pull_weights_only(parts: Sequence[tuple[Projection, torch.Tensor, Any]], tape: Tape) -> None:
    """Add the gradients of the weights to the tape where that of the input is not needed."""
    for projection, of_output, kept in parts:
        if isinstance(projection, LoraLinear):
            projection.pull_update(of_output, kept, tape)
        elif projection.trained:
            projection.pull(of_output, kept, tape, None)


def _push_onto(
    projection: Projection, residual: torch.Tensor, x: torch.Tensor, tape: Tape
) -> tuple[torch.Tensor, Any]:
    if isinstance(projection, FrozenLinear):
        return projection.multiply_onto(residual, x), None
    y, kept = projection.push(x, tape)
    return y + residual, kept


def _normalise(x: torch.Tensor, norm: nn.LayerNorm) -> tuple[torch.Tensor, ...]:
    """Return the norm's output, and mean and inverse deviation of each row."""
    outputs: tuple[torch.Tensor, ...] = torch.native_layer_norm(
        x, norm.normalized_shape, norm.weight, norm.bias, norm.eps
    )
    return outputs


def _pull_norm(
    gradient: torch.Tensor, kept: tuple[torch.Tensor, ...], norm: nn.LayerNorm
) -> torch.Tensor:
    x, mean, deviation = kept
    of_x: torch.Tensor = torch.ops.aten.native_layer_norm_backward(
        gradient, x, norm.normalized_shape, mean, deviation, norm.weight, norm.bias,
        [True, False, False],
    )[0]  # fmt: skip
    return of_x


@dataclass(frozen=True)
class PackedModel:
    """A sequence-classification model that reads reviews laid end to end.

    Attributes:
        embed: (N,) ids and places -> (N, D).
        classify: (B, D) outputs at the first tokens -> (B, C) logits.
        head_weights: the trained weights of `classify`.
        dtype: of the activations.
        choose_form: which form of attention a review takes.
    """

    embed: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    layers: tuple[Layer, ...]
    classify: Callable[[torch.Tensor], torch.Tensor]
    head_weights: tuple[nn.Parameter, ...]
    dtype: torch.dtype
    choose_form: ChooseForm

    @property
    def first_trained(self) -> int:
        """Number of the first layer that is trained; of the last one if none is."""
        last = len(self.layers) - 1
        return next((i for i, layer in enumerate(self.layers) if layer.is_trained), last)

    @torch.no_grad()
    def score(self, reviews: PackedReviews, workspace: Workspace) -> torch.Tensor:
        """Return (B, C) logits in float32."""
        workspace.release()
        x = self.embed_reviews(reviews)
        tape, groups = Tape(), group_by_length(reviews.lengths, self.choose_form)
        for layer in self.layers[:-1]:
            x, _ = layer.push(x, groups, self.choose_form, workspace, tape)
            workspace.release()
        first, _ = self.layers[-1].push_first(x, reviews, tape)
        return self.classify(first.float())

    def embed_reviews(self, reviews: PackedReviews) -> torch.Tensor:
        """Return the (N, D) input of the first layer."""
        return self.embed(reviews.ids, reviews.places).to(self.dtype)

    @torch.no_grad()
    def run_frozen_layers(self, reviews: PackedReviews, workspace: Workspace) -> torch.Tensor:
        """Return the (N, D) input of the first layer that is trained."""
        workspace.release()
        x, groups = self.embed_reviews(reviews), group_by_length(reviews.lengths, self.choose_form)
        for layer in self.layers[: self.first_trained]:
            x, _ = layer.push(x, groups, self.choose_form, workspace, Tape())
            workspace.release()
        return x

    @torch.no_grad()
    def compute_gradients(
        self,
        x: torch.Tensor,
        reviews: PackedReviews,
        compute_loss: Callable[[torch.Tensor], torch.Tensor],
        workspace: Workspace,
    ) -> tuple[float, dict[nn.Parameter, torch.Tensor]]:
        """Return a batch's loss and the gradient of every trained weight.

        Args:
            x: (N, D), the input of the first layer that is trained, by `run_frozen_layers`.
            reviews: the batch.
            compute_loss: (B, C) logits -> loss.
            workspace: released by this.
        """
        workspace.release()
        start, last = self.first_trained, len(self.layers) - 1
        tape, groups = Tape(is_kept=True), group_by_length(reviews.lengths, self.choose_form)
        kept = []
        for layer in self.layers[start:last]:
            x, kept_layer = layer.push(x, groups, self.choose_form, workspace, tape)
            kept.append(kept_layer)
        first, kept_last = self.layers[last].push_first(x, reviews, tape)
        loss, gradient = self._pull_head(first, compute_loss, tape)
        for number in range(last, start - 1, -1):
            layer, is_first = self.layers[number], number == start
            if number == last:
                pulled = layer.pull_first(gradient, kept_last, reviews, tape, is_first=is_first)
            else:
                pulled = layer.pull(
                    gradient, kept.pop(), groups, workspace, tape, is_first=is_first
                )
            if pulled is not None:
                gradient = pulled
        return loss, tape.gradients

    def _pull_head(
        self, first: torch.Tensor, compute_loss: Callable[[torch.Tensor], torch.Tensor], tape: Tape
    ) -> tuple[float, torch.Tensor]:
        with torch.enable_grad():
            x = first.float().requires_grad_()
            loss = compute_loss(self.classify(x))
            of_x, *of_weights = torch.autograd.grad(
                loss, [x, *self.head_weights], allow_unused=True
            )
        for weight, of_weight in zip(self.head_weights, of_weights, strict=True):
            if of_weight is not None:
                tape.add(weight, of_weight)
        return float(loss.detach()), of_x.to(self.dtype)


def can_score_packed(model: nn.Module) -> bool:
    """Tell whether a model's architecture is one of those that can be computed without padding."""
    return _get_bare_model(model).config.model_type in READERS and (
        not isinstance(model, PeftModel) or not model.active_peft_config.is_prompt_learning
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
    bare = _get_bare_model(model)
    build = build_merged_projection if is_merged else build_projection
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
