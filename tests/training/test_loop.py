"""The training loop does the arithmetic it promises, and leaves nothing behind."""

import dataclasses
import math
import sys
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.utils.class_weight import compute_class_weight
from tiny_models import MODEL_TYPES, PADDING
from tiny_training import (
    BFLOAT16,
    FLOAT32,
    LABELS,
    build_tiny_adapter,
    build_tiny_training,
    copy_weights,
    draw_tokens,
    make_dropout_zero,
    tokenize_tiny,
)
from torch import nn
from torch.nn.functional import cross_entropy
from torch.optim.optimizer import register_optimizer_step_pre_hook

from peft_sentiment.config import AdapterSettings
from peft_sentiment.data.batching import LabelledTokens, TokenizedReviews, pad_batch
from peft_sentiment.errors import DivergenceError, SettingsError
from peft_sentiment.evaluation.prediction import predict_logits
from peft_sentiment.model.precision import Precision
from peft_sentiment.records import StepRecord
from peft_sentiment.records.reviews import Reviews
from peft_sentiment.training.loop import (
    TrainingRun,
    gradient_checkpointing,
    plan_steps,
    start_training,
    train_steps,
)
from peft_sentiment.training.objectives import compute_label_weights

CHECKPOINTED_TYPES = (
    "distilbert",
    "bert",
    "roberta",
    "electra",
    "deberta-v2",
    "modernbert",
    "gpt2",
    "llama",
)
WITHOUT_CHANCE = AdapterSettings(r=4, lora_dropout=0.0)


@pytest.fixture(scope="module")
def train(tiny_distilbert: Path, tiny_reviews: Reviews) -> LabelledTokens:
    """As many reviews that the last step has 9 of 16, in batches of 8 and 1."""
    return tokenize_tiny(tiny_distilbert, tiny_reviews.take(range(57)))


def build_model_without_chance(folder: Path) -> nn.Module:
    model = build_tiny_adapter(folder, WITHOUT_CHANCE)
    make_dropout_zero(model)
    return model


def list_losses(run: TrainingRun) -> list[float]:
    return [step.loss for step in train_steps(run)]


def test_it_learns(tiny_distilbert: Path, tiny_reviews: Reviews) -> None:
    train = tokenize_tiny(tiny_distilbert, tiny_reviews.take(range(150)))
    test = tokenize_tiny(tiny_distilbert, tiny_reviews.take(range(150, 200)))
    model = build_tiny_adapter(tiny_distilbert)
    run = build_tiny_training(model, train, num_train_epochs=3.0, per_device_train_batch_size=8)
    losses = list_losses(run)
    logits = predict_logits(model, test.reviews, PADDING, 16, FLOAT32)
    assert (logits.argmax(1) == test.targets).mean() > 0.9
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])


