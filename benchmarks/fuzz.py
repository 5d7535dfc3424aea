"""Reads files that nobody meant to be read, and tells what ended neither well nor in our error.

    make fuzz ARGS="--cases 100000 --seed 1"

One case in twenty is a file of an adapter, whose loading takes a hundred times as long as reading a
file of reviews; the rest are files of reviews. What fails is kept, in its smallest form, in the
folder named by --keep; put into tests/corpus, the tests read it ever after.
"""

import argparse
import os
import secrets
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_ENDPOINT"] = "http://127.0.0.1:9"
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "critical")

import hypothesis
from fuzz_cases import (
    Case,
    UnexpectedEndError,
    build_adapters,
    draw_adapter_cases,
    draw_reader_cases,
    iterate_kept,
    try_case,
)
from hypothesis import HealthCheck, Phase, Verbosity
from hypothesis import strategies as st
from tiny_models import build_tiny_encoder
from tiny_reviews import build_tiny_reviews, write_reviews_csv
from tiny_runs import TinyRun

from peft_sentiment.cli import main as run_command

ROUND = 500
"""Cases that are drawn with one seed; after a failure, the next round goes on."""

ADAPTER_SHARE = 20
"""One round in so many is of adapters."""


def train_adapters(home: Path) -> dict[str, Path]:
    """Train tiny adapters, of which copies are changed."""
    base = build_tiny_encoder("distilbert", home / "base")
    reviews = write_reviews_csv(home / "reviews.csv", build_tiny_reviews())
    run = TinyRun(home / "run", base, reviews)
    with_companion = home / "run" / "with-companion"
    train = ["train", *run.arguments[1:]]
    if run_command(train) or run_command(
        [*train, "--companion", "tfidf", "--adapter-dir", str(with_companion)]
    ):
        sys.exit("The adapters could not be trained.")
    return build_adapters(run, home / "adapters", with_companion)


def fuzz(
    cases: int, seed: int, keep: Path, folder: Path, adapters: Mapping[str, Path]
) -> tuple[Counter[str], int]:
    """Try so many cases.

    Returns:
        How many of each kind ended how, and the number of failures.
    """
    counts: Counter[str] = Counter()
    failures = 0
    drawn = {"reader": draw_reader_cases(), "adapter": draw_adapter_cases(adapters)}
    start, number = time.monotonic(), 0
    while (done := sum(counts.values())) < cases:
        kind = "adapter" if number % ADAPTER_SHARE == 0 else "reader"
        found = try_round(drawn[kind], seed + number, min(ROUND, cases - done), counts, kind,
                          folder, adapters)  # fmt: skip
        if found is not None:
            failures += 1
            path = keep_case(found, keep, failures)
            print(f"Failure {failures}: {path}", flush=True)
        number += 1
        if number % ADAPTER_SHARE == 1:
            took = time.monotonic() - start
            print(f"{sum(counts.values()):,} cases in {took:,.0f} s, {failures} failures",
                  flush=True)  # fmt: skip
    return counts, failures


def try_round(
    drawn: st.SearchStrategy[Case],
    seed: int,
    cases: int,
    counts: Counter[str],
    kind: str,
    folder: Path,
    adapters: Mapping[str, Path],
) -> Case | None:
    """Try cases of one seed, and return the smallest that failed, if any."""
    failed: list[Case] = []

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=cases,
        database=None,
        deadline=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
        verbosity=Verbosity.quiet,
    )
    @hypothesis.given(drawn)
    def try_all(case: Case) -> None:
        # What kills the process is found here afterwards.
        (folder / "last").write_bytes(case.content)
        try:
            went_through = try_case(case, folder, adapters)
        except UnexpectedEndError:
            failed.append(case)
            counts[f"{kind}: failed"] += 1
            raise
        counts[f"{kind}: {'read' if went_through else 'refused'}"] += 1

    try:
        try_all()
    except (UnexpectedEndError, BaseExceptionGroup, hypothesis.errors.Flaky) as error:
        show(failed[-1], error)
        return failed[-1]
    return None


def show(case: Case, error: BaseException) -> None:
    """Show how each kind of failure of a round came about, in short."""
    print(f"{case.adapter or 'reader'}: {case.name}, {len(case.content):,} bytes")
    for one in error.exceptions if isinstance(error, BaseExceptionGroup) else [error]:
        cause = one.__cause__ or one
        places = traceback.extract_tb(cause.__traceback__)[-4:]
        where = " > ".join(f"{Path(place.filename).name}:{place.lineno}" for place in places)
        print(f"  {one}\n    at {where}")


def keep_case(case: Case, keep: Path, number: int) -> Path:
    """Write a case where it can be looked at."""
    place = keep / (f"{case.adapter or 'reader'}-{number}")
    place.mkdir(parents=True, exist_ok=True)
    (place / case.name).write_bytes(case.content)
    return place / case.name


def main() -> int:
    """Replay the kept cases, and try new ones; 0 where none fails."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--cases", type=int, default=2000, help="to try (default: 2000)")
    parser.add_argument("--seed", type=int, help="of the cases (default: a new one)")
    parser.add_argument("--keep", default="fuzz-failures", help="folder for what fails")
    parsed = parser.parse_args()
    seed = secrets.randbelow(2**32) if parsed.seed is None else parsed.seed
    with tempfile.TemporaryDirectory(prefix="fuzz-") as home:
        adapters = train_adapters(Path(home))
        folder = Path(home) / "cases"
        folder.mkdir()
        kept = list(iterate_kept())
        for case in kept:
            try_case(case, folder, adapters)
        counts, failures = fuzz(parsed.cases, seed, Path(parsed.keep), folder, adapters)
    for name, count in sorted(counts.items()):
        print(f"{count:>9,}  {name}")
    print(
        f"{len(kept)} kept and {sum(counts.values()):,} new cases, {failures} failures, seed {seed}"
    )
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
