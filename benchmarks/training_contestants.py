"""The usual script of training, and how long it and ours take to get as good as is claimed."""

import argparse
import tempfile
import time
from typing import Any

from peft_sentiment.cli import set_up_libraries

set_up_libraries()

import numpy as np  # noqa: E402 - the libraries are set up before they are loaded
import torch  # noqa: E402
from material import BATCH, LABELS, LORA, Figures, draw_reviews, find_base  # noqa: E402

from peft_sentiment import SentimentClassifier  # noqa: E402
from peft_sentiment.config import load_settings  # noqa: E402
from peft_sentiment.records import StepRecord, ValidationRecord  # noqa: E402
from peft_sentiment.records.reviews import Reviews  # noqa: E402

WANTED = 0.876
"""Accuracy that the classic recipe claims: DistilBERT with LoRA on 3,000 reviews."""

STEPS_BETWEEN = 24
"""Optimizer steps between two looks at the test reviews, whose time does not count."""

SCORED_TOGETHER = 16


def build_usual_trainer(
    options: argparse.Namespace, reviews: Reviews, folder: str
) -> "tuple[Any, Any]":
    """Return `Trainer` with `peft`, as the libraries' examples have it, and the tokenizer.

    That is float32, all reviews padded to one length, and the model's own dropout.
    """
    import datasets
    from peft import LoraConfig, TaskType, get_peft_model
    from transformers import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        Trainer,
        TrainingArguments,
    )

    base = find_base(options.base)
    tokenizer = AutoTokenizer.from_pretrained(base)
    model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=2)
    config = LoraConfig(task_type=TaskType.SEQ_CLS, target_modules=["q_lin", "v_lin"], **LORA)
    rows = {"text": list(reviews.texts), "label": [LABELS.index(name) for name in reviews.labels]}
    data = datasets.Dataset.from_dict(rows).map(
        lambda batch: tokenizer(
            batch["text"], truncation=True, max_length=options.max_length, padding="max_length"
        ),
        batched=True,
    )
    arguments = TrainingArguments(
        output_dir=folder, per_device_train_batch_size=BATCH, num_train_epochs=1,
        learning_rate=1e-3, report_to="none", save_strategy="no", disable_tqdm=True,
        logging_strategy="no",
    )  # fmt: skip
    trainer = Trainer(
        model=get_peft_model(model, config),
        args=arguments,
        train_dataset=data,
        processing_class=tokenizer,
    )
    return trainer, tokenizer


def train_usual(options: argparse.Namespace) -> Figures:
    """Time the usual script."""
    reviews = draw_reviews(options.reviews)
    with tempfile.TemporaryDirectory() as folder:
        trainer, _ = build_usual_trainer(options, reviews, folder)
        start = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - start
    return {"reviews_per_second": len(reviews) / seconds, "seconds": seconds}


def reach_ours(options: argparse.Namespace) -> Figures:
    """Train with the default settings until the test reviews are labelled well enough.

    The looks at them are many, and each is by chance: they are not to end the training early.
    """
    classifier = SentimentClassifier.from_settings(load_settings())
    classifier.set_params(eval_steps=STEPS_BETWEEN, early_stopping_patience=0)
    classifier.build_base(LABELS)
    tokens = classifier.tokenize(draw_reviews(options.train_reviews))
    classifier.build_adapter(tokens)
    test = classifier.tokenize(draw_reviews(options.reviews, skip=options.train_reviews))
    reach = Reach()
    for event in classifier.iterate_fit(tokens, test):
        if isinstance(event, StepRecord):
            reach.seconds += event.seconds
            reach.reviews += event.reviews
        elif isinstance(event, ValidationRecord) and reach.note(event.accuracy):
            break
    return reach.describe()


def reach_usual(options: argparse.Namespace) -> Figures:
    """Train by the usual script, one pass, until the test reviews are labelled well enough.

    It is given up after so many seconds of training as are asked for.
    """
    from transformers import TrainerCallback

    train, reach = draw_reviews(options.train_reviews), Reach()
    test = draw_reviews(options.reviews, skip=options.train_reviews)
    with tempfile.TemporaryDirectory() as folder:
        trainer, tokenizer = build_usual_trainer(options, train, folder)

        class Watch(TrainerCallback):  # type: ignore[misc]
            """Looks at the test reviews between steps, with the clock stopped."""

            def on_step_begin(self, *_: object, **__: object) -> None:
                self.start = time.perf_counter()

            def on_step_end(self, _: object, state: Any, control: Any, **__: object) -> None:  # noqa: ANN401
                reach.seconds += time.perf_counter() - self.start
                reach.reviews = min(state.global_step * BATCH, len(train))
                if state.global_step % STEPS_BETWEEN == 0 or state.global_step == state.max_steps:
                    accuracy = score_plainly(trainer.model, tokenizer, test, options.max_length)
                    is_over = reach.note(accuracy) or reach.seconds > options.most_seconds
                    control.should_training_stop = is_over

        trainer.add_callback(Watch())
        trainer.train()
    return reach.describe()


class Reach:
    """How far a training has come by when."""

    def __init__(self) -> None:
        self.seconds, self.reviews = 0.0, 0
        self.curve: list[tuple[float, float]] = []

    def note(self, accuracy: float) -> bool:
        """Remember an accuracy, and tell whether it is enough."""
        self.curve.append((round(self.seconds, 1), accuracy))
        return accuracy >= WANTED

    def describe(self) -> Figures:
        """Return the figures."""
        accuracies = [accuracy for _, accuracy in self.curve]
        return {
            "wanted": WANTED,
            "seconds": self.seconds,
            "reviews": self.reviews,
            "accuracy": accuracies[-1],
            "best": max(accuracies),
            "curve": self.curve,
        }


@torch.no_grad()
def score_plainly(model: Any, tokenizer: Any, test: Reviews, max_length: int) -> float:  # noqa: ANN401
    """Return the accuracy on reviews, in batches of like length; the model goes on training."""
    ids = tokenizer(list(test.texts), truncation=True, max_length=max_length)["input_ids"]
    order = sorted(range(len(ids)), key=lambda place: len(ids[place]))
    labels = np.array([LABELS.index(name) for name in test.labels])
    right = 0
    model.eval()
    for start in range(0, len(order), SCORED_TOGETHER):
        places = order[start : start + SCORED_TOGETHER]
        batch = tokenizer.pad({"input_ids": [ids[i] for i in places]}, return_tensors="pt")
        found = model(**batch).logits.argmax(-1).numpy()
        right += int((found == labels[places]).sum())
    model.train()
    return right / len(labels)
