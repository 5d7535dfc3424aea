"""The shortened last layer gives what the whole one gives."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from peft_sentiment.model.last_layer import FIRST_TOKEN_FORWARDS, read_first_token_only

MODEL_TYPES = ["distilbert", "bert", "roberta", "electra"]


@pytest.mark.parametrize("model_type", MODEL_TYPES)
@pytest.mark.parametrize("is_padded", [True, False])
def test_reading_the_first_token_only_changes_no_logit(
    model_type: str,
    is_padded: bool,
    build_tiny_encoder: Callable[[str, Path], Path],
    tmp_path: Path,
) -> None:
    folder = build_tiny_encoder(model_type, tmp_path / model_type)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    ids = torch.randint(5, 50, (3, 20))
    mask = torch.ones_like(ids)
    if is_padded:
        mask[1, 12:] = 0
    with torch.no_grad():
        whole = model(input_ids=ids, attention_mask=mask).logits
        assert read_first_token_only(model)
        short = model(input_ids=ids, attention_mask=mask).logits
    torch.testing.assert_close(short, whole, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_reading_the_first_token_only_changes_no_gradient(
    model_type: str, build_tiny_encoder: Callable[[str, Path], Path], tmp_path: Path
) -> None:
    folder = build_tiny_encoder(model_type, tmp_path / model_type)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    ids = torch.randint(5, 50, (3, 20))
    gradients = []
    for _ in range(2):
        model.zero_grad()
        model(input_ids=ids).logits.square().sum().backward()
        gradients.append(
            {n: w.grad.clone() for n, w in model.named_parameters() if w.grad is not None}
        )
        read_first_token_only(model)
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, atol=1e-5, rtol=1e-4)


def test_an_unknown_architecture_stays_as_it_is(
    build_tiny_encoder: Callable[[str, Path], Path], tmp_path: Path
) -> None:
    folder = build_tiny_encoder("modernbert", tmp_path / "modernbert")
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    assert "modernbert" not in FIRST_TOKEN_FORWARDS
    assert not read_first_token_only(model)
