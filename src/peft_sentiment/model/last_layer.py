"""The last layer, computed only where it is read: at the first token.

A classification head of the BERT family looks at the first token alone. In the last layer every
token still serves as key and value, but only the first one needs a query, an attention output and
a feed-forward pass: five sixths of that layer's products are not needed, forward and backward.
The logits are the same to rounding.

Shapes: B reviews, T tokens, D width of the encoder, H heads.
"""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import PreTrainedModel

LayerForward = Callable[..., torch.Tensor]


def read_first_token_only(model: PreTrainedModel) -> bool:
    """Let the model's last layer compute the first token's output only.

    Args:
        model: a sequence-classification model whose head reads the first token; changed in place.

    Returns:
        Whether the architecture is one of those this is known for; others stay as they are.
    """
    forward = FIRST_TOKEN_FORWARDS.get(model.config.model_type)
    if forward is None:
        return False
    last = _find_last_layer(model)
    last.forward = functools.partial(forward, last)
    return True


def read_every_token(model: PreTrainedModel) -> None:
    """Let the model's last layer compute every token's output again, as transformers has it."""
    if _is_known(model):
        vars(_find_last_layer(model)).pop("forward", None)


@contextmanager
def reading_every_token(model: PreTrainedModel) -> Iterator[None]:
    """Let the last layer compute every token's output in this block."""
    was_short = "forward" in vars(_find_last_layer(model)) if _is_known(model) else False
    read_every_token(model)
    try:
        yield
    finally:
        if was_short:
            read_first_token_only(model)


def _is_known(model: PreTrainedModel) -> bool:
    return model.config.model_type in FIRST_TOKEN_FORWARDS


def _find_last_layer(model: PreTrainedModel) -> Any:  # noqa: ANN401 - a layer of any architecture
    encoder: Any = model.base_model
    stack = encoder.transformer if model.config.model_type == "distilbert" else encoder.encoder
    return stack.layer[-1]


def _forward_distilbert(
    layer: Any,  # noqa: ANN401 - a TransformerBlock
    hidden_states: torch.Tensor,  # (B, T, D)
    attention_mask: torch.Tensor | None = None,
    **_: object,
) -> torch.Tensor:
    attention, first = layer.attention, hidden_states[:, :1]
    attended = _attend(
        attention.q_lin(first),
        attention.k_lin(hidden_states),
        attention.v_lin(hidden_states),
        attention_mask,
        attention.n_heads,
        attention.dropout,
    )
    attended = layer.sa_layer_norm(attention.out_lin(attended) + first)
    output: torch.Tensor = layer.output_layer_norm(layer.ffn(attended) + attended)
    return output  # (B, 1, D)


def _forward_bert(
    layer: Any,  # noqa: ANN401 - a BertLayer or one of its like
    hidden_states: torch.Tensor,  # (B, T, D)
    attention_mask: torch.Tensor | None = None,
    *_: object,
    **__: object,
) -> torch.Tensor:
    attention, first = layer.attention.self, hidden_states[:, :1]
    attended = _attend(
        attention.query(first),
        attention.key(hidden_states),
        attention.value(hidden_states),
        attention_mask,
        attention.num_attention_heads,
        attention.dropout,
    )
    output: torch.Tensor = layer.feed_forward_chunk(layer.attention.output(attended, first))
    return output  # (B, 1, D)


def _attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    heads: int,
    dropout: nn.Module,
) -> torch.Tensor:
    """Return the (B, 1, D) attention of the first token over all tokens."""
    query, key, value = (
        x.reshape(*x.shape[:2], heads, -1).transpose(1, 2) for x in (query, key, value)
    )
    attended = scaled_dot_product_attention(
        query,  # (B, H, 1, D / H)
        key,  # (B, H, T, D / H)
        value,
        attn_mask=None if mask is None else mask[:, :, :1],
        dropout_p=float(dropout.p) if dropout.training else 0.0,  # type: ignore[arg-type]
    )
    return attended.transpose(1, 2).flatten(2)


FIRST_TOKEN_FORWARDS: dict[str, LayerForward] = {
    "distilbert": _forward_distilbert,
    "bert": _forward_bert,
    "roberta": _forward_bert,
    "xlm-roberta": _forward_bert,
    "camembert": _forward_bert,
    "electra": _forward_bert,
}
"""Model type -> what takes the place of its last layer's forward."""
