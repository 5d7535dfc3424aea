"""Where the time of a training step, of scoring or of an int8 export goes, in kinds of operators.

    python benchmarks/step_profile.py [training | scoring | export] [--window-length 256]

One thread, after some reviews to warm up, with the library's own profiler on, which itself takes
time: believe the shares. What no operator took is Python's. Training and scoring are the quickstart
preset's; the export is `onnx-int8` of the same encoder.
"""

import argparse
import itertools
import json
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

from peft_sentiment.cli import set_up_libraries

set_up_libraries()

import torch  # noqa: E402 - the libraries are set up before they are loaded
from export_contestants import write_export  # noqa: E402
from material import BATCH, LABELS, draw_reviews, find_base  # noqa: E402
from torch.profiler import ProfilerActivity, profile  # noqa: E402

from peft_sentiment import SentimentClassifier  # noqa: E402
from peft_sentiment.records import StepRecord  # noqa: E402

WARM_UP = 4 * BATCH

TORCH_KINDS = {
    "products of linear layers": ("linear_pointwise", "addmm", "aten::mm", "aten::linear"),
    "products of attention": ("bmm", "baddbmm", "aten::matmul"),
    "softmax": ("exp", "softmax", "aten::sum", "aten::div", "reciprocal", "amax", "aminmax"),
    "GELU": ("gelu",),
    "norms": ("layer_norm",),
    "sums and factors": ("aten::add", "aten::mul", "aten::sub", "lerp", "foreach", "aten::addcmul"),
    "copies between layouts": ("copy", "aten::cat", "clone", "contiguous", "aten::_to_copy"),
    "chance of the dropout": ("random", "bernoulli", "aten::lt", "aten::ge", "bitwise"),
    "memory": ("empty", "resize", "fill", "zero"),
}
"""Kind -> parts of operators' names; the first kind that fits an operator has it."""

ONNX_KINDS = {
    "products in int8, scales chosen": ("MatMulInteger", "DynamicQuantizeMatMul"),
    "choosing other scales of int8": ("DynamicQuantizeLinear", "QuantizeLinear"),
    "attention, in float32": ("MultiHeadAttention",),
    "other products, in float32": ("MatMul", "Gemm"),
    "GELU": ("Gelu",),
    "norms": ("LayerNormalization",),
    "sums and factors": ("Add", "Mul", "Sum", "Sub"),
}
"""The same for ONNX Runtime's."""


def find_kind(operator: str, kinds: dict[str, tuple[str, ...]]) -> str:
    """Return the kind of an operator."""
    for kind, parts in kinds.items():
        if any(part in operator for part in parts):
            return kind
    return "other operators"


def share_out(
    total: float, operators: Iterable[tuple[str, float]], kinds: dict[str, tuple[str, ...]]
) -> None:
    """Print the share of each kind in so many microseconds."""
    taken: dict[str, float] = {}
    for name, microseconds in operators:
        kind = find_kind(name, kinds)
        taken[kind] = taken.get(kind, 0.0) + microseconds
    taken["Python and waiting"] = total - sum(taken.values())
    for kind, microseconds in sorted(taken.items(), key=lambda item: -item[1]):
        print(f"| {kind} | {microseconds / total:.1%} |".replace("%", " %"))


def say_size(reviews: int, tokens: float, dtype: str, seconds: float) -> None:
    """Print what was measured."""
    print(f"{reviews} reviews, {tokens / reviews:.0f} tokens each, {dtype}: {seconds:.2f} s")


def build_classifier(max_length: int, window_length: int = 0) -> SentimentClassifier:
    """Return the preset's classifier, which reads reviews whole or in windows."""
    classifier = SentimentClassifier(
        crop_length=0, num_train_epochs=1, per_device_train_batch_size=BATCH,
        max_length=max_length, truncation="head", window_length=window_length,
    )  # fmt: skip
    classifier.build_base(LABELS)
    return classifier


def profile_training(options: argparse.Namespace) -> None:
    """Profile optimizer steps."""
    count, classifier = options.reviews, build_classifier(options.max_length)
    events = classifier.iterate_fit(classifier.tokenize(draw_reviews(count + WARM_UP)), None)
    list(itertools.islice(events, WARM_UP // BATCH))
    with profile(activities=[ProfilerActivity.CPU], acc_events=True) as profiler:
        steps = [event for event in events if isinstance(event, StepRecord)]
    seconds, tokens = sum(step.seconds for step in steps), sum(step.tokens for step in steps)
    reviews = sum(step.reviews for step in steps)
    say_size(reviews, tokens, classifier.precision_.dtype_name, seconds)
    averages = profiler.key_averages()
    share_out(seconds * 1e6, ((e.key, e.self_cpu_time_total) for e in averages), TORCH_KINDS)


def profile_scoring(options: argparse.Namespace) -> None:
    """Profile scoring, tokenizing included."""
    count = options.reviews
    classifier = build_classifier(options.max_length, options.window_length)
    classifier.predict_reviews(draw_reviews(WARM_UP, skip=count).texts)
    with profile(activities=[ProfilerActivity.CPU], acc_events=True) as profiler:
        done = classifier.predict_reviews(draw_reviews(count).texts)
    say_size(count, done.tokens.sum(), classifier.precision_.dtype_name, done.seconds)
    averages = profiler.key_averages()
    share_out(done.seconds * 1e6, ((e.key, e.self_cpu_time_total) for e in averages), TORCH_KINDS)


def profile_export(options: argparse.Namespace) -> None:
    """Profile scoring by the export in int8, tokenizing included."""
    from peft_sentiment.inference import onnx

    with tempfile.TemporaryDirectory() as name:
        folder, count = Path(name), options.reviews
        scored = {"reviews": count + WARM_UP, "int8": True}
        write_export(folder, find_base("default"), argparse.Namespace(**vars(options) | scored))
        runtime = onnx.require_onnxruntime()
        session = runtime.SessionOptions()
        session.enable_profiling, session.profile_file_prefix = True, str(folder / "profile")
        session.intra_op_num_threads = session.inter_op_num_threads = 1
        exported = onnx.OnnxClassifier.load(folder, threads=1)
        exported.predict_reviews(draw_reviews(WARM_UP, skip=count).texts)
        exported.session = runtime.InferenceSession(folder / onnx.ONNX_FILE, session)
        done = exported.predict_reviews(draw_reviews(count).texts)
        events = json.loads(Path(exported.session.end_profiling()).read_text())
    say_size(count, done.tokens.sum(), "int8", done.seconds)
    nodes = [event for event in events if event["cat"] == "Node" and "op_name" in event["args"]]
    # A branch of an If is told beside the If, whose time holds it.
    parts = ((e["args"]["op_name"], e["dur"]) for e in nodes if e["args"]["op_name"] != "If")
    share_out(done.seconds * 1e6, parts, ONNX_KINDS)


PARTS: dict[str, Callable[[argparse.Namespace], None]] = {
    "training": profile_training,
    "scoring": profile_scoring,
    "export": profile_export,
}


def main() -> None:
    """Profile a part and print what took how much."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", nargs="?", choices=PARTS, default="training")
    parser.add_argument("--reviews", type=int, default=128)
    parser.add_argument("--max-length", type=int, default=512)
    parser.add_argument("--window-length", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    PARTS[options.part](options)


if __name__ == "__main__":
    main()
