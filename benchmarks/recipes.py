"""Try a recipe on reviews that are kept for choosing recipes by.

    python benchmarks/recipes.py NAME [--train-size 3000] [--draws 3] [any setting of `run`]
    python benchmarks/recipes.py upper --layers-to-transform 3,4,5 --target-modules all-linear

Trains the default preset with the settings given, on draws of the packaged IMDB reviews, and scores
2,000 others that are neither drawn nor scored by quality.py. A line a draw is added to
benchmarks/recipes.jsonl; draws that a recipe of this name has been tried on are skipped.
"""

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

from quality import draw_reviews, load_domains

from peft_sentiment import SentimentClassifier
from peft_sentiment.commands.flags import add_setting_flags
from peft_sentiment.config import list_setting_fields, load_settings
from peft_sentiment.config.data import USUAL_SIZES
from peft_sentiment.evaluation.metrics import compute_scores
from peft_sentiment.records.reviews import Reviews

TRIALS = Path(__file__).parent / "recipes.jsonl"
CHOOSING = 2000
"""Reviews at the end of quality.py's pool; a difference of two points is beyond chance."""


def try_recipe(train: Reviews, choosing: Reviews, draw: int, overrides: Any) -> dict[str, Any]:  # noqa: ANN401 - section -> setting -> value
    """Train once and return the figures."""
    classifier = SentimentClassifier.from_settings(load_settings(overrides=overrides))
    classifier.set_params(seed=draw)
    classifier.build_base(sorted(set(train.labels)))
    tokens = classifier.tokenize(train)
    classifier.build_adapter(tokens)
    start = time.perf_counter()
    steps = len(list(classifier.iterate_fit(tokens, None)))
    seconds = time.perf_counter() - start
    scores = compute_scores(choosing.labels, classifier.predict_reviews(choosing.texts), 0.95)
    return {
        "draw": draw,
        "accuracy": round(scores.accuracy, 4),
        "log_loss": round(scores.log_loss, 4),
        "steps": steps,
        "seconds": round(seconds, 1),
    }


def main() -> None:
    """Try a recipe on the draws that are missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", help="of the recipe, in benchmarks/recipes.jsonl")
    parser.add_argument("--draws", type=int, default=3)
    parser.set_defaults(overrides={})
    add_setting_flags(parser, list_setting_fields())
    options = parser.parse_args()
    domains, asked = load_domains(), load_settings(overrides=options.overrides).data.train_size
    size = USUAL_SIZES["train"] if asked == "auto" else int(asked)
    pool = domains.pool.take(range(len(domains.pool) - CHOOSING))
    choosing = domains.pool.take(range(len(pool), len(domains.pool)))
    lines = TRIALS.read_text().splitlines() if TRIALS.exists() else []
    trials = [json.loads(line) for line in lines]
    known = {trial["draw"]: trial for trial in trials
             if (trial["name"], trial["train_size"]) == (options.name, size)}  # fmt: skip
    for draw in range(1, options.draws + 1):
        if draw not in known:
            figures = try_recipe(draw_reviews(pool, size, draw), choosing, draw, options.overrides)
            known[draw] = {"name": options.name, "train_size": size, **figures}
            with TRIALS.open("a") as file:
                file.write(json.dumps(known[draw] | {"settings": options.overrides}) + "\n")
        print(f"draw {draw}: {known[draw]['accuracy']:.1%}, log loss {known[draw]['log_loss']:.3f}")
    print(f"mean {statistics.mean(trial['accuracy'] for trial in known.values()):.2%}")


if __name__ == "__main__":
    main()
