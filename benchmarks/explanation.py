"""Whether explanations are true: the words that they name are taken out, and random ones.

    python benchmarks/explanation.py [ADAPTER] [--reviews 200] [--output FILE]

Takes four to five seconds of processor time a review.
"""

import argparse
from pathlib import Path

import numpy as np

from peft_sentiment.evaluation.explanation import STEPS
from peft_sentiment.evaluation.faithfulness import measure_faithfulness
from peft_sentiment.inference.classifier import SentimentClassifier
from peft_sentiment.records import render_json
from peft_sentiment.saved_runs import choose_test_reviews, load_past

PART = 10
"""Reviews explained between two lines of progress."""


def main() -> None:
    """Explain reviews, take words out, and print what happens."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("adapter", nargs="?", default="saved_peft_model", type=Path)
    parser.add_argument("--reviews", type=int, default=200)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    classifier = SentimentClassifier.load(arguments.adapter)
    data = {"data": {"test_size": arguments.reviews}}
    past = load_past(arguments.adapter)
    texts = choose_test_reviews(past, data, classifier.label_names).texts
    explanations = []
    for start in range(0, len(texts), PART):
        explanations += classifier.explain(texts[start : start + PART])
        print(f"{len(explanations)} of {len(texts)} reviews", flush=True)
    rng = np.random.default_rng(0)
    record = measure_faithfulness(explanations, classifier.predict_reviews, rng, STEPS)
    print(render_json(record), end="")
    if arguments.output is not None:
        arguments.output.write_text(render_json(record), encoding="utf-8")


if __name__ == "__main__":
    main()
