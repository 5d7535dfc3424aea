"""The service under load from another process, each answer checked: `make load`.

    python benchmarks/load.py [--to onnx-int8] [--seconds 120] [--connections 64] [name=DIR ...]

Trains two small adapters, one with five classes, unless folders are named; with `--to`, exports
them and serves the exports. Scores packaged reviews offline, starts `peft-sentiment serve`, and
lets Locust ask it over loopback: as fast as the connections can, then at half of that rate. Prints
what came back, and exits with 1 where an answer is wrong, lost or an error other than 503.
"""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from peft_sentiment.cli import set_up_libraries

set_up_libraries()

import numpy as np  # noqa: E402 - the libraries are set up before they are loaded
import psutil  # noqa: E402

from peft_sentiment import SentimentClassifier  # noqa: E402
from peft_sentiment.config import DataSettings, load_settings  # noqa: E402
from peft_sentiment.data.sources import load_reviews  # noqa: E402
from peft_sentiment.model.exported_files import FORMS  # noqa: E402

USER_FILE = Path(__file__).with_name("load_user.py")
REVIEWS = 512
WARM_UP_SECONDS = 15
LEAST_TOLERANCE = 0.01
"""Of a probability against offline scoring; bfloat16 rounds to 0.4 %."""

LEAST_SHARE = 0.7
"""Of the rate of offline scoring, under full load."""

MOST_SECONDS = 0.3
"""That 99 of 100 answers may take at half of that load."""

LIMITS = (
    "--check-size", "200", "--most-flips", "10", "--most-loss", "10", "--most-difference", "5",
)  # fmt: skip
"""Adapters of 320 reviews are unsure of many; their speed is what is asked for here."""

Figures = dict[str, Any]


def main() -> int:
    """Measure, print, and return the exit code."""
    options = parse_arguments()
    texts = draw_texts(REVIEWS)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        adapters = dict(item.split("=", 1) for item in options.adapters) or train_adapters(folder)
        if options.to is not None:
            adapters = export_adapters(adapters, options.to, folder)
        expected, before = score_offline(adapters, texts)
        rounding = measure_rounding(adapters, texts, expected)
        tolerance = max(LEAST_TOLERANCE, 2 * rounding)
        known = {"texts": texts, "answers": expected, "tolerance": tolerance}
        (folder / "expected.json").write_text(json.dumps(known))
        with running_service(adapters) as (process, address):
            ask(folder, address, options.connections, min(WARM_UP_SECONDS, options.seconds), 0)
            start = measure_megabytes(process)
            full = ask(folder, address, options.connections, options.seconds, 0)
            middle = measure_megabytes(process)
            rate = full["answered"] / full["seconds"] / 2
            half = ask(folder, address, options.connections, options.seconds, rate)
            memory = (start, middle, measure_megabytes(process))
        _, after = score_offline(adapters, texts)
    print(f"offline, rounding      {rounding:.1e} between reviews alone and in batches; tolerance "
          f"{tolerance:.1e}")  # fmt: skip
    return show(full, half, (before, after), memory)


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("adapters", nargs="*", metavar="NAME=DIR")
    parser.add_argument("--to", choices=FORMS, help="serve this export of each adapter")
    parser.add_argument("--seconds", type=int, default=120)
    parser.add_argument("--connections", type=int, default=64)
    return parser.parse_args()


def draw_texts(count: int) -> list[str]:
    """Return packaged reviews that the small adapters are not trained on."""
    reviews = load_reviews(DataSettings()).train
    order = np.random.default_rng(0).permutation(len(reviews))[-count:]
    return list(reviews.take(order).texts)


def train_adapters(folder: Path) -> dict[str, str]:
    """Train an adapter for the sentiment and one for five classes of length; name -> folder."""
    reviews = load_reviews(DataSettings()).train
    reviews = reviews.take(np.random.default_rng(0).permutation(len(reviews))[:320])
    lengths = np.array([len(text) for text in reviews.texts])
    fifths = np.searchsorted(np.quantile(lengths, [0.2, 0.4, 0.6, 0.8]), lengths)
    for name, labels in (
        ("sentiment", list(reviews.labels)),
        ("length", [f"fifth {k}" for k in fifths]),
    ):
        print(f"training {name}", file=sys.stderr, flush=True)
        classifier = SentimentClassifier.from_settings(load_settings())
        classifier.fit(list(reviews.texts), labels).save(folder / name)
    return {name: str(folder / name) for name in ("sentiment", "length")}


def export_adapters(adapters: dict[str, str], form: str, folder: Path) -> dict[str, str]:
    """Export each adapter, as a user would; name -> folder of the export."""
    exported = {}
    for name, place in adapters.items():
        exported[name] = str(folder / f"{name}-{form}")
        command = [sys.executable, "-m", "peft_sentiment.cli", "export", place, "--to", form]
        command += ["--output", exported[name], *LIMITS]
        if subprocess.run(command, stdout=sys.stderr).returncode:  # noqa: S603 - our own words
            sys.exit(f"{name} could not be exported")
    return exported


