"""Watches a long training: its memory stays flat, and its open files stay as many.

    python benchmarks/long_run.py --steps 20000

It is `peft-sentiment train` as users start it, on a tiny model and reviews made up for it, with a
checkpoint every 500 steps. Memory (resident) and open files are read from the system at every line
of its progress. What is judged is how much both grow after the first thousand steps.
"""

import argparse
import csv
import random
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

MOST_GROWTH = 20_000_000
"""Bytes by which memory may grow after the first steps."""

FIRST_STEPS = 1000
REVIEWS = 96
WORDS = ("a", "the", "film", "good", "bad", "dull", "fine", "plot", "was", "is", "very", "not")

_STEP = re.compile(r"step ([\d,]+)/")


@dataclass(frozen=True)
class Sample:
    """What a process holds at a step of its training."""

    step: int
    memory: int
    files: int


def build_model(folder: Path) -> Path:
    """Save a DistilBERT of width 32 with two layers."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import DistilBertConfig, DistilBertModel, PreTrainedTokenizerFast

    names = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS)
    tokenizer = Tokenizer(models.WordLevel({n: i for i, n in enumerate(names)}, unk_token=names[1]))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]",
               "sep_token": "[SEP]", "mask_token": "[MASK]"}  # fmt: skip
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)
    config = DistilBertConfig(
        vocab_size=len(names), dim=32, hidden_dim=64, n_heads=4, n_layers=2,
        max_position_embeddings=64,
    )  # fmt: skip
    DistilBertModel(config).save_pretrained(folder)
    return folder


def write_reviews(path: Path) -> Path:
    """Write reviews of random words, each text once."""
    rng = random.Random(0)  # noqa: S311
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        for number in range(2 * REVIEWS):
            words = " ".join(rng.choices(WORDS, k=12))
            writer.writerow([f"{words} {number}", ("negative", "positive")[number % 2]])
    return path


def build_command(home: Path, steps: int, logging_steps: int, save_steps: int) -> list[str]:
    """Return the command of a training of so many steps of 8 reviews."""
    flags = {
        "--model-name-or-path": build_model(home / "model"),
        "--train-file": write_reviews(home / "reviews.csv"),
        "--train-size": REVIEWS,
        "--validation-size": 32,
        "--test-size": 32,
        "--max-length": 32,
        "--per-device-train-batch-size": 8,
        "--num-train-epochs": steps * 8 / REVIEWS,
        "--early-stopping-patience": 0,
        "--eval-steps": max(save_steps, 1),
        "--logging-steps": logging_steps,
        "--save-steps": save_steps,
        "--output-dir": home / "output",
        "--adapter-dir": home / "adapter",
        "--baselines": "none",
    }
    parts = [str(part) for flag in flags.items() for part in flag]
    return [sys.executable, "-m", "peft_sentiment.cli", "train", "--deterministic", *parts]


def watch(command: Sequence[str]) -> Iterator[Sample]:
    """Run a training, and yield what it holds at every line of progress."""
    with subprocess.Popen(  # noqa: S603
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, encoding="utf-8"
    ) as process:
        seen = psutil.Process(process.pid)
        for line in process.stdout or ():
            found = _STEP.match(line)
            if found and process.poll() is None:
                step = int(found[1].replace(",", ""))
                yield Sample(step, seen.memory_info().rss, seen.num_fds())
    if process.returncode:
        sys.exit(f"The training ended with {process.returncode}.")


def measure_growth(samples: Sequence[Sample], first_steps: int) -> tuple[int, int]:
    """Return by how many bytes memory, and by how many the open files, grow after the first steps.

    Both are the most that is held later less what is held then.
    """
    later = [sample for sample in samples if sample.step >= first_steps]
    memory = max(sample.memory for sample in later) - later[0].memory
    return memory, max(sample.files for sample in later) - later[0].files


def main() -> int:
    """Watch; 0 where neither grows."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--steps", type=int, default=20_000, help="of the training")
    parsed = parser.parse_args()
    samples = []
    with tempfile.TemporaryDirectory(prefix="long-run-") as home:
        for sample in watch(build_command(Path(home), parsed.steps, 250, 500)):
            samples.append(sample)
            if sample.step % 1000 == 0:
                print(f"step {sample.step:>7,}  {sample.memory / 1e6:7.1f} MB  "
                      f"{sample.files} open files", flush=True)  # fmt: skip
    memory, files = measure_growth(samples, FIRST_STEPS)
    print(f"after step {FIRST_STEPS:,}: {memory / 1e6:+.1f} MB at most, {files:+} open files")
    return 0 if memory < MOST_GROWTH and files <= 0 else 1


if __name__ == "__main__":
    sys.exit(main())
