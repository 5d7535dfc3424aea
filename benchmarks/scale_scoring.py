"""Scores many reviews on a local Ray whose workers and driver are killed, and checks the labels.

    python benchmarks/scale_scoring.py saved_peft_model --rows 100000

The packaged reviews and sentences, in turn, are repeated with keys of their own. A worker is killed
twice, then the driver once, and the same command goes on. Checked are: every key once, the labels
of offline scoring, and that no part that was finished has been written again. Printed are the rate
and the workers' memory.
"""

import argparse
import itertools
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pyarrow as pa
from pyarrow import parquet

from peft_sentiment.config import PACKAGED_ROTTEN_TOMATOES, DataSettings
from peft_sentiment.data.sources import load_reviews
from peft_sentiment.evaluation.decisions import decide_labels
from peft_sentiment.inference.loading import load_labeller

FILES = 4
ACTOR = "ray::Map"


def write_reviews(folder: Path, rows: int, distinct: int) -> list[str]:
    """Write so many keyed rows of so many texts into Parquet files; return the texts."""
    sources = (DataSettings(), DataSettings(dataset_name=PACKAGED_ROTTEN_TOMATOES))
    parts = [load_reviews(source).train.texts[: distinct // 2] for source in sources]
    texts = list(itertools.chain.from_iterable(zip(*parts, strict=True)))
    endless = itertools.cycle(texts)
    for number in range(FILES):
        keys = range(number * rows // FILES, (number + 1) * rows // FILES)
        table = pa.table({"id": list(keys), "text": [next(endless) for _ in keys]})
        parquet.write_table(table, folder / f"reviews-{number}.parquet", row_group_size=5000)
    return texts


def start(adapter: Path, source: Path, output: Path, workers: int) -> "subprocess.Popen[bytes]":
    """Start the command."""
    flags = {"--adapter": adapter, "--file": source, "--output": output, "--workers": workers}
    command = [sys.executable, "-m", "peft_sentiment.cli", "predict", "--engine", "ray"]
    flat = [str(part) for flag in flags.items() for part in flag]
    return subprocess.Popen(  # noqa: S603 - our own program
        [*command, *flat, "--key-column", "id", "--rows-per-part", "500"]
    )


def list_actors(driver: int) -> list[psutil.Process]:
    """Return the workers of a driver that hold a model."""
    found = []
    for process in psutil.Process(driver).children(recursive=True):
        try:
            if process.name().startswith(ACTOR) or process.cmdline()[0].startswith(ACTOR):
                found.append(process)
        except (psutil.Error, IndexError):
            continue
    return found


def list_parts(output: Path) -> dict[str, int]:
    """Return the finished parts, each with the time of its writing."""
    return {path.name: path.stat().st_mtime_ns for path in output.glob("part-*.parquet")}


def wait_for_parts(driver: "subprocess.Popen[bytes]", output: Path, wanted: int) -> Iterator[int]:
    """Wait until so many parts are finished; yield the memory of the largest worker meanwhile."""
    while driver.poll() is None and len(list_parts(output)) < wanted:
        time.sleep(0.5)
        sizes = [actor.memory_info().rss for actor in list_actors(driver.pid) if actor.is_running()]
        yield max(sizes, default=0)


def check(output: Path, rows: int, texts: list[str], adapter: Path) -> None:
    """Stop with a message where a key is missing or twice, or a label is another one."""
    table = parquet.read_table(sorted(output.glob("part-*.parquet"))).to_pydict()
    if sorted(map(int, table["key"])) != list(range(rows)):
        sys.exit("some keys are missing or there twice")
    labeller = load_labeller(adapter, {})
    expected = decide_labels(labeller.predict_reviews(texts), labeller.calibration_)
    pairs = zip(table["key"], table["label"], strict=True)
    wrong = sum(expected[int(key) % len(texts)] != label for key, label in pairs)
    print(f"{rows:,} keys, each once; {wrong} labels differ from those of offline scoring")
    if wrong:
        sys.exit(1)


def disturb(folder: Path, adapter: Path, rows: int, workers: int) -> None:
    """Score with two workers and the driver killed on the way, and print what came of it."""
    source, output = folder / "reviews", folder / "labels"
    parts, begun = -(-rows // FILES // 500) * FILES, time.perf_counter()
    driver = start(adapter, source, output, workers)
    early = list(wait_for_parts(driver, output, parts // 5))
    for share in (2, 3):
        os.kill(list_actors(driver.pid)[0].pid, signal.SIGKILL)
        print(f"a worker is killed after {len(list_parts(output))} of {parts} parts", flush=True)
        early += wait_for_parts(driver, output, share * parts // 5)
    driver.kill()
    driver.wait()
    time.sleep(5)  # A part that a worker was about to store may still come.
    before = list_parts(output)
    print(f"the driver is killed after {len(before)} of {parts} parts", flush=True)
    driver = start(adapter, source, output, workers)
    late = list(wait_for_parts(driver, output, parts))
    if driver.wait() != 0:
        sys.exit("the command failed")
    again = [name for name, written in before.items() if list_parts(output)[name] != written]
    print(f"{len(again)} finished parts were written again")
    print(f"{rows / (time.perf_counter() - begun):.0f} reviews/s, all starts and losses included")
    third = max(1, len(late) // 3)
    before_gb, first_gb, last_gb = (max(p) / 1e9 for p in (early, late[:third], late[-third:]))
    print(
        f"memory of the largest worker: {before_gb:.2f} GB before the driver was killed, "
        f"{first_gb:.2f} GB in the first and {last_gb:.2f} GB in the last third after"
    )


def main() -> None:
    """Run it once."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("adapter", type=Path)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--distinct", type=int, default=5000, help="texts that are repeated")
    parser.add_argument("--workers", type=int, default=2)
    parsed = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "reviews").mkdir()
        texts = write_reviews(Path(name) / "reviews", parsed.rows, parsed.distinct)
        disturb(Path(name), parsed.adapter, parsed.rows, parsed.workers)
        check(Path(name) / "labels", parsed.rows, texts, parsed.adapter)


if __name__ == "__main__":
    main()