def score_offline(
    adapters: dict[str, str], texts: Sequence[str]
) -> tuple[dict[str, list[Figures]], float]:
    """Return each adapter's answers, and reviews a second, loading aside."""
    answers, seconds = {}, 0.0
    for name, place in adapters.items():
        classifier = SentimentClassifier.load(place)
        classifier.predict_reviews(texts[:32])
        start = time.perf_counter()
        said = classifier.predict_reviews(texts)
        seconds += time.perf_counter() - start
        rows = zip(said.labels, said.probabilities, said.tokens, strict=True)
        answers[name] = [
            {
                "label": label,
                "probabilities": dict(zip(said.label_names, row.tolist(), strict=True)),
                "tokens": int(tokens),
            }
            for label, row, tokens in rows
        ]
    return answers, len(adapters) * len(texts) / seconds


def measure_rounding(
    adapters: dict[str, str], texts: Sequence[str], expected: dict[str, list[Figures]]
) -> float:
    """Return how far probabilities move when each review is scored alone instead of in batches."""
    furthest = 0.0
    for name, place in adapters.items():
        classifier = SentimentClassifier.load(place)
        for text, known in zip(texts, expected[name], strict=True):
            said = classifier.predict_proba([text])[0]
            wanted = np.array(list(known["probabilities"].values()))
            furthest = max(furthest, float(np.abs(said - wanted).max()))
    return furthest


@contextlib.contextmanager
def running_service(adapters: dict[str, str]) -> Iterator[tuple[psutil.Process, str]]:
    """Run the service on a free port; end it by SIGTERM, which must take under ten seconds."""
    names = [f"{name}={place}" for name, place in adapters.items()]
    command = [sys.executable, "-m", "peft_sentiment.cli", "serve", *names, "--port", "0"]
    with tempfile.NamedTemporaryFile("w+", suffix=".log") as log:
        process = subprocess.Popen(command, stderr=log)  # noqa: S603 - our own words
        try:
            yield psutil.Process(process.pid), wait_for_address(process, Path(log.name))
        finally:
            process.send_signal(signal.SIGTERM)
            start = time.perf_counter()
            process.wait(timeout=60)
            print(f"stopped after {time.perf_counter() - start:.1f} s", file=sys.stderr)


def wait_for_address(process: "subprocess.Popen[bytes]", log: Path) -> str:
    """Return where the service listens, as soon as it does."""
    while process.poll() is None:
        for line in log.read_text().splitlines():
            event = json.loads(line) if line.startswith("{") else {}
            if event.get("event") == "listening":
                return f"http://{event['host']}:{event['port']}"
        time.sleep(0.2)
    sys.exit(f"the service did not start:\n{log.read_text()[-2000:]}")


def ask(folder: Path, address: str, connections: int, seconds: int, rate: float) -> Figures:
    """Let Locust ask for so many seconds; at this rate in all, or as fast as can be for 0."""
    answer = folder / "answer.json"
    answer.unlink(missing_ok=True)
    command = [
        sys.executable, "-m", "locust", "-f", str(USER_FILE), "--headless", "--only-summary",
        "--host", address, "--users", str(connections), "--spawn-rate", str(connections),
        "--run-time", f"{seconds}s", "--stop-timeout", "30",
    ]  # fmt: skip
    environment = {
        **os.environ,
        "LOAD_EXPECTED": str(folder / "expected.json"),
        "LOAD_ANSWER": str(answer),
        "LOAD_RATE_PER_USER": str(rate / connections),
    }
    pace = f"{rate:.1f} requests/s" if rate else "as fast as can be"
    print(f"{connections} connections, {seconds} s, {pace}", file=sys.stderr, flush=True)
    done = subprocess.run(command, env=environment, capture_output=True, text=True)  # noqa: S603
    if not answer.is_file():
        sys.exit(f"Locust failed:\n{done.stderr[-3000:]}")
    figures: Figures = json.loads(answer.read_text())
    return figures


def measure_megabytes(process: psutil.Process) -> float:
    """Return the memory that a process has now."""
    return float(process.memory_info().rss / 1e6)


def show(
    full: Figures, half: Figures, offline: tuple[float, float], memory: tuple[float, float, float]
) -> int:
    """Print the figures, and return 1 where an answer was wrong or lost, else 0."""
    rate, alone = full["answered"] / full["seconds"], sum(offline) / 2
    print(f"offline scoring        {offline[0]:.1f} reviews/s before, {offline[1]:.1f} after")
    print(f"full load              {rate:.1f} reviews/s, {rate / alone:.0%} of offline", end=" ")
    print(f"(bar {LEAST_SHARE:.0%})")
    print(f"half load              {half['answered'] / half['seconds']:.1f} reviews/s")
    for name, figures in (("full load", full), ("half load", half)):
        told = ", ".join(f"{code}: {count}" for code, count in sorted(figures["codes"].items()))
        print(f"{name}, by status   {told or 'none'}; no answer: {figures['lost']}")
        print(f"{name}, checked     {figures['answered']} answers, {figures['wrong']} wrong; "
              f"furthest from offline {figures['furthest']:.1e}")  # fmt: skip
        print(f"{name}, latency     median {figures['median']:.3f} s, "
              f"99th percentile {figures['p99']:.3f} s")  # fmt: skip
    print(f"bar at half load       99th percentile {MOST_SECONDS} s")
    print("memory                 {:.0f} MB, {:.0f} after full, {:.0f} after half".format(*memory))
    bad = sum(f["wrong"] + f["lost"] + f["errors"] for f in (full, half))
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
