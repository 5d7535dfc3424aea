"""Trains on a folder of Parquet files as a stream, and sets its memory against the model's own.

    python benchmarks/streaming.py --rows 2000000 --steps 60

Rows are sentences of the packaged reviews with a number before each, so that no two are the same.
The same model is trained for the same number of steps on 2,000 of the rows in memory, on the whole
folder as a stream, and on the folder once more, when texts and token ids are found on disk. Printed
are the peak memory of each process, the difference, and seconds. Any other argument goes to
`peft-sentiment run`.
"""

import argparse
import os
import random
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
from pyarrow import parquet

from peft_sentiment.config import DataSettings
from peft_sentiment.data.sources import load_reviews
from peft_sentiment.evaluation.storage import RESULTS_FILE
from peft_sentiment.records import Results, load_results

ROWS_IN_MEMORY = 2000
ROWS_A_FILE = 250_000
BATCH = 16
SHORTEST, LONGEST = 20, 60
"""Letters of a sentence that is used: short ones, as it is the number of rows that counts here."""

RUN = {
    "--validation-size": 200,
    "--test-size": 400,
    "--max-length": 64,
    "--per-device-train-batch-size": BATCH,
    "--save-minutes": 0,
    "--baselines": "none",
    "--explanations": 0,
    "--companion": "none",
    "--near-duplicates": "ignore",
}


def iterate_rows(count: int) -> Iterator[tuple[str, str]]:
    """Yield texts that are all unlike, and their labels."""
    reviews = load_reviews(DataSettings()).train
    sentences = [
        (sentence, label)
        for text, label in zip(reviews.texts, reviews.labels, strict=True)
        for sentence in re.split(r"(?<=[.!?])\s+", text)
        if SHORTEST <= len(sentence) <= LONGEST
    ]
    random.Random(0).shuffle(sentences)  # noqa: S311 - the packaged reviews are sorted by label
    for number in range(count):
        sentence, label = sentences[number % len(sentences)]
        yield f"{number}: {sentence}", label


def write_folder(folder: Path, count: int) -> int:
    """Write so many rows as Parquet files; return their bytes."""
    folder.mkdir()
    rows = iterate_rows(count)
    for start in range(0, count, ROWS_A_FILE):
        part = [next(rows) for _ in range(min(ROWS_A_FILE, count - start))]
        texts, labels = zip(*part, strict=True)
        path = folder / f"part-{start // ROWS_A_FILE:04d}.parquet"
        parquet.write_table(pa.table({"text": texts, "label": labels}), path)
    return sum(path.stat().st_size for path in folder.iterdir())


def train(name: str, folder: Path, rows: int, steps: int, flags: list[str]) -> Results:
    """Train in a process of its own for about so many steps, and print what it took."""
    settings = [str(part) for flag in RUN.items() for part in flag]
    places = ["--output-dir", str(folder / "output"), "--adapter-dir", str(folder / "adapter")]
    passes = ["--num-train-epochs", f"{steps * BATCH / rows:.9f}", "--overwrite-adapter-dir"]
    command = [sys.executable, "-m", "peft_sentiment.cli", "run"]
    subprocess.run(  # noqa: S603 - our own program
        [*command, *settings, *passes, *places, *flags],
        check=True,
        env=os.environ,
        stdout=subprocess.DEVNULL,
    )
    results = load_results(folder / "output" / RESULTS_FILE)
    print(
        f"{name}: {results.data.train:,} training rows, {results.training.steps} steps, "
        f"peak memory {results.peak_rss_bytes / 1e9:.2f} GB, {results.seconds:.0f} s",
        flush=True,
    )
    return results


def main() -> None:
    """Write the folder, train three times, and print the difference in memory."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--steps", type=int, default=60)
    parsed, more = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        size = write_folder(home / "rows", parsed.rows)
        write_folder(home / "few", ROWS_IN_MEMORY)
        print(f"{parsed.rows:,} rows in {size / 1e6:.0f} MB of Parquet", flush=True)
        few = next((home / "few").iterdir())
        streaming = ["--streaming", "--token-cache-dir", str(home / "cache")]
        whole = ["--train-file", str(home / "rows"), *streaming, *more]
        part = ["--train-file", str(few), "--train-size", "full", *more]
        alone = train("in memory", home, ROWS_IN_MEMORY - 600, parsed.steps, part)
        first = train("streamed", home, parsed.rows - 600, parsed.steps, whole)
        again = train("streamed again", home, parsed.rows - 600, parsed.steps, whole)
        cached = sum(path.stat().st_size for path in (home / "cache").rglob("*") if path.is_file())
    most = max(first.peak_rss_bytes, again.peak_rss_bytes)
    print(f"texts and token ids on disk: {cached / 1e9:.2f} GB")
    print(f"streaming takes {(most - alone.peak_rss_bytes) / 1e9:.2f} GB more than the model alone")


if __name__ == "__main__":
    main()
