"""One contestant, measured in a process of its own; prints one line of JSON.

    python benchmarks/contestants.py NAME [--reviews N] [--max-length T] ...

`bench.py` runs these. The usual ones are written as their users write them, from the libraries'
own examples.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from peft_sentiment.cli import set_up_libraries

set_up_libraries()

import numpy as np  # noqa: E402 - the libraries are set up before they are loaded
import torch  # noqa: E402
from export_contestants import check_export, score_export  # noqa: E402
from material import (  # noqa: E402
    BATCH,
    LABELS,
    LORA,
    Figures,
    draw_reviews,
    find_base,
    time_scoring,
)
from training_contestants import reach_ours, reach_usual, train_usual  # noqa: E402

from peft_sentiment import SentimentClassifier  # noqa: E402
from peft_sentiment.config import load_settings  # noqa: E402
from peft_sentiment.model.memory import measure_peak_rss  # noqa: E402
from peft_sentiment.records import StepRecord  # noqa: E402


def train_ours(options: argparse.Namespace) -> Figures:
    """Time training steps of this project, after eight to warm up."""
    warm_up = 8
    reviews = draw_reviews(options.reviews + warm_up * BATCH)
    classifier = SentimentClassifier(
        model_name_or_path=find_base(options.base), max_length=options.max_length,
        truncation="head", num_train_epochs=1, per_device_train_batch_size=BATCH,
        crop_length=0, weight_averaging=0.0,  # Every token is read, as the usual script does.
        bf16=False if options.fp32 else None, **LORA,
    )  # fmt: skip
    classifier.build_base(LABELS)
    tokens = classifier.tokenize(reviews)
    classifier.build_adapter(tokens)
    events = classifier.iterate_fit(tokens, None)
    steps = [event for event in events if isinstance(event, StepRecord)][warm_up:]
    seconds = sum(step.seconds for step in steps)
    lengths = tokens.reviews.lengths.astype(float)
    return {
        "reviews_per_second": sum(step.reviews for step in steps) / seconds,
        "tokens_per_second": sum(step.tokens for step in steps) / seconds,
        "gflop_per_second": count_training_gflop(lengths, classifier) / len(lengths)
        * sum(step.reviews for step in steps) / seconds,
        "seconds": seconds,
        "dtype": classifier.precision_.dtype_name,
    }  # fmt: skip


def count_training_gflop(lengths: "np.ndarray[Any, Any]", classifier: SentimentClassifier) -> float:
    """Return the operations of the matrix products that training must make, on real tokens only.

    Adapters in query and value of every layer. A frozen linear layer takes two products, one
    forward and one for the gradient of its input; attention six. The last layer needs only keys
    and values of all tokens; below the first layer's query, key and value no gradient is needed.
    The adapter's own products are left out: they are 1 % of the rest.
    """
    config: Any = classifier.encoder_.model.config
    width, inner, layers = config.hidden_size, config.hidden_dim, config.num_hidden_layers
    whole = 4 * width * width + 2 * width * inner
    forward = (layers - 1) * whole + 2 * width * width
    backward = forward - 3 * width * width
    attention = 6 * (layers - 1) * width
    tokens, squares = lengths.sum(), (lengths**2).sum()
    return float(2 * (tokens * (forward + backward) + squares * attention) / 1e9)


def score_ours(options: argparse.Namespace) -> Figures:
    """Score by this project, tokenizing included."""
    texts = draw_reviews(options.reviews).texts
    classifier = SentimentClassifier(
        model_name_or_path=find_base(options.base), max_length=options.max_length,
        truncation="head", bf16=False if options.fp32 else None,
        window_length=options.window_length,
    )  # fmt: skip
    classifier.build_base(LABELS)
    return time_scoring(lambda: classifier.predict_proba(texts), len(texts))


def score_pipeline(options: argparse.Namespace) -> Figures:
    """Score by `pipeline("text-classification")`."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

    texts, base = list(draw_reviews(options.reviews).texts), find_base(options.base)
    model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=2)
    classify = pipeline(
        "text-classification", model=model, tokenizer=AutoTokenizer.from_pretrained(base)
    )
    return time_scoring(
        lambda: classify(
            texts, batch_size=options.batch_size, truncation=True, max_length=options.max_length
        ),
        len(texts),
    )