def test_a_training_imports_no_deepspeed_where_nobody_asks_for_it(
    tiny_distilbert: Path, tiny_reviews: Reviews, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = build_tiny_adapter(tiny_distilbert)
    run = build_tiny_training(model, tokenize_tiny(tiny_distilbert, tiny_reviews))
    monkeypatch.delitem(sys.modules, "deepspeed", raising=False)  # transformers, when it stores
    list_losses(run)
    assert "deepspeed" not in sys.modules
    assert "forward" not in vars(model)


@pytest.mark.parametrize("precision", [FLOAT32, BFLOAT16])
def test_the_same_seed_gives_the_same_losses_bit_for_bit(
    tiny_distilbert: Path, train: LabelledTokens, precision: Precision
) -> None:
    # Dropout of head and adapter is on: its draws follow from the seed, too.
    losses = []
    for seed in (0, 0, 1):
        model = build_tiny_adapter(tiny_distilbert)
        losses.append(list_losses(build_tiny_training(model, train, precision, seed=seed)))
    assert losses[0] == losses[1]
    assert losses[0] != losses[2]


@pytest.mark.parametrize("class_weights", ["none", "balanced"])
def test_batches_and_accumulation_of_the_same_product_train_the_same(
    tiny_distilbert: Path, train: LabelledTokens, class_weights: str
) -> None:
    records: list[list[StepRecord]] = []
    weights = []
    for batch_size, accumulation in ((16, 1), (8, 2), (4, 4)):
        model = build_model_without_chance(tiny_distilbert)
        run = build_tiny_training(
            model,
            train,
            num_train_epochs=2.0,
            per_device_train_batch_size=batch_size,
            gradient_accumulation_steps=accumulation,
            class_weights=class_weights,
        )
        records.append(list(train_steps(run)))
        weights.append(copy_weights(model))
    for other, other_weights in zip(records[1:], weights[1:], strict=True):
        for one, two in zip(records[0], other, strict=True):
            assert two.loss == pytest.approx(one.loss, abs=1e-5)
            assert two.grad_norm == pytest.approx(one.grad_norm, abs=1e-5)
            assert (two.reviews, two.tokens) == (one.reviews, one.tokens)
        for name, weight in weights[0].items():
            torch.testing.assert_close(other_weights[name], weight, atol=1e-5, rtol=0, msg=name)


@pytest.mark.parametrize("class_weights", ["none", "balanced"])
def test_a_steps_loss_is_the_weighted_mean_over_its_reviews_however_unequal_its_batches(
    tiny_distilbert: Path, train: LabelledTokens, class_weights: str
) -> None:
    train = dataclasses.replace(train, targets=(np.arange(len(train)) < 6).astype(np.int64))
    label_weights = compute_label_weights(train, class_weights)
    model = build_model_without_chance(tiny_distilbert)
    run = build_tiny_training(
        model,
        train,
        per_device_train_batch_size=4,
        gradient_accumulation_steps=4,
        class_weights=class_weights,
    )
    before = copy_weights(model)
    expected = []
    for chosen in plan_steps(run):
        logits = compute_logits(model, train, chosen)
        targets = torch.from_numpy(train.targets[chosen])
        expected.append(float(cross_entropy(logits, targets, label_weights)))
    # A learning rate next to nothing leaves the weights of the first step to all.
    settings = dataclasses.replace(run.settings, learning_rate=1e-12)
    losses = list_losses(dataclasses.replace(run, settings=settings))
    assert losses == pytest.approx(expected, abs=1e-5)
    assert sorted(len(chosen) for chosen in plan_steps(run)) == [9, 16, 16, 16]
    torch.testing.assert_close(copy_weights(model), before, atol=1e-8, rtol=0)


def test_training_is_plain_adamw_over_the_planned_steps(
    tiny_distilbert: Path, train: LabelledTokens
) -> None:
    ours, plain = (build_model_without_chance(tiny_distilbert) for _ in range(2))
    run = build_tiny_training(ours, train, warmup_steps=0.0, max_grad_norm=0.5, weight_decay=0.1)
    trained = [weight for weight in plain.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(trained, weight_decay=0.1)
    for step, (record, chosen) in enumerate(zip(train_steps(run), plan_steps(run), strict=True)):
        optimizer.zero_grad()
        ids, mask = pad_batch([train.reviews.token_ids[i] for i in chosen], PADDING)
        logits = plain.train()(input_ids=ids, attention_mask=mask).logits
        loss = cross_entropy(logits, torch.from_numpy(train.targets[chosen]))
        loss.backward()
        nn.utils.clip_grad_norm_(trained, 0.5)
        for group in optimizer.param_groups:
            group["lr"] = 1e-2 * (1 - step / 4)
        optimizer.step()
        assert record.loss == pytest.approx(loss.item(), abs=1e-6)
    torch.testing.assert_close(copy_weights(ours), copy_weights(plain), atol=5e-6, rtol=0)


def compute_logits(model: nn.Module, train: LabelledTokens, places: np.ndarray) -> torch.Tensor:
    ids, mask = pad_batch([train.reviews.token_ids[i] for i in places], PADDING)
    with torch.no_grad():
        logits: torch.Tensor = model.eval()(input_ids=ids, attention_mask=mask).logits
    return logits


def test_gradient_checkpointing_changes_no_loss_and_no_weight(
    tiny_distilbert: Path, train: LabelledTokens
) -> None:
    losses, weights = [], []
    for enabled in (False, True):
        model = build_model_without_chance(tiny_distilbert)
        losses.append(
            list_losses(build_tiny_training(model, train, gradient_checkpointing=enabled))
        )
        weights.append(copy_weights(model))
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)
    torch.testing.assert_close(weights[0], weights[1], atol=1e-6, rtol=0)


@pytest.mark.parametrize("model_type", CHECKPOINTED_TYPES)
def test_gradient_checkpointing_reaches_the_adapter_of_every_layer(
    model_type: str, build_tiny_encoder: Callable[[str, Path], Path], tmp_path: Path
) -> None:
    folder = build_tiny_encoder(model_type, tmp_path / model_type)
    model = build_model_without_chance(folder).train()
    gradients = []
    for enabled in (False, True):
        model.zero_grad()
        with gradient_checkpointing(model, enabled):
            model(input_ids=torch.arange(5, 45).view(2, 20)).logits.square().sum().backward()
        gradients.append({n: w.grad for n, w in model.named_parameters() if w.requires_grad})
    # lora_A has no gradient yet, because lora_B starts at 0.
    trained = {n: g for n, g in gradients[0].items() if ".lora_A." not in n}
    assert any(".lora_B." in name for name in trained)
    assert all(g is not None and g.abs().max() > 0 for g in trained.values())
    for name, gradient in trained.items():
        torch.testing.assert_close(gradients[1][name], gradient, atol=1e-6, rtol=1e-4, msg=name)


@pytest.mark.parametrize("model_type", sorted({*MODEL_TYPES} - {*CHECKPOINTED_TYPES}))
def test_gradient_checkpointing_is_refused_where_transformers_has_none(
    model_type: str, build_tiny_encoder: Callable[[str, Path], Path], tmp_path: Path
) -> None:
    model = build_tiny_adapter(build_tiny_encoder(model_type, tmp_path / model_type))
    with (
        pytest.raises(SettingsError, match=f"{model_type} can't do it"),
        gradient_checkpointing(model, True),
    ):
        pass


def test_gradient_checkpointing_keeps_fewer_activations(tiny_distilbert: Path) -> None:
    model = build_model_without_chance(tiny_distilbert).train()
    kept = []
    for enabled in (False, True):
        sizes: list[int] = []

        def count(x: torch.Tensor, sizes: list[int] = sizes) -> torch.Tensor:
            sizes.append(x.numel())
            return x

        with (
            gradient_checkpointing(model, enabled),
            torch.autograd.graph.saved_tensors_hooks(count, lambda x: x),
        ):
            model(input_ids=torch.arange(5, 45).view(2, 20))
        kept.append(sum(sizes))
    assert kept[1] < 0.5 * kept[0]


def test_balanced_label_weights_are_those_of_scikit_learn() -> None:
    targets = np.array([0] * 7 + [1] * 2 + [2])
    train = LabelledTokens(
        draw_tokens(np.random.default_rng(0), [5] * 10), targets, ("a", "b", "c")
    )
    expected = compute_class_weight("balanced", classes=np.arange(3), y=targets)
    np.testing.assert_allclose(compute_label_weights(train, "balanced"), expected, rtol=1e-6)
    assert compute_label_weights(train, "none").tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("checkpointing", [False, True], ids=["packed", "padded"])
def test_a_review_of_weight_2_counts_as_that_review_twice(
    tiny_distilbert: Path, train: LabelledTokens, checkpointing: bool
) -> None:
    few = dataclasses.replace(
        train,
        reviews=TokenizedReviews(train.reviews.token_ids[:4], train.reviews.is_cut[:4]),
        targets=train.targets[:4],
    )
    twice = [0, 1, 2, 3, 3]
    repeated = dataclasses.replace(
        few,
        reviews=TokenizedReviews(
            [few.reviews.token_ids[i] for i in twice], few.reviews.is_cut[twice]
        ),
        targets=few.targets[twice],
    )
    weighted = dataclasses.replace(few, weights=np.array([1, 1, 1, 2], np.float32))
    records = [
        next(
            train_steps(
                build_tiny_training(
                    build_model_without_chance(tiny_distilbert),
                    reviews,
                    per_device_train_batch_size=8,
                    gradient_checkpointing=checkpointing,
                )
            )
        )
        for reviews in (repeated, weighted)
    ]
    assert records[1].loss == pytest.approx(records[0].loss, rel=1e-5)
    assert records[1].grad_norm == pytest.approx(records[0].grad_norm, rel=1e-4)


def test_a_label_without_training_reviews_is_no_division_by_zero() -> None:
    tokens = draw_tokens(np.random.default_rng(0), [5] * 4)
    train = LabelledTokens(tokens, np.array([0, 0, 2, 2]), ("a", "b", "c"))
    assert compute_label_weights(train, "balanced").isfinite().all()


def test_balanced_label_weights_make_a_rare_label_weigh_as_much_as_a_frequent_one(
    tiny_distilbert: Path, train: LabelledTokens
) -> None:
    rare = dataclasses.replace(train, targets=(np.arange(len(train)) < 6).astype(np.int64))
    model = build_model_without_chance(tiny_distilbert)
    run = build_tiny_training(
        model, rare, per_device_train_batch_size=64, class_weights="balanced", learning_rate=1e-12
    )
    logits = compute_logits(model, rare, np.arange(len(rare)))
    losses = cross_entropy(logits, torch.from_numpy(rare.targets), reduction="none")
    by_label = [float(losses[torch.from_numpy(rare.targets == label)].mean()) for label in (0, 1)]
    assert list_losses(run) == [pytest.approx(np.mean(by_label), abs=1e-5)]


def test_the_learning_rate_rises_from_0_and_falls_in_a_straight_line_to_0(
    tiny_distilbert: Path, train: LabelledTokens
) -> None:
    run = build_tiny_training(
        build_tiny_adapter(tiny_distilbert),
        train,
        per_device_train_batch_size=3,
        warmup_steps=4.0,
        learning_rate=0.01,
    )
    rates = [step.learning_rate for step in train_steps(run)]
    rise = [0.01 * step / 4 for step in range(4)]
    fall = [0.01 * (19 - step) / 15 for step in range(4, 19)]
    assert rates == pytest.approx([*rise, *fall])


def test_the_first_step_of_a_rise_from_0_moves_nothing_and_the_second_does(
    tiny_distilbert: Path, train: LabelledTokens
) -> None:
    model = build_tiny_adapter(tiny_distilbert)
    steps = train_steps(build_tiny_training(model, train, warmup_steps=2.0))
    before = copy_weights(model)
    next(steps)
    torch.testing.assert_close(copy_weights(model), before, atol=0, rtol=0)
    next(steps)
    assert any(not torch.equal(w, before[n]) for n, w in model.named_parameters())


@given(
    count=st.integers(1, 400),
    batch_size=st.integers(1, 32),
    accumulation=st.integers(1, 4),
    hundredths=st.integers(1, 500),
)
def test_the_steps_are_the_passes_rounded_up_to_whole_steps(
    count: int, batch_size: int, accumulation: int, hundredths: int
) -> None:
    run = build_tiny_training(
        nn.Identity(),
        _list_reviews(count),
        num_train_epochs=hundredths / 100,
        per_device_train_batch_size=batch_size,
        gradient_accumulation_steps=accumulation,
    )
    per_epoch = -(-count // (batch_size * accumulation))
    assert run.steps_per_epoch == per_epoch
    assert run.steps == -(-hundredths * per_epoch // 100)
    assert len(list(plan_steps(run))) == run.steps


def _list_reviews(count: int) -> LabelledTokens:
    tokens = draw_tokens(np.random.default_rng(0), [5] * count)
    return LabelledTokens(tokens, np.arange(count) % 2, LABELS)


@pytest.mark.parametrize(
    ("warmup", "steps"), [(0.0, 0), (0.06, 6), (0.07, 7), (0.075, 8), (1.0, 1), (30.0, 30)]
)
def test_a_warm_up_below_1_is_a_share_of_the_steps(warmup: float, steps: int) -> None:
    run = build_tiny_training(
        nn.Identity(), _list_reviews(100), per_device_train_batch_size=1, warmup_steps=warmup
    )
    assert run.warmup_steps == steps


def test_a_training_of_one_step_has_its_rate_in_it() -> None:
    reviews = _list_reviews(4)
    run = build_tiny_training(nn.Linear(1, 1), reviews, per_device_train_batch_size=4)
    assert (run.steps, run.warmup_steps) == (1, 0)
    assert start_training(run).schedule.get_last_lr()[0] == run.settings.learning_rate


def test_a_part_of_a_pass_ends_within_it(tiny_distilbert: Path, train: LabelledTokens) -> None:
    run = build_tiny_training(build_tiny_adapter(tiny_distilbert), train, num_train_epochs=1.3)
    records = list(train_steps(run))
    assert [record.step for record in records] == [1, 2, 3, 4, 5, 6]
    assert {record.steps for record in records} == {6}
    assert [record.epoch for record in records] == [0.25, 0.5, 0.75, 1.0, 1.25, 1.5]
    assert sum(record.reviews for record in records[:4]) == len(train)
    assert sum(record.tokens for record in records[:4]) == train.reviews.lengths.sum()
    assert all(record.seconds == 1.0 for record in records)


def test_each_pass_has_an_order_of_its_own_and_every_seed_others() -> None:
    train = _list_reviews(64)
    orders = []
    for seed in (0, 0, 1):
        run = build_tiny_training(nn.Identity(), train, num_train_epochs=2.0, seed=seed)
        steps = list(plan_steps(run))
        orders += [np.concatenate(steps[:4]).tolist(), np.concatenate(steps[4:]).tolist()]
    assert all(sorted(order) == list(range(64)) for order in orders)
    assert orders[:2] == orders[2:4]
    assert len({tuple(order) for order in orders}) == 4


def test_the_reported_gradient_is_that_before_clipping(
    tiny_distilbert: Path, train: LabelledTokens
) -> None:
    norms, moved = [], []
    for limit in (0.0, 1e-3, 1e6):
        model = build_model_without_chance(tiny_distilbert)
        run = build_tiny_training(model, train, max_grad_norm=limit, warmup_steps=0.0)
        trained = [weight for weight in model.parameters() if weight.requires_grad]
        clipped: list[float] = []
        hook = register_optimizer_step_pre_hook(
            lambda *_, trained=trained, clipped=clipped: clipped.append(
                float(torch.stack([w.grad.norm() for w in trained]).norm())
            )
        )
        norms.append(next(train_steps(run)).grad_norm)
        hook.remove()
        moved.append(clipped[0])
    assert norms[0] == norms[1] == norms[2]
    assert norms[0] > 1e-2
    assert moved == pytest.approx([norms[0], 1e-3, norms[0]], rel=1e-3)


def test_a_loss_that_is_no_number_ends_the_training(
    tiny_distilbert: Path, train: LabelledTokens
) -> None:
    model = build_tiny_adapter(tiny_distilbert)
    steps = train_steps(build_tiny_training(model, train))
    next(steps)
    with torch.no_grad():
        model.base_model.model.classifier.modules_to_save["default"].bias.fill_(math.nan)
    with pytest.raises(DivergenceError, match=r"loss of step 2 is nan.*--learning-rate"):
        next(steps)
    assert_unpatched(model)


def test_a_gradient_that_is_no_number_ends_the_training_before_it_moves_a_weight(
    tiny_distilbert: Path, train: LabelledTokens
) -> None:
    model = build_tiny_adapter(tiny_distilbert)
    weight = model.base_model.model.classifier.modules_to_save["default"].weight
    weight.register_hook(lambda gradient: gradient * math.inf)
    with pytest.raises(DivergenceError, match="gradient of step 1"):
        list(train_steps(build_tiny_training(model, train)))
    assert all(weight.isfinite().all() for weight in model.parameters())


def test_a_second_training_may_use_another_precision(
    tiny_distilbert: Path, train: LabelledTokens
) -> None:
    fresh = list_losses(build_tiny_training(build_tiny_adapter(tiny_distilbert), train))
    for precision in (BFLOAT16, FLOAT32, BFLOAT16):
        model = build_tiny_adapter(tiny_distilbert)
        losses = list_losses(build_tiny_training(model, train, precision))
        assert (losses == fresh) is (precision is FLOAT32)
        assert losses == pytest.approx(fresh, abs=0.05)


def test_weights_stay_in_float32_under_bfloat16(
    tiny_distilbert: Path, train: LabelledTokens
) -> None:
    model = build_tiny_adapter(tiny_distilbert)
    list_losses(build_tiny_training(model, train, BFLOAT16))
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}


@pytest.mark.parametrize("precision", [FLOAT32, BFLOAT16])
@pytest.mark.parametrize("taken", [1, 3, None])
def test_a_training_given_up_leaves_the_model_usable(
    tiny_distilbert: Path, train: LabelledTokens, precision: Precision, taken: int | None
) -> None:
    model = build_tiny_adapter(tiny_distilbert)
    run = build_tiny_training(model, train, precision, gradient_checkpointing=True)
    records = list(islice(train_steps(run), taken))
    assert len(records) == (taken or 4)
    assert_unpatched(model)
    ids = torch.arange(5, 25)[None]
    assert model(input_ids=ids).logits.dtype == torch.float32
    # And it can be trained on.
    assert len(list_losses(build_tiny_training(model, train))) == 4


def assert_unpatched(model: nn.Module) -> None:
    assert not model.training
    assert "forward" not in vars(model)
    assert not hasattr(model, "_original_forward")
    assert not model.is_activation_checkpointing
    assert not any(getattr(m, "gradient_checkpointing", False) for m in model.modules())


def test_dropout_is_back_on_after_a_validation_between_steps(
    tiny_distilbert: Path, train: LabelledTokens
) -> None:
    losses = []
    for validates in (False, True):
        model = build_tiny_adapter(tiny_distilbert)
        run = build_tiny_training(model, train)
        losses.append([])
        for step in train_steps(run):
            losses[-1].append(step.loss)
            if validates:
                predict_logits(model, train.reviews, PADDING, 16, FLOAT32)
                model.eval()
    assert losses[0] == losses[1]
