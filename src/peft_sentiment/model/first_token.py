"""What an encoder says at a review's first token, where the heads of the BERT family read it.

Shapes: B reviews of a batch, T tokens of the longest, D width of the encoder.
"""

import torch
from torch import nn

from peft_sentiment.model.adapters import get_bare_model
from peft_sentiment.model.precision import Precision


def read_first_states(
    model: nn.Module, ids: torch.Tensor, mask: torch.Tensor | None, precision: Precision
) -> torch.Tensor:
    """Return the (B, D) states that the head reads.

    Args:
        model: a sequence-classification model, plain or with an adapter in its layers.
        ids: (B, T).
        mask: (B, T), 0 where there is no token; None where there is one everywhere.
        precision: dtype to compute in.
    """
    with precision.autocast():
        output = get_bare_model(model).base_model(input_ids=ids, attention_mask=mask)
    states: torch.Tensor = output.last_hidden_state[:, 0]
    return states