def score_onnx(options: argparse.Namespace) -> Figures:
    """Score by ONNX Runtime over batches of like length, tokenizing included; int8 if asked for."""
    import logging

    import onnxruntime
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    logging.disable(logging.WARNING)
    base = find_base(options.base)
    model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=2).eval()
    tokenizer = AutoTokenizer.from_pretrained(base)
    texts = list(draw_reviews(options.reviews).texts)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        _export_onnx(model, path)
        if options.int8:
            quantize_dynamic(path, path.with_name("int8.onnx"), weight_type=QuantType.QInt8)
            path = path.with_name("int8.onnx")
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = torch.get_num_threads()
        session = onnxruntime.InferenceSession(path, settings, ["CPUExecutionProvider"])

    def score() -> None:
        ids = tokenizer(texts, truncation=True, max_length=options.max_length)["input_ids"]
        ids.sort(key=len, reverse=True)
        for start in range(0, len(ids), options.batch_size):
            batch = tokenizer.pad({"input_ids": ids[start : start + options.batch_size]})
            names = ("input_ids", "attention_mask")
            session.run(None, {name: np.asarray(batch[name], np.int64) for name in names})

    return time_scoring(score, len(texts))


def _export_onnx(model: Any, path: Path) -> None:  # noqa: ANN401 - a model of transformers
    class Logits(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = self.model(input_ids, attention_mask).logits
            return logits

    ids = torch.ones(2, 16, dtype=torch.long)
    axes = {0: "batch", 1: "tokens"}
    torch.onnx.export(
        Logits(), (ids, torch.ones_like(ids)), str(path), dynamo=False, opset_version=17,
        input_names=["input_ids", "attention_mask"], output_names=["logits"],
        dynamic_axes={"input_ids": axes, "attention_mask": axes},
    )  # fmt: skip


def score_sentence_transformers(options: argparse.Namespace) -> Figures:
    """Encode by sentence-transformers, which computes the same encoder without the head."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import Pooling, Transformer

    texts = list(draw_reviews(options.reviews).texts)
    body = Transformer(find_base(options.base), max_seq_length=options.max_length)
    model = SentenceTransformer(modules=[body, Pooling(body.get_word_embedding_dimension())])
    return time_scoring(lambda: model.encode(texts, batch_size=options.batch_size), len(texts))


def measure_ceiling(_options: argparse.Namespace) -> Figures:
    """Measure the rate of the matrix products of the encoder's own shapes, in GFLOP/s."""
    rates = {}
    for dtype in (torch.float32, torch.bfloat16):
        best = 0.0
        for inputs, outputs in ((384, 384), (384, 1536), (1536, 384)):
            x = torch.ones(4096, inputs, dtype=dtype)
            weight = torch.ones(inputs, outputs, dtype=dtype)
            for _ in range(20):
                start = time.perf_counter()
                torch.mm(x, weight)
                seconds = time.perf_counter() - start
                best = max(best, 2 * 4096 * inputs * outputs / seconds / 1e9)
        rates[str(dtype).removeprefix("torch.")] = best
    return rates


def compare_accuracy(options: argparse.Namespace) -> Figures:
    """Train with the default settings in the given dtype, and score held-out reviews."""
    train = draw_reviews(options.train_reviews)
    test = draw_reviews(options.reviews, skip=options.train_reviews)
    classifier = SentimentClassifier.from_settings(load_settings())
    classifier.set_params(bf16=False if options.fp32 else None)
    start = time.perf_counter()
    classifier.fit(train.texts, train.labels)
    seconds = time.perf_counter() - start
    predicted = classifier.predict(test.texts)
    flipped = 0.0
    if not options.fp32:
        in_float32 = SentimentClassifier(bf16=False)
        in_float32.build_base(LABELS)
        classifier.precision_ = in_float32.precision_
        flipped = float(np.mean(predicted != classifier.predict(test.texts)))
    accuracy = np.mean(predicted == np.asarray(test.labels))
    return {
        "accuracy": float(accuracy),
        "flipped_against_float32": flipped,
        "seconds": seconds,
    }


CONTESTANTS: dict[str, Callable[[argparse.Namespace], Figures]] = {
    "train-ours": train_ours,
    "train-usual": train_usual,
    "reach-ours": reach_ours,
    "reach-usual": reach_usual,
    "score-ours": score_ours,
    "score-pipeline": score_pipeline,
    "score-onnx": score_onnx,
    "score-export": score_export,
    "check-export": check_export,
    "score-sentence-transformers": score_sentence_transformers,
    "ceiling": measure_ceiling,
    "accuracy": compare_accuracy,
}


def main() -> None:
    """Measure one contestant."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=CONTESTANTS)
    parser.add_argument("--reviews", type=int, default=64)
    parser.add_argument("--train-reviews", type=int, default=3000)
    parser.add_argument("--max-length", type=int, default=512)
    parser.add_argument("--window-length", type=int, default=0)
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument(
        "--base", choices=["packaged", "default", "random-base"], default="packaged"
    )
    parser.add_argument("--most-seconds", type=float, default=float("inf"))
    parser.add_argument("--int8", action="store_true")
    parser.add_argument("--fp32", action="store_true")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    figures = CONTESTANTS[options.name](options)
    print(json.dumps({**figures, "peak_rss_bytes": measure_peak_rss()}))


if __name__ == "__main__":
    main()
