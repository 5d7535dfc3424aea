"""Without padding, by gradients written out, comes what the model itself gives with autograd."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import PeftModel
from tiny_models import PADDING
from tiny_training import (
    FLOAT32,
    build_tiny_adapter,
    copy_weights,
    draw_tokens,
    load_tiny_encoder,
    make_dropout_zero,
)
from torch import nn
from torch.nn.functional import cross_entropy

from peft_sentiment.config import AdapterSettings
from peft_sentiment.data.batching import TokenizedReviews, pad_batch
from peft_sentiment.model.attention import AttentionForm
from peft_sentiment.model.dropout import drawing_from
from peft_sentiment.model.packed import PackedModel
from peft_sentiment.model.packing import pack_reviews
from peft_sentiment.model.readers import build_packed_model, can_score_packed, can_train_packed
from peft_sentiment.model.workspace import Workspace

LENGTHS = [3, 40, 33, 33, 7, 40, 64, 1]
METHODS = {
    "query and value": AdapterSettings(r=4),
    "every layer": AdapterSettings(r=4, target_modules=("all-linear",)),
    "key only": AdapterSettings(r=2, target_modules=("k_lin",)),
    "upper layer only": AdapterSettings(r=4, layers_to_transform=(1,)),
    "DoRA": AdapterSettings(r=4, use_dora=True),
    "rsLoRA": AdapterSettings(r=4, use_rslora=True),
}
Gradients = dict[str, torch.Tensor]


def build_adapter_with_effect(folder: Path, settings: AdapterSettings) -> PeftModel:
    """Return a model whose adapter changes the outputs and drops nothing."""
    model = build_tiny_adapter(folder, settings)
    make_dropout_zero(model)
    generator = torch.Generator().manual_seed(1)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            weight.data.normal_(std=0.2, generator=generator)
    return model


def compute_by_autograd(
    model: nn.Module, reviews: TokenizedReviews, targets: torch.Tensor
) -> tuple[torch.Tensor, Gradients]:
    """Return logits and gradients of the padded model."""
    model.zero_grad()
    ids, mask = pad_batch(reviews.token_ids, PADDING)
    logits = model(input_ids=ids, attention_mask=mask).logits
    cross_entropy(logits, targets, reduction="sum").backward()
    found = {n: w.grad.clone() for n, w in model.named_parameters() if w.grad is not None}
    return logits.detach(), found


def compute_packed(
    model: nn.Module, packed: PackedModel, reviews: TokenizedReviews, targets: torch.Tensor
) -> Gradients:
    """Return the gradients of the fast path, by name."""
    batch, workspace = pack_reviews(reviews.token_ids), Workspace()
    x = packed.run_frozen_layers(batch, workspace)
    _, gradients = packed.compute_gradients(
        x, batch, lambda logits: cross_entropy(logits, targets, reduction="sum"), workspace
    )
    names = {weight: name for name, weight in model.named_parameters()}
    return {names[weight]: gradient for weight, gradient in gradients.items()}


@pytest.fixture
def reviews() -> TokenizedReviews:
    return draw_tokens(np.random.default_rng(0), LENGTHS)


@pytest.fixture
def targets() -> torch.Tensor:
    return torch.arange(len(LENGTHS)) % 2


@pytest.mark.parametrize("form", ["products", "fused"])
@pytest.mark.parametrize("method", METHODS)
def test_gradients_written_out_are_those_of_autograd(
    tiny_distilbert: Path,
    reviews: TokenizedReviews,
    targets: torch.Tensor,
    method: str,
    form: AttentionForm,
) -> None:
    model = build_adapter_with_effect(tiny_distilbert, METHODS[method]).train()
    make_dropout_zero(model)
    _, expected = compute_by_autograd(model, reviews, targets)
    packed = build_packed_model(model, torch.float32, lambda _: form, is_merged=False)
    assert can_train_packed(model)
    found = compute_packed(model, packed, reviews, targets)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, atol=2e-5, rtol=1e-4, msg=name)


@pytest.mark.parametrize("model_type", ["distilbert", "bert", "roberta", "electra"])
def test_every_known_architecture_gives_its_own_logits_and_gradients(
    model_type: str,
    build_tiny_encoder: Callable[[str, Path], Path],
    tmp_path: Path,
    reviews: TokenizedReviews,
    targets: torch.Tensor,
) -> None:
    folder = build_tiny_encoder(model_type, tmp_path / model_type)
    model = build_adapter_with_effect(folder, AdapterSettings(r=4)).eval()
    logits, expected = compute_by_autograd(model, reviews, targets)
    scorer = build_packed_model(model, torch.float32, FLOAT32.choose_scoring_form, is_merged=True)
    scores = scorer.score(pack_reviews(reviews.token_ids), Workspace())
    torch.testing.assert_close(scores, logits, atol=1e-5, rtol=1e-4)
    packed = build_packed_model(model, torch.float32, lambda _: "products", is_merged=False)
    found = compute_packed(model, packed, reviews, targets)
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, atol=2e-5, rtol=1e-4, msg=name)


@pytest.mark.parametrize("method", METHODS)
def test_merging_for_scoring_leaves_every_weight_bit_for_bit(
    tiny_distilbert: Path, reviews: TokenizedReviews, targets: torch.Tensor, method: str
) -> None:
    model = build_adapter_with_effect(tiny_distilbert, METHODS[method]).eval()
    before = copy_weights(model)
    logits, _ = compute_by_autograd(model, reviews, targets)
    scorer = build_packed_model(model, torch.float32, lambda _: "products", is_merged=True)
    scores = scorer.score(pack_reviews(reviews.token_ids), Workspace())
    torch.testing.assert_close(scores, logits, atol=1e-5, rtol=1e-4)
    for name, weight in copy_weights(model).items():
        assert torch.equal(weight, before[name]), name


def test_scoring_with_the_adapter_off_is_scoring_the_base(
    tiny_distilbert: Path, reviews: TokenizedReviews
) -> None:
    model = build_adapter_with_effect(tiny_distilbert, AdapterSettings(r=4)).eval()
    ids, mask = pad_batch(reviews.token_ids, PADDING)
    with model.disable_adapter(), torch.no_grad():
        expected = model(input_ids=ids, attention_mask=mask).logits
        scorer = build_packed_model(model, torch.float32, lambda _: "products", is_merged=True)
    scores = scorer.score(pack_reviews(reviews.token_ids), Workspace())
    torch.testing.assert_close(scores, expected, atol=1e-5, rtol=1e-4)


def test_large_scores_take_the_safe_exponential(
    tiny_distilbert: Path, reviews: TokenizedReviews, targets: torch.Tensor
) -> None:
    model = build_adapter_with_effect(tiny_distilbert, AdapterSettings(r=4)).eval()
    for name, weight in model.named_parameters():
        if "q_lin.base_layer.weight" in name:
            weight.data.mul_(3e4)  # scores of hundreds: e to them is infinite
    logits, _ = compute_by_autograd(model, reviews, targets)
    scorer = build_packed_model(model, torch.float32, lambda _: "products", is_merged=True)
    scores = scorer.score(pack_reviews(reviews.token_ids), Workspace())
    assert scores.isfinite().all()
    torch.testing.assert_close(scores, logits, atol=1e-3, rtol=1e-3)


def test_bfloat16_stays_near_float32(
    tiny_distilbert: Path, reviews: TokenizedReviews, targets: torch.Tensor
) -> None:
    model = build_adapter_with_effect(tiny_distilbert, AdapterSettings(r=4)).eval()
    logits, expected = compute_by_autograd(model, reviews, targets)
    packed = build_packed_model(model, torch.bfloat16, lambda _: "products", is_merged=False)
    found = compute_packed(model, packed, reviews, targets)
    for name, gradient in expected.items():
        assert found[name].dtype == torch.float32
        cosine = torch.cosine_similarity(found[name].flatten(), gradient.flatten(), dim=0)
        assert cosine > 0.95, name
    scorer = build_packed_model(model, torch.bfloat16, lambda _: "products", is_merged=True)
    scores = scorer.score(pack_reviews(reviews.token_ids), Workspace())
    torch.testing.assert_close(scores, logits, atol=0.05, rtol=0.05)


def test_dropout_is_that_of_the_seed_whatever_was_drawn_before(
    tiny_distilbert: Path, reviews: TokenizedReviews, targets: torch.Tensor
) -> None:
    model = build_tiny_adapter(tiny_distilbert, AdapterSettings(r=4, lora_dropout=0.5)).train()
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            weight.data.normal_()
    packed = build_packed_model(model, torch.float32, lambda _: "products", is_merged=False)
    found = []
    for seed in (1, 2, 1):
        torch.rand(seed)
        with drawing_from(torch.Generator().manual_seed(seed)):
            found.append(compute_packed(model, packed, reviews, targets))
    first, other, again = found
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_what_the_fast_path_can_not_do_is_left_to_the_model(
    tiny_distilbert: Path, build_tiny_encoder: Callable[[str, Path], Path], tmp_path: Path
) -> None:
    biases = build_tiny_adapter(tiny_distilbert, AdapterSettings(r=4, bias="all"))
    assert can_score_packed(biases)
    assert not can_train_packed(biases)  # norms have biases too
    drops = load_tiny_encoder(tiny_distilbert, body_dropout=True).model
    assert not can_train_packed(drops)
    other = load_tiny_encoder(build_tiny_encoder("modernbert", tmp_path / "modernbert")).model
    assert not can_score_packed(other)


def test_rows_after_the_last_review_change_nothing(tiny_distilbert: Path) -> None:
    model = build_adapter_with_effect(tiny_distilbert, AdapterSettings(r=4)).eval()
    scorer = build_packed_model(model, torch.float32, lambda _: "products", is_merged=True)
    reviews = draw_tokens(np.random.default_rng(1), [30, 34, 5])
    together = scorer.score(pack_reviews(reviews.token_ids), Workspace())
    for place, ids in enumerate(reviews.token_ids):
        alone = scorer.score(pack_reviews([ids]), Workspace())
        torch.testing.assert_close(alone[0], together[place], atol=1e-6, rtol=1e-5)


def test_threads_that_score_at_once_do_not_disturb_each_other(
    tiny_distilbert: Path, reviews: TokenizedReviews
) -> None:
    model = build_adapter_with_effect(tiny_distilbert, AdapterSettings(r=4)).eval()
    before = copy_weights(model)

    def score(_: int) -> torch.Tensor:
        scorer = build_packed_model(model, torch.float32, lambda _: "products", is_merged=True)
        return scorer.score(pack_reviews(reviews.token_ids), Workspace())

    with ThreadPoolExecutor(4) as pool:
        first, *others = pool.map(score, range(40))
    assert all(torch.equal(first, other) for other in others)
    assert all(torch.equal(weight, before[name]) for name, weight in copy_weights(model).items())
