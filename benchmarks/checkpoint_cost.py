"""Measures what checkpoints cost: a training that writes one every 50 steps, and one without.

    python benchmarks/checkpoint_cost.py --train-size 1000

The share is that of the seconds spent on writing, from the call to the renamed folder, flushes
included, in all seconds of steps and writing: it does not depend on how busy the machine is from
one run to the next. Any other argument goes to `peft-sentiment train`.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from peft_sentiment.cli import main as run_command
from peft_sentiment.training import saving
from peft_sentiment.training.checkpoints import Checkpoint

BAR = 0.02
"""Share of the training time that checkpoints may take."""


def train(home: Path, arguments: Sequence[str]) -> tuple[float, list[float], int]:
    """Train once.

    Returns:
        Seconds of all steps, seconds of writing each checkpoint, and bytes of the last one.
    """
    writes: list[float] = []
    size = 0
    save = saving.CheckpointSaver.save

    def timed(self: saving.CheckpointSaver, checkpoint: Checkpoint) -> None:
        nonlocal size
        before = self.seconds
        save(self, checkpoint)
        writes.append(self.seconds - before)
        if self.newest is not None:
            size = sum(file.stat().st_size for file in self.newest.iterdir())

    saving.CheckpointSaver.save = timed  # type: ignore[method-assign]
    try:
        places = ["--output-dir", str(home / "output"), "--adapter-dir", str(home / "adapter")]
        if run_command(["train", *arguments, *places]):
            sys.exit("The training failed.")
    finally:
        saving.CheckpointSaver.save = save  # type: ignore[method-assign]
    lines = (home / "output" / "steps.jsonl").read_text(encoding="utf-8").splitlines()
    steps = [event["seconds"] for event in map(json.loads, lines) if event["kind"] == "StepRecord"]
    return sum(steps), writes, size


def main() -> int:
    """Measure; 0 where checkpoints take less than the bar."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--save-steps", type=int, default=50, help="between checkpoints")
    parsed, more = parser.parse_known_args()
    with tempfile.TemporaryDirectory(prefix="checkpoint-cost-") as home:
        without, last, _ = train(Path(home, "without"), [*more, "--save-minutes", "0"])
        every = ["--save-minutes", "0", "--save-steps", str(parsed.save_steps)]
        steps, writes, size = train(Path(home, "with"), [*more, *every])
    share = sum(writes) / (steps + sum(writes))
    print(f"without: steps {without:.1f} s, and the last checkpoint {sum(last):.2f} s")
    print(f"every {parsed.save_steps} steps: steps {steps:.1f} s, {len(writes)} checkpoints of "
          f"{size / 1e6:.1f} MB {sum(writes):.2f} s, {max(writes):.2f} s at most")  # fmt: skip
    print(f"checkpoints take {share:.2%} of the training (bar: {BAR:.0%})")
    return 0 if share < BAR else 1


if __name__ == "__main__":
    sys.exit(main())
