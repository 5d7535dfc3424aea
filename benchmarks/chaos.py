"""Kills training runs at random moments, resumes them, and compares with one that was let be.

    python benchmarks/chaos.py --kills 50

Each run writes a checkpoint after every step, so that many of the kills fall into a write. What is
compared, bit for bit: the losses, learning rates and gradients of all steps, all validations, the
adapter's weights, the probabilities of the test reviews, and the scores. Any other argument goes to
`peft-sentiment run`.
"""

import argparse
import dataclasses
import json
import os
import random
import secrets
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from peft_sentiment.cli import main as run_command
from peft_sentiment.evaluation.storage import load_predictions
from peft_sentiment.records import load_results
from peft_sentiment.training.checkpoints import list_checkpoints, load_checkpoint

SMALL_RUN = {
    "--train-size": 128,
    "--validation-size": 32,
    "--test-size": 32,
    "--max-length": 32,
    "--num-train-epochs": 1,
    "--eval-steps": 4,
    "--early-stopping-patience": 0,
    "--save-steps": 1,
    "--baselines": "none",
}
"""Flags of a run of 16 steps, which takes a few seconds on the packaged model."""

THREADS = torch.get_num_threads()
LONGEST_RUN = 600.0
"""Seconds after which a run is given up."""


@dataclasses.dataclass(frozen=True)
class Trial:
    """One run in a folder of its own.

    Attributes:
        folder: of all that it writes.
        arguments: of the command line.
    """

    folder: Path
    arguments: tuple[str, ...]

    def start(self, *more: str) -> int:
        """Start the run in a process of its own, and return the number of that process.

        It is forked from this one, which has loaded the libraries but started no thread of
        OpenMP's: these would be missing in the child, and be waited for.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        places = ["--output-dir", str(self.output), "--adapter-dir", str(self.folder / "adapter")]
        child = os.fork()
        if child:
            return child
        log = os.open(self.folder / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for stream in (sys.stdout.fileno(), sys.stderr.fileno()):
            os.dup2(log, stream)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        torch.set_num_threads(THREADS)
        os._exit(run_command([*self.arguments, *places, *more]))

    @property
    def output(self) -> Path:
        """Folder of its results."""
        return self.folder / "output"

    def finish(self, *more: str) -> None:
        """Run until the end, which must be a good one."""
        code = wait(self.start(*more), LONGEST_RUN)
        if code != 0:
            sys.exit(f"The run ended with {code}:\n{(self.folder / 'log.txt').read_text()}")

    def read_outcome(self) -> dict[str, object]:
        """Return all that must be equal, which is all but times."""
        lines = (self.output / "steps.jsonl").read_text(encoding="utf-8").splitlines()
        events = [{**json.loads(line), "seconds": 0} for line in lines]
        results = load_results(self.output / "results.json")
        scores = {
            name: dataclasses.replace(of_model, reviews_per_second=0)
            for name, of_model in results.models.items()
        }
        predictions = {
            name: load_predictions(self.output / "predictions" / f"{name}.parquet")[1]
            for name in scores
        }
        return {
            "steps": events,
            "weights": (self.folder / "adapter" / "adapter_model.safetensors").read_bytes(),
            "predictions": {name: p.probabilities.tobytes() for name, p in predictions.items()},
            "scores": (scores, results.improvement),
        }


def wait(process: int, seconds: float) -> int | None:
    """Return the code with which a process ends, or None where it is still at work after a time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        done, status = os.waitpid(process, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    return None


def kill_and_resume(trial: Trial, delay: float) -> str | None:
    """Kill a run after a time, and let it finish; say what the kill has left.

    Returns:
        None where the run had ended before.
    """
    process = trial.start()
    if wait(process, delay) is not None:
        return None
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    folder = trial.output / "checkpoints"
    found = [load_checkpoint(path).step for path in list_checkpoints(folder)]
    drafts = [*trial.folder.rglob("*.draft-*"), *folder.glob(".checkpoint-*.removed")]
    trial.finish("--resume")
    where = f"after step {found[0]}" if found else "before the first checkpoint"
    return where + (", while something was written" if drafts else "")


def run_trials(
    folder: Path, arguments: tuple[str, ...], kills: int, rng: random.Random
) -> tuple[int, int]:
    """Kill and resume runs, and compare each with one that is let be.

    Returns:
        How many ended as that one, and in how many the kill cut a write short.
    """
    whole = Trial(folder / "whole", arguments)
    start = time.monotonic()
    whole.finish()
    duration, expected = time.monotonic() - start, whole.read_outcome()
    print(f"A run that is let be: {duration:.1f} s, {len(expected['steps'])} records")  # type: ignore[arg-type]
    equal = cut = done = 0
    while done < kills:
        trial = Trial(folder / f"killed-{done + 1}", arguments)
        delay = rng.uniform(0, duration)
        words = kill_and_resume(trial, delay)
        if words is None:
            shutil.rmtree(trial.folder)
            continue
        outcome = trial.read_outcome()
        unlike = [name for name in expected if outcome[name] != expected[name]]
        done, equal, cut = done + 1, equal + (not unlike), cut + ("written" in words)
        verdict = f"differs in {', '.join(unlike)}" if unlike else "bit-identical"
        print(f"{done}/{kills}  killed at {delay:.2f} s, {words}: {verdict}", flush=True)
        shutil.rmtree(trial.folder)
    return equal, cut


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all trials; 0 where all ends are the same."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kills", type=int, default=50, help="runs to kill (default: 50)")
    parser.add_argument("--seed", type=int, help="of the moments (default: a new one)")
    parsed, more = parser.parse_known_args(arguments)
    seed = secrets.randbelow(2**32) if parsed.seed is None else parsed.seed
    torch.set_num_threads(1)
    import peft_sentiment.pipeline  # noqa: F401 - loaded once for all processes

    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        flags = [str(part) for flag in SMALL_RUN.items() for part in flag]
        run = ("run", *flags, *more)
        equal, cut = run_trials(Path(folder), run, parsed.kills, random.Random(seed))  # noqa: S311
    print(f"{equal} of {parsed.kills} bit-identical; {cut} killed while writing; seed {seed}")
    return 0 if equal == parsed.kills else 1


if __name__ == "__main__":
    sys.exit(main())
