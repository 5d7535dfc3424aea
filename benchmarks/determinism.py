"""How far runs of the same settings agree: with one number of threads, and across several.

    python benchmarks/determinism.py --threads 1,2

Each run has --deterministic and a process of its own. For each number of threads two are compared
bit for bit; then the first of each with the first of the first: losses, weights, probabilities of
the test reviews, and labels. Last, what --deterministic costs: the steps of a run with it and of
one without it, in turn. Any other argument goes to `peft-sentiment run`.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from peft_sentiment.evaluation.storage import load_predictions

SMALL_RUN = {
    "--train-size": 256,
    "--validation-size": 64,
    "--test-size": 200,
    "--max-length": 128,
    "--num-train-epochs": 1,
    "--baselines": "none",
}
ROUNDS = 3
"""Pairs of runs that the cost is taken from."""


@dataclass(frozen=True)
class Outcome:
    """What a run has come to.

    Attributes:
        losses: of each step.
        weights: of the adapter, end to end.
        probabilities: (N, C) of the test reviews.
        seconds: of the steps.
    """

    losses: NDArray[np.float64]
    weights: NDArray[np.float32]
    probabilities: NDArray[np.float32]
    seconds: float

    def is_same(self, other: "Outcome") -> bool:
        """Return whether all is equal, bit for bit."""
        return (
            self.losses.tobytes() == other.losses.tobytes()
            and self.weights.tobytes() == other.weights.tobytes()
            and self.probabilities.tobytes() == other.probabilities.tobytes()
        )


def run(folder: Path, threads: int, arguments: Sequence[str]) -> Outcome:
    """Run the command line in a process of its own."""
    output, adapter = folder / "output", folder / "adapter"
    flags = [str(part) for flag in SMALL_RUN.items() for part in flag]
    command = [sys.executable, "-m", "peft_sentiment.cli", "run", *flags, *arguments]
    command += ["--output-dir", str(output), "--adapter-dir", str(adapter)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    subprocess.run(  # noqa: S603
        command, env=environment, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    lines = (output / "steps.jsonl").read_text(encoding="utf-8").splitlines()
    steps = [event for event in map(json.loads, lines) if event["kind"] == "StepRecord"]
    weights = load_file(adapter / "adapter_model.safetensors")
    _, predictions = load_predictions(output / "predictions" / "peft.parquet")
    return Outcome(
        np.array([step["loss"] for step in steps]),
        np.concatenate([weights[name].ravel() for name in sorted(weights)]),
        predictions.probabilities,
        sum(step["seconds"] for step in steps),
    )


def describe_difference(one: Outcome, other: Outcome) -> str:
    """Return how far two runs are apart, in words."""
    if one.is_same(other):
        return "bit-identical"
    labels = one.probabilities.argmax(1) != other.probabilities.argmax(1)
    return (
        f"losses differ by {np.abs(one.losses - other.losses).max():.1e} at most, weights by "
        f"{np.abs(one.weights - other.weights).max():.1e}, probabilities by "
        f"{np.abs(one.probabilities - other.probabilities).max():.1e}, "
        f"{labels.sum()} of {len(labels)} labels"
    )


def compare_threads(folder: Path, numbers: Sequence[int], arguments: Sequence[str]) -> bool:
    """Show how far runs agree; return whether those with one number of threads are the same."""
    first: dict[int, Outcome] = {}
    is_same = True
    for threads in numbers:
        pair = [run(folder / f"{threads}-{n}", threads, arguments) for n in (1, 2)]
        first[threads] = pair[0]
        is_same &= pair[0].is_same(pair[1])
        print(f"{threads} threads, twice: {describe_difference(*pair)}", flush=True)
    for threads in numbers[1:]:
        words = describe_difference(first[numbers[0]], first[threads])
        print(f"{numbers[0]} and {threads} threads: {words}", flush=True)
    return is_same


def measure_cost(folder: Path, threads: int, arguments: Sequence[str]) -> None:
    """Show the seconds of all steps with the flag and without it."""
    seconds: dict[str, list[float]] = {"--deterministic": [], "--no-deterministic": []}
    for number in range(ROUNDS):
        for flag, found in seconds.items():
            place = folder / f"cost{flag}-{number}"
            found.append(run(place, threads, [*arguments, flag]).seconds)
    on, off = (min(found) for found in seconds.values())
    print(f"steps with --deterministic {on:.2f} s, without {off:.2f} s: {on / off - 1:+.1%}")


def main() -> int:
    """Compare and time; 0 where runs with one number of threads are the same."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--threads", default="1,2", help="numbers of threads (default: 1,2)")
    parsed, more = parser.parse_known_args()
    numbers = [int(number) for number in parsed.threads.split(",")]
    with tempfile.TemporaryDirectory(prefix="determinism-") as home:
        is_same = compare_threads(Path(home), numbers, [*more, "--deterministic"])
        measure_cost(Path(home), max(numbers), more)
    return 0 if is_same else 1


if __name__ == "__main__":
    sys.exit(main())
