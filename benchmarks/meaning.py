"""Meaning against word counts: saved adapters and TF-IDF on reviews that leave the beaten track.

    python benchmarks/meaning.py [ADAPTER ...] [--test-size 2000] [--write]

Every adapter (default: saved_peft_model) is scored on reviews of its own data that it has not
seen, on Rotten Tomatoes (another domain), and on tests/data/edited_pairs.jsonl: 200 reviews, each
with an edit that says the opposite, where a pair counts only if both are labelled rightly. Beside
it stands TF-IDF with logistic regression, fitted on the reviews that the adapter was trained on;
where the adapter has a companion, with it and without. --write puts the table between the marks in
docs/quality.md.
"""

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from peft_sentiment.cli import set_up_libraries

set_up_libraries()

import numpy as np  # noqa: E402 - the libraries are set up before they are loaded

from peft_sentiment import SentimentClassifier  # noqa: E402
from peft_sentiment.config import PACKAGED_ROTTEN_TOMATOES, DataSettings  # noqa: E402
from peft_sentiment.data.sources import load_reviews  # noqa: E402
from peft_sentiment.data.split import draw_unseen_reviews, split_reviews  # noqa: E402
from peft_sentiment.errors import DataError  # noqa: E402
from peft_sentiment.evaluation.metrics import compute_wilson_interval  # noqa: E402
from peft_sentiment.evaluation.tfidf import fit_tfidf  # noqa: E402
from peft_sentiment.records.reviews import Reviews  # noqa: E402
from peft_sentiment.saved_runs import Past, load_past  # noqa: E402

HERE = Path(__file__).parent
PAIRS = HERE.parent / "tests" / "data" / "edited_pairs.jsonl"
PAGE = HERE.parent / "docs" / "quality.md"
MARKS = (
    "<!-- made by benchmarks/meaning.py: begin -->",
    "<!-- made by benchmarks/meaning.py: end -->",
)
CONFIDENCE_LEVEL = 0.95

Predict = Callable[[Sequence[str]], Sequence[str]]
"""Texts -> their labels."""


@dataclass(frozen=True)
class Pairs:
    """Reviews and their edits, in the same order; labels are opposite."""

    originals: Reviews
    edits: Reviews


@dataclass(frozen=True)
class Row:
    """What one model gets right: (rightly labelled, scored) for each kind of review."""

    model: str
    own: tuple[int, int]
    other_domain: tuple[int, int]
    originals: tuple[int, int]
    edits: tuple[int, int]
    both: tuple[int, int]


def load_pairs(path: Path = PAIRS) -> Pairs:
    """Read the edited pairs."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    parts = (
        Reviews([row[f"{kind}_text"] for row in rows], [row[f"{kind}_label"] for row in rows])
        for kind in ("original", "edited")
    )
    return Pairs(*parts)


def score_row(model: str, predict: Predict, own: Reviews, other: Reviews, pairs: Pairs) -> Row:
    """Score one model on everything."""
    is_own, is_other, is_original, is_edit = (
        np.equal(predict(reviews.texts), reviews.labels)
        for reviews in (own, other, pairs.originals, pairs.edits)
    )

    def count(is_correct: np.ndarray) -> tuple[int, int]:
        return int(is_correct.sum()), len(is_correct)

    return Row(
        model,
        count(is_own),
        count(is_other),
        count(is_original),
        count(is_edit),
        count(is_original & is_edit),
    )


def list_models(folder: Path, train: Reviews) -> Mapping[str, Predict]:
    """Return what is to be scored for an adapter, by the name in the table."""
    classifier = SentimentClassifier.load(folder)
    tfidf = fit_tfidf(train, classifier.label_names)

    def predict_tfidf(texts: Sequence[str]) -> Sequence[str]:
        places = tfidf.predict_proba(texts).argmax(axis=1)
        return [classifier.label_names[place] for place in places]

    size = f"{len(train):,} reviews"
    alone = SentimentClassifier.load(folder, use_companion=False)
    models: dict[str, Predict] = {
        f"TF-IDF, {size}": predict_tfidf,
        f"adapter, {size}": alone.predict,
    }
    if classifier.companion_ is not None:
        models[f"adapter with its companion, {size}"] = classifier.predict
    return models


def require_past(folder: Path) -> Past:
    """Return what an adapter knows of its training.

    Raises:
        DataError: it knows nothing, or was trained on other labels.
    """
    past = load_past(folder)
    if past is None:
        raise DataError(f"{folder}: it does not say what it was trained on. Train it with `run`.")
    return past


def score_adapter(folder: Path, test_size: int, pairs: Pairs, other: Reviews) -> list[Row]:
    """Score an adapter and what stands beside it.

    Raises:
        DataError: it has been trained on a text of the pairs.
    """
    past = require_past(folder)
    source = load_reviews(past.settings.data)
    splits = split_reviews(source, past.settings.data, past.settings.training.seed)
    seen = {*splits.train.texts, *splits.validation.texts}
    unseen = [i for i, text in enumerate(pairs.originals.texts) if text not in seen]
    if len(unseen) < len(pairs.originals):
        print(f"{folder}: {len(pairs.originals) - len(unseen)} pairs left out; it has seen them")
    kept = Pairs(pairs.originals.take(unseen), pairs.edits.take(unseen))
    own = draw_unseen_reviews(source, past.settings, past.seen, test_size)
    models = list_models(folder, splits.train)
    return [score_row(name, predict, own, other, kept) for name, predict in models.items()]


def render_table(rows: Sequence[Row]) -> str:
    """Return the rows as a Markdown table."""
    kinds = {
        "unseen IMDB": "own",
        "Rotten Tomatoes": "other_domain",
        "reviews of the pairs": "originals",
        "their edits": "edits",
        "both of a pair": "both",
    }
    lines = [f"| | {' | '.join(kinds)} |", "|---" * (len(kinds) + 1) + "|"]
    lines += [
        f"| {row.model} | {' | '.join(describe(getattr(row, kind)) for kind in kinds.values())} |"
        for row in rows
    ]
    return "\n".join(lines)


def describe(counts: tuple[int, int]) -> str:
    """Return a share with its interval."""
    correct, n = counts
    low, high = compute_wilson_interval(correct, n, CONFIDENCE_LEVEL)
    return f"**{100 * correct / n:.1f} %** ({100 * low:.1f} to {100 * high:.1f})"


def write_page(table: str) -> None:
    """Put the table between the marks of the page."""
    text = PAGE.read_text(encoding="utf-8")
    before, rest = text.split(MARKS[0])
    after = rest.split(MARKS[1])[1]
    PAGE.write_text(f"{before}{MARKS[0]}\n{table}\n{MARKS[1]}{after}", encoding="utf-8")


def main() -> None:
    """Score the adapters asked for, and show the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("adapters", nargs="*", type=Path, default=[Path("saved_peft_model")])
    parser.add_argument(
        "--test-size", type=int, default=2000, help="unseen reviews of its own data"
    )
    parser.add_argument("--write", action="store_true", help="write docs/quality.md")
    options = parser.parse_args()
    pairs = load_pairs()
    other = load_reviews(DataSettings(dataset_name=PACKAGED_ROTTEN_TOMATOES)).train
    rows = [
        row
        for folder in options.adapters
        for row in score_adapter(folder, options.test_size, pairs, other)
    ]
    table = render_table(rows)
    print(table)
    if options.write:
        write_page(table)


if __name__ == "__main__":
    main()
