"""The second loss: what it asks for, and that its written-out gradients are those of autograd."""

from pathlib import Path

import numpy as np
import pytest
import torch
from peft import PeftModel
from tiny_models import PADDING
from tiny_training import build_tiny_adapter, build_tiny_training, draw_tokens, make_dropout_zero
from torch.nn.functional import cosine_similarity, cross_entropy

from peft_sentiment.config import AdapterSettings
from peft_sentiment.data.batching import LabelledTokens, TokenizedReviews, pad_batch
from peft_sentiment.model.last_layer import reading_every_token
from peft_sentiment.model.packed_states import compute_states_gradients
from peft_sentiment.model.packing import pack_reviews
from peft_sentiment.model.readers import build_packed_model
from peft_sentiment.model.streams import one_thread
from peft_sentiment.model.workspace import Workspace
from peft_sentiment.training.contrast import compute_contrast
from peft_sentiment.training.loop import train_steps

LENGTHS = [3, 40, 33, 33, 7, 40, 64, 1]
WEIGHT = 0.7


def test_nothing_is_asked_of_labels_that_point_their_own_way() -> None:
    states = torch.tensor([[3.0, 0.0], [0.0, 2.0], [5.0, 0.0]])
    assert compute_contrast(states, 2 * states, torch.tensor([0, 1, 0])) == pytest.approx(0.0)


def test_it_is_the_mean_squared_error_over_all_pairs_of_means_and_first_tokens() -> None:
    generator = torch.Generator().manual_seed(0)
    means, firsts = torch.randn(2, 4, 3, generator=generator)
    targets = torch.tensor([0, 1, 2, 0])
    states, labels = [*means, *firsts], [*targets, *targets]
    pairs = [(i, j) for i in range(8) for j in range(8) if i != j]
    errors = [
        (float(cosine_similarity(states[i], states[j], dim=0)) - float(labels[i] == labels[j])) ** 2
        for i, j in pairs
    ]
    assert compute_contrast(means, firsts, targets) == pytest.approx(np.mean(errors), rel=1e-5)


@pytest.mark.parametrize("layers", [None, (1,)])
@pytest.mark.parametrize("targets", [None, ("all-linear",)])
def test_its_gradients_are_those_of_autograd(
    tiny_distilbert: Path, layers: tuple[int, ...] | None, targets: tuple[str, ...] | None
) -> None:
    settings = AdapterSettings(r=4, layers_to_transform=layers, target_modules=targets)
    model = build_tiny_adapter(tiny_distilbert, settings).train()
    make_dropout_zero(model)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            weight.data.normal_(std=0.2, generator=torch.Generator().manual_seed(1))
    reviews = draw_tokens(np.random.default_rng(0), LENGTHS)
    labels = torch.arange(len(LENGTHS)) % 2
    expected = _compute_by_autograd(model, reviews, labels)
    packed = build_packed_model(model, torch.float32, lambda _: "products", is_merged=False)
    batch, workspace = pack_reviews(reviews.token_ids), Workspace()
    _, found = compute_states_gradients(
        packed,
        packed.run_frozen_layers(batch, workspace),
        batch,
        lambda logits, means, firsts: (
            cross_entropy(logits, labels) + WEIGHT * compute_contrast(means, firsts, labels)
        ),
        workspace,
    )
    names = {weight: name for name, weight in model.named_parameters()}
    assert {names[weight] for weight in found} == expected.keys()
    for weight, gradient in found.items():
        torch.testing.assert_close(gradient, expected[names[weight]], atol=2e-5, rtol=1e-4)


def _compute_by_autograd(
    model: PeftModel, reviews: TokenizedReviews, labels: torch.Tensor
) -> dict[str, torch.Tensor]:
    ids, mask = pad_batch(reviews.token_ids, PADDING)
    with reading_every_token(model.get_base_model()):
        output = model(input_ids=ids, attention_mask=mask, output_hidden_states=True)
    states = output.hidden_states[-1]
    means = torch.stack([x[:n].mean(0) for x, n in zip(states, LENGTHS, strict=True)])
    loss = cross_entropy(output.logits, labels)
    (loss + WEIGHT * compute_contrast(means, states[:, 0], labels)).backward()
    return {n: w.grad.clone() for n, w in model.named_parameters() if w.grad is not None}


def draw_labelled(count: int) -> LabelledTokens:
    """Return reviews of chance tokens, every other one positive."""
    lengths = [5 + i % 7 for i in range(count)]
    reviews = draw_tokens(np.random.default_rng(1), lengths)
    return LabelledTokens(reviews, np.arange(count) % 2, ("negative", "positive"))


def test_the_second_loss_is_left_out_with_more_reviews_than_it_is_for(
    tiny_distilbert: Path,
) -> None:
    def train(**settings: float) -> list[float]:
        model = build_tiny_adapter(tiny_distilbert)
        return [
            s.loss for s in train_steps(build_tiny_training(model, draw_labelled(32), **settings))
        ]

    without = train()
    assert train(contrastive_weight=1.0, contrastive_max_reviews=31) == without
    assert train(contrastive_weight=1.0, contrastive_max_reviews=32) != without


def test_the_padded_path_has_the_same_loss_as_the_fast_one(tiny_distilbert: Path) -> None:
    def train(**settings: float | bool) -> float:
        model = build_tiny_adapter(tiny_distilbert)
        make_dropout_zero(model)
        run = build_tiny_training(
            model, draw_labelled(8), contrastive_weight=0.5, per_device_train_batch_size=8,
            max_tokens_per_batch=4096, **settings,
        )  # fmt: skip
        return next(iter(train_steps(run))).loss

    with one_thread():  # a single stream sees the pairs of the whole step, as the padded path does
        assert train() == pytest.approx(train(gradient_checkpointing=True), rel=1e-4)
