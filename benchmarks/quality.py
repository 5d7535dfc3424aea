"""How good each method is with few labels and with many: `make quality`.

    python benchmarks/quality.py [--methods preset,tfidf] [--sizes 100,3000] [--draws 3]

A cell is one method trained once on one draw of so many IMDB reviews, and scored on reviews that
no cell trains on, and on Rotten Tomatoes sentences, another domain. Cells that are already in
benchmarks/quality.jsonl are skipped, so the command can be stopped and run again. Writes the
tables between the marks in docs/quality.md. No cell has validation reviews: the labels of its
draw are all that it sees.
"""

import argparse
import functools
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from peft_sentiment.cli import set_up_libraries

set_up_libraries()

import numpy as np  # noqa: E402 - the libraries are set up before they are loaded
from sklearn.linear_model import LogisticRegression  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import StandardScaler  # noqa: E402

from peft_sentiment import SentimentClassifier  # noqa: E402
from peft_sentiment.config import PACKAGED_ROTTEN_TOMATOES, DataSettings, load_settings  # noqa: E402
from peft_sentiment.data.batching import tokenize_reviews  # noqa: E402
from peft_sentiment.data.sources import load_reviews  # noqa: E402
from peft_sentiment.evaluation.metrics import compute_wilson_interval  # noqa: E402
from peft_sentiment.evaluation.pooling import pool_reviews  # noqa: E402
from peft_sentiment.evaluation.probe import INVERSE_PENALTY  # noqa: E402
from peft_sentiment.evaluation.tfidf import fit_tfidf  # noqa: E402
from peft_sentiment.records.reviews import Reviews  # noqa: E402
from peft_sentiment.training.pseudo_labels import (  # noqa: E402
    add_pseudo_labels,
    choose_pseudo_labels,
    measure_shares,
)

HERE = Path(__file__).parent
CELLS = HERE / "quality.jsonl"
PAGE = HERE.parent / "docs" / "quality.md"
MARKS = ("<!-- made by make quality: begin -->", "<!-- made by make quality: end -->")

DRAWS = {100: 10, 300: 5, 1000: 3, 3000: 3, 20000: 1}
"""Training reviews of a cell -> draws of them. The fewer there are, the more a draw decides."""

TEST_REVIEWS = 4400
"""IMDB reviews that no cell trains on: all that 20,000 training reviews and 500 to validate on
leave of the packaged ones."""

OTHER_DOMAIN_REVIEWS = 3000
"""Rotten Tomatoes sentences; 8,530 would be known to within 0.9 points instead of 1.5."""

SCORED_ON_ALL = {("preset", 3000), ("tfidf", 3000)}
"""Methods and sizes of the cells that are also scored on every packaged IMDB review outside their
draw. Among these are reviews that recipes were chosen by."""

FEW_LABELS = 300
"""Up to so many, the preset for them is taken."""

MANY_DRAWS = 300
"""Up to so many labels, a cell is scored on a third of the reviews: there are many draws, and the
draws decide, not the reviews that are scored."""


@dataclass(frozen=True)
class Cell:
    """One method, trained once.

    Attributes:
        correct: IMDB reviews labelled rightly, of `reviews`.
        other_correct: Rotten Tomatoes sentences labelled rightly, of `other_reviews`.
        steps: optimizer steps of the training; 0 for methods without.
        seconds: of training; on a machine that does other things besides, a hint only.
        all_correct: IMDB reviews outside the draw that are labelled rightly, of `all_reviews`; None
            where no more than `reviews` are scored.
    """

    method: str
    train_size: int
    draw: int
    correct: int
    reviews: int
    other_correct: int
    other_reviews: int
    steps: int
    seconds: float
    all_correct: int | None = None
    all_reviews: int | None = None


@dataclass(frozen=True)
class Domains:
    """The reviews of all cells; `pool` is what they draw from."""

    pool: Reviews
    test: Reviews
    other: Reviews


Predict = Callable[[Sequence[str]], Sequence[str]]
"""Texts -> their labels."""


