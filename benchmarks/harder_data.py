"""Write the files of docs/data.md: five unequal star ratings, and one label in twenty.

    pip download --no-deps --no-binary vaderSentiment vaderSentiment==3.3.2
    python benchmarks/harder_data.py vaderSentiment-3.3.2.tar.gz FOLDER

The ratings are those of 10,605 snippets of film reviews, each the mean of 15 or more people's on a
scale from -4 to 4 (C. J. Hutto and E. Gilbert, "VADER", ICWSM 2014; MIT licence), cut into five.
"""

import argparse
import csv
import io
import tarfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from peft_sentiment.config import DataSettings
from peft_sentiment.data.sources import load_reviews
from peft_sentiment.records.reviews import Reviews

INNER = "additional_resources/hutto_ICWSM_2014.tar.gz"
RATINGS = "movieReviewSnippets_GroundTruth.txt"
EDGES = (-2.0, -0.75, 0.75, 2.0)
"""Mean ratings that part one star from two, two from three, and so on."""

TIMES = 20
"""Reviews of the frequent label for one of the rare label."""


def read_stars(archive: Path) -> Iterator[tuple[str, str]]:
    """Yield each snippet with its stars, "1" to "5"."""
    with tarfile.open(archive) as outer:
        inner = next(member for member in outer.getmembers() if member.name.endswith(INNER))
        data = outer.extractfile(inner)
        if data is None:
            raise SystemExit(f"{archive}: {INNER} is no file")
        with tarfile.open(fileobj=io.BytesIO(data.read())) as folder:
            ratings = next(m for m in folder.getmembers() if Path(m.name).name == RATINGS)
            lines = folder.extractfile(ratings)
            for line in io.TextIOWrapper(lines, "utf-8"):  # type: ignore[arg-type]
                _, rating, text = line.rstrip("\n").split("\t")
                yield text, str(1 + int(np.searchsorted(EDGES, float(rating), side="right")))


def build_unequal(seed: int = 0) -> Iterator[tuple[str, str]]:
    """Yield the packaged positive reviews, and a twentieth of as many negative ones, mixed."""
    reviews = load_reviews(DataSettings()).train
    generator = np.random.default_rng(seed)
    by_label = {
        label: [i for i, name in enumerate(reviews.labels) if name == label]
        for label in ("negative", "positive")
    }
    rare = generator.permutation(by_label["negative"])[: len(by_label["positive"]) // TIMES]
    chosen: Reviews = reviews.take(generator.permutation([*by_label["positive"], *rare]))
    yield from zip(chosen.texts, chosen.labels, strict=True)


def write(path: Path, reviews: Iterator[tuple[str, str]]) -> None:
    """Write reviews as CSV, and print how many there are of each label."""
    rows = list(reviews)
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *rows])
    print(path, dict(sorted(Counter(label for _, label in rows).items())))


def main() -> None:
    """Write both files."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("archive", type=Path, help="vaderSentiment's source distribution")
    parser.add_argument("folder", type=Path, help="where to write stars.csv and unequal.csv")
    parsed = parser.parse_args()
    parsed.folder.mkdir(parents=True, exist_ok=True)
    write(parsed.folder / "stars.csv", read_stars(parsed.archive))
    write(parsed.folder / "unequal.csv", build_unequal())


if __name__ == "__main__":
    main()
