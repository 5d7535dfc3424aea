"""A demonstration in the terminal: a few reviews, then whatever a person types."""

from collections.abc import Callable, Sequence

from rich.console import Console

from peft_sentiment.errors import SettingsError
from peft_sentiment.evaluation.decisions import decide_labels
from peft_sentiment.inference.classifier import SentimentClassifier
from peft_sentiment.reporting.console import show_demo_rows
from peft_sentiment.reporting.explanation import show_explanations

SAMPLE_REVIEWS = (
    "A wonderful film: warm, funny and beautifully acted from the first scene to the last.",
    "Two hours of my life that I will never get back. The plot makes no sense at all.",
    "I expected to hate it, yet I left the cinema smiling and called my sister to tell her.",
    "The effects are splendid and the cast is famous, but not one minute of it is alive.",
    "Not bad at all for a first film, though the middle drags a little.",
)


EXPLAIN = ":explain"
"""What to type for the words that spoke for the last review's label."""


def show_samples(console: Console, classifier: SentimentClassifier) -> None:
    """Score the sample reviews with the adapter and, for comparison, without."""
    show_reviews(console, classifier, SAMPLE_REVIEWS)


def show_reviews(console: Console, classifier: SentimentClassifier, texts: Sequence[str]) -> None:
    """Score reviews with the adapter and, for comparison, with the untrained base."""
    tuned = classifier.predict_reviews(texts)
    base = classifier.predict_reviews_without_adapter(texts)
    rows = zip(
        texts,
        decide_labels(tuned, classifier.calibration_),
        tuned.probabilities.max(axis=1).tolist(),
        base.labels,
        base.probabilities.max(axis=1).tolist(),
        strict=True,
    )
    show_demo_rows(console, list(rows))


def ask_for_reviews(
    console: Console, classifier: SentimentClassifier, read_line: Callable[[str], str] = input
) -> None:
    """Score what is typed, a review a line, until an empty line, the end of input or Ctrl-C."""
    console.print(f"Type a review to try it; {EXPLAIN} says why; an empty line ends.")
    last = SAMPLE_REVIEWS[0]
    while True:
        try:
            text = read_line("> ").strip()
        except (EOFError, KeyboardInterrupt):
            console.print()
            return
        if not text:
            return
        if text == EXPLAIN:
            explain_review(console, classifier, last)
            continue
        show_reviews(console, classifier, [text])
        last = text


def explain_review(console: Console, classifier: SentimentClassifier, text: str) -> None:
    """Show which words spoke for a review's label, or what is missing to tell."""
    try:
        show_explanations(console, classifier.explain([text]))
    except SettingsError as error:
        console.print(str(error), markup=False, highlight=False)
