"""Ours against what users have: `make bench`.

    python benchmarks/bench.py [--part training] [--part scoring] ... [--rounds 2]

Each contestant runs in a process of its own, ours and theirs in turn, and what counts is the ratio
within a round: machines are noisy. Writes benchmarks/results.json and the tables between the marks
in docs/performance.md.
"""

import argparse
import json
import math
import platform
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
RESULTS = HERE / "results.json"
PAGE = HERE.parent / "docs" / "performance.md"
MARKS = ("<!-- made by make bench: begin -->", "<!-- made by make bench: end -->")

MOST_TIMES = 10
"""Of our time until an accuracy is reached, that the usual script is given to reach it."""

WINDOWS, WINDOW_LENGTH = "windows of 256 tokens", 256
"""How the default preset scores; `pipeline` and the others read a review whole."""

Figures = dict[str, Any]
Row = tuple[str, str, str]
"""What was measured, the figure, and what it is compared with."""


def measure(name: str, **options: object) -> Figures:
    """Run one contestant and return its figures."""
    flags = [
        part
        for key, value in options.items()
        if value is not False
        for part in ([f"--{key.replace('_', '-')}"] + ([] if value is True else [str(value)]))
    ]
    command = [sys.executable, str(HERE / "contestants.py"), name, *flags]
    print(f"  {name} {' '.join(flags)}", file=sys.stderr, flush=True)
    answer = subprocess.run(command, capture_output=True, text=True)  # noqa: S603 - our own words
    if answer.returncode:
        sys.exit(f"{name} failed:\n{answer.stderr[-2000:]}")
    figures: Figures = json.loads(answer.stdout.strip().splitlines()[-1])
    return figures


def bench_training(rounds: int) -> Figures:
    """Reviews a second of training, against the usual script, and the share of the ceiling."""
    found: Figures = {}
    for base, ours, usual in (("packaged", 768, 64), ("random-base", 256, 16)):
        pairs = [
            {
                "ceiling": measure("ceiling"),
                "ours": measure("train-ours", base=base, reviews=ours),
                "usual": measure("train-usual", base=base, reviews=usual),
            }
            for _ in range(rounds)
        ]
        ratios = [_rate(pair["ours"]) / _rate(pair["usual"]) for pair in pairs]
        shares = [
            pair["ours"]["gflop_per_second"] / pair["ceiling"][pair["ours"]["dtype"]]
            for pair in pairs
        ]
        found[base] = {
            "ratio": statistics.median(ratios),
            "share_of_ceiling": statistics.median(shares),
            "rounds": pairs,
        }
    return found


def bench_scoring(rounds: int) -> Figures:
    """Reviews a second of scoring, against pipeline, ONNX Runtime and sentence-transformers."""
    others: dict[str, tuple[str, Figures]] = {
        "pipeline": ("score-pipeline", {"reviews": 256}),
        "pipeline, batch 16": ("score-pipeline", {"reviews": 128, "batch_size": 16}),
        "ONNX Runtime fp32": ("score-onnx", {"reviews": 256, "batch_size": 1}),
        "ONNX Runtime int8": ("score-onnx", {"reviews": 256, "batch_size": 8, "int8": True}),
        "sentence-transformers": (
            "score-sentence-transformers", {"reviews": 256, "batch_size": 32},
        ),
    }  # fmt: skip
    pairs = [
        {
            "ours": measure("score-ours", reviews=1024),
            WINDOWS: measure("score-ours", reviews=1024, window_length=WINDOW_LENGTH),
            **{what: measure(name, **options) for what, (name, options) in others.items()},
        }
        for _ in range(rounds)
    ]
    ratios = {
        what: statistics.median(_rate(pair["ours"]) / _rate(pair[what]) for pair in pairs)
        for what in others
    }
    return {"ratios": ratios, WINDOWS: compare_windows(pairs), "rounds": pairs}


def compare_windows(pairs: list[Figures]) -> float:
    """Return how many times as fast as pipeline scoring in windows is."""
    return statistics.median(_rate(pair[WINDOWS]) / _rate(pair["pipeline"]) for pair in pairs)


