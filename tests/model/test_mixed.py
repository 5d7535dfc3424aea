"""Adapters share one encoder, and a batch of several says what each of them says alone."""

from pathlib import Path

import numpy as np
import pytest
import torch
from peft import PeftModel
from tiny_training import BFLOAT16, FLOAT32, build_tiny_adapter, draw_tokens
from torch import nn

from peft_sentiment.config import AdapterSettings
from peft_sentiment.model.mixed import score_mixed
from peft_sentiment.model.packed import PackedModel
from peft_sentiment.model.packing import pack_reviews
from peft_sentiment.model.precision import Precision
from peft_sentiment.model.shared import SharedEncoder
from peft_sentiment.model.workspace import Workspace

METHODS = (
    AdapterSettings(r=4),
    AdapterSettings(r=2, target_modules=("q_lin", "k_lin", "v_lin", "out_lin", "lin1", "lin2")),
    AdapterSettings(method="ia3"),
    AdapterSettings(method="bitfit"),
)


def build_models(base: Path) -> list[PeftModel]:
    """Return models with adapters of different methods, each changed a little by chance."""
    models = [build_tiny_adapter(base, settings) for settings in METHODS]
    for seed, model in enumerate(models):
        generator = torch.Generator().manual_seed(seed)
        for weight in model.parameters():
            if weight.requires_grad:
                weight.data += 0.1 * torch.randn(weight.shape, generator=generator)
        model.eval().requires_grad_(False)
    return models


def pack_shared(models: list[PeftModel], precision: Precision) -> list[PackedModel]:
    encoder = SharedEncoder()
    for model in models:
        encoder.share(model)
    return [
        encoder.build_packed_model(model, precision.dtype, precision.choose_scoring_form)
        for model in models
        if encoder.holds_frame(model)
    ]


@pytest.mark.parametrize(("precision", "tolerance"), [(FLOAT32, 1e-5), (BFLOAT16, 0.1)])
def test_a_mixed_batch_gives_the_logits_that_each_adapter_gives_alone(
    tiny_distilbert: Path, precision: Precision, tolerance: float
) -> None:
    packed = pack_shared(build_models(tiny_distilbert), precision)
    assert len(packed) >= 3
    rng, workspace = np.random.default_rng(0), Workspace()
    for counts in ((1, 1, 1), (3, 1, 5), (7, 2, 4)):
        shares = [
            (model, draw_tokens(rng, rng.integers(2, 70, count).tolist()).token_ids)
            for model, count in zip(packed, counts, strict=False)
        ]
        mixed = score_mixed(shares, workspace)
        for (model, token_ids), logits in zip(shares, mixed, strict=True):
            alone = model.score(pack_reviews(token_ids), workspace)
            assert logits.shape == alone.shape
            torch.testing.assert_close(logits, alone, atol=tolerance, rtol=0)


def test_adapters_differ_in_what_they_say(tiny_distilbert: Path) -> None:
    packed = pack_shared(build_models(tiny_distilbert), FLOAT32)
    tokens = draw_tokens(np.random.default_rng(0), [20]).token_ids
    first, second, third = score_mixed([(model, tokens) for model in packed[:3]], Workspace())
    assert not torch.allclose(first, second, atol=1e-3)
    assert not torch.allclose(second, third, atol=1e-3)


def test_equal_weights_lie_in_one_place_and_say_what_they_said(tiny_distilbert: Path) -> None:
    models = build_models(tiny_distilbert)
    tokens = {"input_ids": torch.arange(5, 25)[None]}
    with torch.no_grad():
        before = [model(**tokens).logits for model in models]
    encoder = SharedEncoder()
    saved = [encoder.share(model) for model in models]
    with torch.no_grad():
        after = [model(**tokens).logits for model in models]
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))
    base = sum(w.nbytes for w in models[0].get_base_model().base_model.embeddings.parameters())
    assert saved[0] == 0
    assert all(count > base for count in saved[1:])
    places = [_get_word_embeddings(model).weight.data_ptr() for model in models]
    assert len(set(places)) == 1


def test_changed_weights_of_the_base_stay_an_adapter_s_own(tiny_distilbert: Path) -> None:
    models = build_models(tiny_distilbert)
    encoder = SharedEncoder()
    for model in models:
        encoder.share(model)
    is_mixable = [encoder.holds_frame(model) for model in models]
    assert is_mixable[:3] == [True, True, True]
    # Biases of norms are trained by BitFit, so its frame is another one.
    assert is_mixable[3] is False


def _get_word_embeddings(model: PeftModel) -> nn.Embedding:
    embeddings: nn.Embedding = model.get_base_model().base_model.embeddings.word_embeddings
    return embeddings
