"""Trains the packaged model by two processes of one thread and by one of two, and compares.

    python benchmarks/scale_processes.py --rounds 3

The two take turns on the same two cores and see the same reviews a step, so that rate and accuracy
may be set against each other. Any other argument goes to `peft-sentiment run`.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from peft_sentiment.evaluation.storage import RESULTS_FILE
from peft_sentiment.records import Results, load_results

REVIEWS_A_STEP = 16
RUN = {
    "--train-size": 2000,
    "--validation-size": 200,
    "--test-size": 600,
    "--num-train-epochs": 1,
    "--save-minutes": 0,
    "--baselines": "none",
}


def train(processes: int, more: list[str], folder: Path) -> Results:
    """Train by so many processes, which share two cores."""
    batch = ["--per-device-train-batch-size", str(REVIEWS_A_STEP // processes)]
    places = ["--output-dir", str(folder / "output"), "--adapter-dir", str(folder / "adapter")]
    flags = [str(part) for flag in RUN.items() for part in flag]
    command = ["-m", "peft_sentiment.cli", "run", *flags, *batch, *places, *more]
    if processes > 1:
        launcher = ["torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
        command = ["-m", *launcher, *command]
    environment = {**os.environ, "OMP_NUM_THREADS": str(2 // processes)}
    subprocess.run(  # noqa: S603 - our own program
        [sys.executable, *command], check=True, env=environment, stdout=subprocess.DEVNULL
    )
    return load_results(folder / "output" / RESULTS_FILE)


def main() -> None:
    """Run the rounds, and print rates, their ratio and the accuracies."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parsed, more = parser.parse_known_args()
    ratios = []
    for number in range(parsed.rounds):
        rates = {}
        for processes in (1, 2) if number % 2 else (2, 1):
            with tempfile.TemporaryDirectory() as folder:
                results = train(processes, more, Path(folder))
            scores, training = results.models["peft"], results.training
            rates[processes] = training.reviews_per_second
            print(
                f"{processes} process{'es' if processes > 1 else ''}: "
                f"{training.reviews_per_second:.1f} reviews/s, accuracy {scores.accuracy:.3f}, "
                f"{results.peak_rss_bytes / 1e9:.2f} GB in the main process, whole run "
                f"{results.seconds:.0f} s",
                flush=True,
            )
        ratios.append(rates[2] / rates[1])
        print(f"round {number + 1}: two processes have {ratios[-1]:.2f} of one's rate", flush=True)
    print(f"median ratio {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    main()