def bench_exports(rounds: int) -> Figures:
    """Reviews a second of the exports, against pipeline and plain int8, and what int8 costs."""
    contestants: dict[str, tuple[str, Figures]] = {
        "onnx-int8": ("score-export", {"int8": True}),
        WINDOWS: ("score-export", {"int8": True, "window_length": WINDOW_LENGTH}),
        "onnx": ("score-export", {}),
        "pipeline": ("score-pipeline", {}),
        "plain int8": ("score-onnx", {"int8": True}),
        "plain int8, batch 8": ("score-onnx", {"int8": True, "batch_size": 8}),
    }
    pairs = [
        {
            what: measure(name, base="default", reviews=256, **options)
            for what, (name, options) in contestants.items()
        }
        for _ in range(rounds)
    ]
    ratios = {
        what: statistics.median(_rate(pair["onnx-int8"]) / _rate(pair[what]) for pair in pairs)
        for what in contestants
        if what not in ("onnx-int8", WINDOWS)
    }
    check = measure("check-export", reviews=5000)
    return {"ratios": ratios, WINDOWS: compare_windows(pairs), "rounds": pairs, "check": check}


def bench_accuracy(_rounds: int) -> Figures:
    """Accuracy on 5,000 held-out reviews: the fast path against float32, same seed and data."""
    fast = measure("accuracy", reviews=5000)
    return {"fast": fast, "float32": measure("accuracy", reviews=5000, fp32=True)}


def bench_target(_rounds: int) -> Figures:
    """Training time until the test reviews are labelled as well as the classic recipe claims.

    The usual script is given up after `MOST_TIMES` our time.
    """
    ours = measure("reach-ours", base="default", reviews=600)
    most = MOST_TIMES * ours["seconds"]
    usual = measure("reach-usual", base="default", reviews=600, most_seconds=most)
    return {"ours": ours, "usual": usual, "ratio": usual["seconds"] / ours["seconds"]}


def bench_growth(_rounds: int) -> Figures:
    """Seconds against reviews, tokens and threads, with the slopes in log-log."""
    by_reviews = {n: measure("train-ours", reviews=n, max_length=256) for n in (512, 2048, 8192)}
    by_length = {n: measure("train-ours", reviews=384, max_length=n) for n in (64, 128, 256, 512)}
    by_threads = {n: measure("train-ours", reviews=384, threads=n) for n in (1, 2)}
    return {
        "by_reviews": by_reviews,
        "by_max_length": by_length,
        "by_threads": by_threads,
        "slope_of_reviews": fit_slope({n: f["seconds"] for n, f in by_reviews.items()}),
        "slope_of_tokens": fit_slope(
            {f["tokens_per_second"] * f["seconds"]: f["seconds"] for f in by_length.values()}
        ),
        "two_threads_over_one": _rate(by_threads[2]) / _rate(by_threads[1]),
    }


def fit_slope(points: dict[float, float]) -> float:
    """Return the slope of the least-squares line through the logarithms."""
    xs, ys = ([math.log(value) for value in part] for part in (points, points.values()))
    slope: float = statistics.linear_regression(xs, ys).slope
    return slope


def _rate(figures: Figures) -> float:
    rate: float = figures["reviews_per_second"]
    return rate


PARTS: dict[str, Callable[[int], Figures]] = {
    "training": bench_training,
    "scoring": bench_scoring,
    "exports": bench_exports,
    "accuracy": bench_accuracy,
    "growth": bench_growth,
    "target": bench_target,
}


def render_rows(results: Figures) -> list[Row]:
    """Return the table's rows from the records of all parts that were measured."""
    rows: list[Row] = []
    for base, found in results.get("training", {}).items():
        last = found["rounds"][-1]
        rows.append((
            f"training, {base}", f"{_rate(last['ours']):.1f} reviews/s",
            f"{found['ratio']:.1f} x the usual script ({_rate(last['usual']):.2f}); "
            f"{100 * found['share_of_ceiling']:.0f} % of the ceiling of "
            f"{last['ceiling'][last['ours']['dtype']]:.0f} GFLOP/s ({last['ours']['dtype']}); "
            f"peak {last['ours']['peak_rss_bytes'] / 1e9:.2f} GB, "
            f"theirs {last['usual']['peak_rss_bytes'] / 1e9:.2f}",
        ))  # fmt: skip
    if scoring := results.get("scoring"):
        last = scoring["rounds"][-1]
        rows.append(("scoring, packaged", f"{_rate(last['ours']):.1f} reviews/s", ""))
        rows += [
            ("", f"{ratio:.2f} x", f"{what} ({_rate(last[what]):.1f} reviews/s)")
            for what, ratio in scoring["ratios"].items()
        ]
        rows.append(render_windows(scoring))
    if exports := results.get("exports"):
        rows += render_exports(exports)
    if accuracy := results.get("accuracy"):
        fast, slow = accuracy["fast"], accuracy["float32"]
        rows.append((
            "accuracy, 5,000 reviews", f"{100 * fast['accuracy']:.2f} %",
            f"float32, same seed and data: {100 * slow['accuracy']:.2f} %; scoring flips "
            f"{100 * fast['flipped_against_float32']:.2f} % of labels against float32",
        ))  # fmt: skip
    if target := results.get("target"):
        rows.append((
            f"time until {100 * target['ours']['wanted']:.1f} %", describe_reach(target["ours"]),
            f"{target['ratio']:.1f} x: the usual script {describe_reach(target['usual'])}",
        ))  # fmt: skip
    if growth := results.get("growth"):
        rows += [
            ("growth with reviews", f"slope {growth['slope_of_reviews']:.3f}", "512 to 8,192"),
            ("growth with tokens", f"slope {growth['slope_of_tokens']:.3f}", "cut at 64 to 512"),
            ("two threads over one", f"{growth['two_threads_over_one']:.2f} x", "cut at 512"),
        ]
        rows += [
            ("", f"{f['seconds']:.1f} s", f"{n} reviews cut at 256; peak "
             f"{f['peak_rss_bytes'] / 1e9:.2f} GB")
            for n, f in growth["by_reviews"].items()
        ]  # fmt: skip
    return rows