@functools.cache
def load_domains() -> Domains:
    """Divide the packaged reviews, the same way in every process."""
    imdb = load_reviews(DataSettings()).train
    other = load_reviews(DataSettings(dataset_name=PACKAGED_ROTTEN_TOMATOES)).train
    order = np.random.default_rng(0).permutation(len(imdb))
    other_order = np.random.default_rng(0).permutation(len(other))
    return Domains(
        pool=imdb.take(order[:-TEST_REVIEWS]),
        test=imdb.take(order[-TEST_REVIEWS:]),
        other=other.take(other_order[:OTHER_DOMAIN_REVIEWS]),
    )


def draw_reviews(pool: Reviews, size: int, draw: int) -> Reviews:
    """Return the training reviews of a cell, the same ones for every method."""
    return pool.take(_order_pool(pool, draw)[:size])


def find_remaining(pool: Reviews, train: Reviews, draw: int) -> Reviews:
    """Return the reviews of the pool that a cell does not train on, in no other copy either."""
    known, order = set(train.texts), _order_pool(pool, draw)
    return pool.take([place for place in order[len(train) :] if pool.texts[place] not in known])


def _order_pool(pool: Reviews, draw: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng([7, draw]).permutation(len(pool))


def train_preset(train: Reviews, draw: int) -> tuple[Predict, int]:
    """Train LoRA by the default preset, or biases by the one for few labels."""
    classifier, steps = _train_preset(train, draw, {}, choose_preset(len(train)))
    return lambda texts: classifier.predict(texts).tolist(), steps


def train_accurate(train: Reviews, draw: int) -> tuple[Predict, int]:
    """Train adapters in every linear layer, for longer."""
    classifier, steps = _train_preset(train, draw, {}, "accurate")
    return lambda texts: classifier.predict(texts).tolist(), steps


def train_self_taught(train: Reviews, draw: int) -> tuple[Predict, int]:
    """Train the same on reviews without labels besides, as --unlabelled does."""
    preset = choose_preset(len(train))
    teacher, steps = _train_preset(train, draw, {}, preset)
    settings, names = load_settings(), teacher.label_names
    known = set(train.texts)
    order = np.random.default_rng([8, draw]).permutation(len(load_domains().pool))
    others = (load_domains().pool.texts[place] for place in order)
    texts = [text for text in others if text not in known][: int(settings.data.unlabelled_size)]
    places, labels = choose_pseudo_labels(
        teacher.predict_proba(texts),
        measure_shares(train.labels, names),
        settings.training.pseudo_label_share,
    )
    chosen = [texts[place] for place in places]
    lessons = add_pseudo_labels(train, chosen, [names[label] for label in labels])
    pupil, more_steps = _train_preset(lessons, draw, {}, preset)
    return lambda texts: pupil.predict(texts).tolist(), steps + more_steps


def train_full(train: Reviews, draw: int) -> tuple[Predict, int]:
    """Train every weight, at a twentieth of LoRA's rate, and few reviews for longer."""
    changes = {"method": "full", "learning_rate": 1e-4, "reviews_to_pass": 6000}
    classifier, steps = _train_preset(train, draw, changes, "quickstart")
    return lambda texts: classifier.predict(texts).tolist(), steps


def choose_preset(labels: int) -> str:
    """Return the preset for so many labelled reviews."""
    return "few-labels" if labels <= FEW_LABELS else "quickstart"


def _train_preset(
    train: Reviews, draw: int, changes: dict[str, Any], preset: str
) -> tuple[SentimentClassifier, int]:
    """Train a preset with some settings changed."""
    classifier = SentimentClassifier.from_settings(load_settings(preset))
    classifier.set_params(seed=draw, **changes)
    classifier.build_base(sorted(set(train.labels)))
    tokens = classifier.tokenize(train)
    classifier.build_adapter(tokens)
    return classifier, len(list(classifier.iterate_fit(tokens, None)))


def train_tfidf(train: Reviews, _draw: int) -> tuple[Predict, int]:
    """Fit TF-IDF over words and word pairs, and logistic regression."""
    names = sorted(set(train.labels))
    model = fit_tfidf(train, names)
    return lambda texts: [names[i] for i in model.predict_proba(texts).argmax(1)], 0


def train_probe(train: Reviews, _draw: int) -> tuple[Predict, int]:
    """Fit logistic regression on the mean hidden states of the frozen encoder: a head alone."""
    states = load_frozen_states()
    regression = make_pipeline(
        StandardScaler(), LogisticRegression(C=INVERSE_PENALTY, max_iter=1000)
    ).fit(states.look_up(train.texts), train.labels)
    return lambda texts: regression.predict(states.look_up(texts)).tolist(), 0


@dataclass(frozen=True)
class FrozenStates:
    """What the frozen encoder says of texts, each computed once for all cells."""

    classifier: SentimentClassifier
    known: dict[str, np.ndarray[Any, Any]] = field(default_factory=dict)

    def look_up(self, texts: Sequence[str]) -> np.ndarray[Any, Any]:
        """Return (N, D) mean hidden states."""
        missing = [text for text in dict.fromkeys(texts) if text not in self.known]
        if missing:
            data, model = self.classifier.settings.data, self.classifier.encoder_
            tokens = tokenize_reviews(missing, model.tokenizer, data.max_length, data.truncation)
            means = pool_reviews(model.model, tokens, 0, 32, self.classifier.precision_)
            self.known.update(zip(missing, means, strict=True))
        return np.stack([self.known[text] for text in texts])


@functools.cache
def load_frozen_states() -> FrozenStates:
    """Load the encoder of the default preset."""
    classifier = SentimentClassifier.from_settings(load_settings())
    classifier.build_base(["negative", "positive"])
    return FrozenStates(classifier)


METHODS: dict[str, Callable[[Reviews, int], tuple[Predict, int]]] = {
    "preset": train_preset,
    "accurate": train_accurate,
    "self-taught": train_self_taught,
    "full": train_full,
    "probe": train_probe,
    "tfidf": train_tfidf,
}
TITLES = {
    "preset": "LoRA, default preset; with 100 and 300 labels biases, `few-labels`",
    "accurate": "LoRA, `--preset accurate`",
    "self-taught": "the first with 3,000 reviews without labels",
    "full": "full fine-tuning",
    "probe": "head only: logistic regression on the frozen encoder",
    "tfidf": "TF-IDF + logistic regression",
}


def run_cell(domains: Domains, method: str, size: int, draw: int) -> Cell:
    """Train a method on a draw and score it."""
    train = draw_reviews(domains.pool, size, draw)
    start = time.perf_counter()
    predict, steps = METHODS[method](train, draw)
    seconds = time.perf_counter() - start
    test, other = choose_scored(domains, size)
    correct, other_correct = (_count_correct(predict, reviews) for reviews in (test, other))
    all_correct = all_reviews = None
    if (method, size) in SCORED_ON_ALL:
        remaining = find_remaining(domains.pool, train, draw)
        all_correct = correct + _count_correct(predict, remaining)
        all_reviews = len(test) + len(remaining)
    return Cell(
        method, size, draw, correct, len(test), other_correct, len(other), steps,
        round(seconds, 1), all_correct, all_reviews,
    )  # fmt: skip


def choose_scored(domains: Domains, size: int) -> tuple[Reviews, Reviews]:
    """Return the reviews of both domains that the cells of a size are scored on."""
    if size > MANY_DRAWS:
        return domains.test, domains.other
    test, other = (range(len(reviews) // 3) for reviews in (domains.test, domains.other))
    return domains.test.take(test), domains.other.take(other)


def _count_correct(predict: Predict, reviews: Reviews) -> int:
    return sum(map(str.__eq__, predict(reviews.texts), reviews.labels))


def load_cells() -> list[Cell]:
    """Read the cells that have been run; of those that were run again, the last."""
    if not CELLS.is_file():
        return []
    cells = [Cell(**json.loads(line)) for line in CELLS.read_text().splitlines()]
    return list({(cell.method, cell.train_size, cell.draw): cell for cell in cells}.values())


def is_whole(cell: Cell) -> bool:
    """Tell whether a cell has been scored on all that it is to be scored on."""
    return cell.all_reviews is not None or (cell.method, cell.train_size) not in SCORED_ON_ALL


def run_cells(methods: Sequence[str], sizes: Sequence[int], most_draws: int | None) -> None:
    """Run the cells that are missing, and keep each as soon as it is done."""
    whole = filter(is_whole, load_cells())
    done = {(cell.method, cell.train_size, cell.draw) for cell in whole}
    domains = load_domains()
    for method in methods:
        for size in sizes:
            for draw in range(1, min(DRAWS[size], most_draws or DRAWS[size]) + 1):
                if (method, size, draw) in done:
                    continue
                cell = run_cell(domains, method, size, draw)
                with CELLS.open("a") as file:
                    file.write(json.dumps(asdict(cell)) + "\n")
                percent = 100 * cell.correct / cell.reviews
                print(f"  {method} {size:,} draw {draw}: {percent:.1f} %", file=sys.stderr)


def render_tables(cells: Sequence[Cell]) -> str:
    """Return both tables: the same kind of text, and the other domain."""
    same = _render_table(cells, lambda cell: (cell.correct, cell.reviews))
    other = _render_table(cells, lambda cell: (cell.other_correct, cell.other_reviews))
    return (
        f"### IMDB reviews that no cell trains on\n\n{same}\n\n"
        f"### Rotten Tomatoes sentences, trained on IMDB\n\n{other}\n\n"
        f"### All packaged IMDB reviews outside a cell's draw\n\n{_render_all(cells)}"
    )


def _render_all(cells: Sequence[Cell]) -> str:
    """Return the table of the cells that are scored on every review they do not train on."""
    lines = ["| labels | method | accuracy |", "|---|---|---|"]
    for method, size in sorted(SCORED_ON_ALL):
        counts = [
            (cell.all_correct, cell.all_reviews)
            for cell in cells
            if (cell.method, cell.train_size) == (method, size)
            and cell.all_correct is not None
            and cell.all_reviews is not None
        ]
        title = TITLES[method].partition(";")[0]  # What it is with fewer labels is not in here.
        lines.append(f"| {size:,} | {title} | {_render_entry(counts)} |")
    return "\n".join(lines)


def _render_table(cells: Sequence[Cell], count: Callable[[Cell], tuple[int, int]]) -> str:
    methods = list(METHODS)
    lines = ["| labels | " + " | ".join(TITLES[name] for name in methods) + " |"]
    lines.append("|---|" + "---|" * len(methods))
    for size in DRAWS:
        entries = [
            _render_entry([count(c) for c in cells if (c.method, c.train_size) == (name, size)])
            for name in methods
        ]
        lines.append(f"| {size:,} | " + " | ".join(entries) + " |")
    return "\n".join(lines)


def _render_entry(counts: Sequence[tuple[int, int]]) -> str:
    """Return mean, Wilson's interval of the mean over the scored reviews, and range of draws."""
    if not counts:
        return "not run"
    shares = [correct / total for correct, total in counts]
    mean, total = statistics.mean(shares), counts[0][1]
    low, high = compute_wilson_interval(round(mean * total), total, 0.95)
    text = f"**{mean:.1%}** ({low:.1%} to {high:.1%})".replace("%", " %")
    if len(shares) > 1:
        text += f"; {len(shares)} draws, {min(shares):.1%} to {max(shares):.1%}".replace("%", " %")
    return text


def write_page(cells: Sequence[Cell]) -> None:
    """Put the tables between the marks of the page."""
    text = PAGE.read_text(encoding="utf-8")
    before, rest = text.split(MARKS[0])
    after = rest.split(MARKS[1])[1]
    PAGE.write_text(f"{before}{MARKS[0]}\n{render_tables(cells)}\n{MARKS[1]}{after}", "utf-8")


def main() -> None:
    """Run what is missing and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--methods", default=",".join(METHODS), help="with commas between")
    parser.add_argument("--sizes", default=",".join(map(str, DRAWS)), help="with commas between")
    parser.add_argument("--draws", type=int, help="at most so many of each size")
    parser.add_argument("--only-page", action="store_true", help="write the page, run nothing")
    options = parser.parse_args()
    if not options.only_page:
        sizes = [int(size) for size in options.sizes.split(",")]
        run_cells(options.methods.split(","), sizes, options.draws)
    write_page(load_cells())


if __name__ == "__main__":
    main()
