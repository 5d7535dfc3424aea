"""Several and unequal labels, from a file to the scores of a run."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from tiny_reviews import FILLERS, TOPICS, write_reviews_csv
from tiny_runs import TinyRun

from peft_sentiment.cli import main
from peft_sentiment.records.reviews import Reviews

WORDS = {
    "1": ("awful", "terrible", "worst", "horrible"),
    "2": ("bad", "boring", "dull", "weak"),
    "3": ("old", "long", "same", "known"),
    "4": ("good", "fine", "fresh", "funny"),
    "5": ("superb", "brilliant", "perfect", "wonderful"),
}


def build_rated_reviews(counts: dict[str, int], seed: int = 0) -> Reviews:
    """Build unlike reviews whose stars can be told from their words."""
    generator = np.random.default_rng(seed)
    texts: dict[str, str] = {}
    for label, count in counts.items():
        while Counter(texts.values())[label] < count:
            words = generator.choice(WORDS[label], 3)
            topic, filler = generator.choice(TOPICS), generator.choice(FILLERS)
            text = f"The {topic} was {words[0]} and {words[1]}. {filler} So {words[2]}."
            texts.setdefault(text, label)
    order = generator.permutation(len(texts))
    reviews = Reviews(list(texts), list(texts.values()))
    return reviews.take(order)


def run(path: Path, base: Path, *flags: str) -> dict[str, Any]:
    """Run the pipeline on a file, and return its results."""
    tiny = TinyRun(path.parent, base, path)
    sizes = ["--train-size", "auto", "--validation-size", "auto", "--test-size", "auto"]
    training = [
        "--num-train-epochs",
        "8",
        "--learning-rate",
        "0.004",
        "--near-duplicates",
        "ignore",
        "--window-length",
        "0",
    ]
    assert main([*tiny.arguments, *sizes, *training, *flags]) == 0
    results: dict[str, Any] = json.loads((tiny.output / "results.json").read_text())
    return results


def test_five_stars_are_learned_and_reported_in_order(
    tiny_distilbert: Path, tmp_path: Path
) -> None:
    counts = {"1": 60, "2": 80, "3": 25, "4": 70, "5": 65}
    path = write_reviews_csv(tmp_path / "stars.csv", build_rated_reviews(counts))
    results = run(path, tiny_distilbert)
    data, scores = results["data"], results["models"]["peft"]
    assert data["label_names"] == ["1", "2", "3", "4", "5"]
    assert (data["train"], data["validation"], data["test"], data["is_small"]) == (
        240,
        30,
        30,
        True,
    )
    assert scores["f1"] > 0.8
    assert scores["roc_auc"] > 0.9
    assert np.array(scores["confusion"]).shape == (5, 5)


def test_one_label_in_twenty_is_in_every_part_and_can_be_learned(
    tiny_distilbert: Path, tmp_path: Path
) -> None:
    path = write_reviews_csv(tmp_path / "a.csv", build_rated_reviews({"1": 20, "5": 400}))
    results = run(path, tiny_distilbert, "--class-weights", "balanced")
    rare, frequent = np.array(results["models"]["peft"]["confusion"]).sum(axis=1)
    assert 2 <= rare <= 3
    assert rare + frequent == 42
    assert results["models"]["peft"]["f1"] > 0.9