def describe_reach(figures: Figures) -> str:
    """Return when the accuracy was reached, or what was reached in the end."""
    words = f"{figures['seconds']:.0f} s and {figures['reviews']:,} reviews"
    if figures["accuracy"] >= figures["wanted"]:
        return words
    return f"not reached in {words} ({100 * figures['best']:.1f} % at best)"


def render_windows(found: Figures) -> Row:
    """Return the row of scoring in windows."""
    rate = _rate(found["rounds"][-1][WINDOWS])
    return ("", f"{found[WINDOWS]:.2f} x", f"pipeline, ours by {WINDOWS} ({rate:.1f} reviews/s)")


def render_exports(exports: Figures) -> list[Row]:
    """Return the rows of the exports."""
    last, check = exports["rounds"][-1], exports["check"]
    rows: list[Row] = [("export, onnx-int8", f"{_rate(last['onnx-int8']):.1f} reviews/s", "")]
    rows += [
        ("", f"{ratio:.2f} x", f"{what} ({_rate(last[what]):.1f} reviews/s)")
        for what, ratio in exports["ratios"].items()
    ]
    rows.append(render_windows(exports))
    rows.append((
        "", f"{100 * check['accuracy_after']:.2f} %",
        f"the adapter in float32: {100 * check['accuracy_before']:.2f} %, 5,000 held-out reviews; "
        f"{100 * check['flipped']:.2f} % of labels flipped; {check['bytes_after'] / 1e6:.1f} MB, "
        f"the adapter with its base {check['bytes_before'] / 1e6:.1f}",
    ))  # fmt: skip
    return rows


def write_page(rows: list[Row], machine: str) -> None:
    """Put the table between the marks of docs/performance.md."""
    text = PAGE.read_text(encoding="utf-8")
    before, rest = text.split(MARKS[0])
    after = rest.split(MARKS[1])[1]
    lines = ["| what | measured | against |", "|---|---|---|"]
    lines += [f"| {a} | {b} | {c} |" for a, b, c in rows]
    table = "\n".join(lines)
    PAGE.write_text(
        f"{before}{MARKS[0]}\n{machine}\n\n{table}\n{MARKS[1]}{after}", encoding="utf-8"
    )


def describe_machine() -> str:
    """Return the processor, as far as it says."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return f"Machine: {platform.processor() or platform.machine()}."
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    is_native = any("avx512_bf16" in line or "amx_bf16" in line for line in lines)
    word = "with" if is_native else "without"
    return f"Machine: {len(names)} cores of {names[0] if names else '?'}, {word} bfloat16."


def main() -> None:
    """Measure the parts asked for, and write what came out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", action="append", choices=PARTS, help="all if not given")
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    is_kept = options.part and RESULTS.is_file()
    known = json.loads(RESULTS.read_text(encoding="utf-8")) if is_kept else {}
    for name in options.part or PARTS:
        print(f"{name}:", file=sys.stderr)
        known[name] = PARTS[name](options.rounds)
        known["machine"] = describe_machine()
        RESULTS.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
    rows = render_rows(json.loads(RESULTS.read_text(encoding="utf-8")))
    for row in rows:
        print("{:26} {:18} {}".format(*row))
    write_page(rows, known["machine"])


if __name__ == "__main__":
    main()
