"""Whether explanations are true: the words that they name are taken out, and random ones.

Source: J. DeYoung and others, "ERASER: a benchmark to evaluate rationalized NLP models", ACL 2020
(comprehensiveness).

Shapes: N reviews.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from peft_sentiment.evaluation.temperature import rescale
from peft_sentiment.records import Predictions
from peft_sentiment.records.explanation import Explanation, Faithfulness, WordScore

REMOVED = 5
"""Words taken out of a review."""

Predict = Callable[[Sequence[str]], Predictions]


def measure_faithfulness(
    explanations: Sequence[Explanation],
    predict: Predict,
    rng: np.random.Generator,
    steps: int,
    removed: int = REMOVED,
) -> Faithfulness:
    """Compare what happens without the strongest words to what happens without random ones.

    Args:
        explanations: of N reviews.
        predict: scores texts with the same model.
        rng: draws the random words, from those that were read.
        steps: of the explanations, for the record.
        removed: words taken out of each review.
    """
    strongest = [remove_words(e.text, e.strongest[:removed]) for e in explanations]
    at_random = [remove_words(e.text, _draw_words(e, removed, rng)) for e in explanations]
    before = np.array([explanation.log_odds for explanation in explanations])
    names = [explanation.label for explanation in explanations]
    without_strongest, without_random = predict(strongest), predict(at_random)
    gaps = [explanation.gap for explanation in explanations]
    return Faithfulness(
        reviews=len(explanations),
        removed=removed,
        flipped_by_strongest=int(np.not_equal(without_strongest.labels, names).sum()),
        flipped_by_random=int(np.not_equal(without_random.labels, names).sum()),
        drop_by_strongest=float(np.mean(before - compute_log_odds(without_strongest, names))),
        drop_by_random=float(np.mean(before - compute_log_odds(without_random, names))),
        mean_gap=float(np.mean(gaps)),
        largest_gap=float(np.max(gaps)),
        steps=steps,
    )


def remove_words(text: str, words: Sequence[WordScore]) -> str:
    """Return a text without some of its words."""
    pieces, place = [], 0
    for word in sorted(words, key=lambda word: word.start):
        pieces.append(text[place : word.start])
        place = word.end
    return "".join([*pieces, text[place:]])


def compute_log_odds(predictions: Predictions, labels: Sequence[str]) -> NDArray[np.float64]:
    """Return (N,) log-odds of a label for each review, before the temperature."""
    smallest = float(np.finfo(np.float32).smallest_subnormal)
    plain = rescale(predictions, 1.0).probabilities.astype(np.float64)
    places = [predictions.label_names.index(label) for label in labels]
    chosen = plain[np.arange(len(plain)), places]
    others = plain.sum(axis=1) - chosen
    odds: NDArray[np.float64] = np.log(np.maximum(chosen, smallest) / np.maximum(others, smallest))
    return odds


def _draw_words(explanation: Explanation, number: int, rng: np.random.Generator) -> list[WordScore]:
    read = [word for word in explanation.words if word.score is not None]
    places = rng.permutation(len(read))[:number]
    return [read[place] for place in places]
