"""What a finished run tells beyond its scores: where the model errs, and why it says what it says.

Kept beside results.json as errors.json and explanations.json, which other programs read.
"""

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console

from peft_sentiment.config import EvaluationSettings, Settings
from peft_sentiment.data.sources import load_reviews
from peft_sentiment.data.split import split_reviews
from peft_sentiment.errors import OutputError, PeftSentimentError
from peft_sentiment.evaluation.mistakes import analyse_errors
from peft_sentiment.evaluation.storage import PREDICTIONS_FOLDER
from peft_sentiment.files import write_text
from peft_sentiment.inference.classifier import SentimentClassifier
from peft_sentiment.records import Predictions, render_json
from peft_sentiment.records.explanation import Explanation, ExplanationsRecord
from peft_sentiment.records.mistakes import ErrorAnalysis
from peft_sentiment.records.reviews import Reviews, Splits
from peft_sentiment.reporting.mistakes import show_errors
from peft_sentiment.reporting.run_files import EXPLANATIONS_FILE, load_run
from peft_sentiment.reporting.terminal import say

ERRORS_FILE = "errors.json"


def store_insight(
    folder: Path,
    splits: Splits,
    predictions: Mapping[str, Predictions],
    classifier: SentimentClassifier,
    settings: EvaluationSettings,
) -> None:
    """Keep a run's error analysis and, where Captum is installed, a few explanations.

    Args:
        folder: of the run's results.
        splits: its reviews.
        predictions: of its models for the test reviews; base and peft among them.
        classifier: the trained one.
        settings: how sure intervals are, and how many reviews to explain.

    Raises:
        OutputError: nothing can be written there.
    """
    level, base = settings.confidence_level, predictions["base"]
    analysis = analyse_errors(splits.test, predictions["peft"], base, splits.train, level)
    write_text(folder / ERRORS_FILE, render_json(analysis))
    (folder / EXPLANATIONS_FILE).unlink(missing_ok=True)
    if settings.explanations and importlib.util.find_spec("captum"):
        store_explanations(folder, classifier, choose_instructive(analysis, settings.explanations))


def show_run_errors(folder: Path, console: Console) -> ErrorAnalysis:
    """Find out where a finished run's model errs, show it, and keep it beside the results.

    Raises:
        OutputError: the folder holds no finished run, or nothing can be written there.
    """
    run = load_run(folder)
    results, reviews = run.results, run.reviews
    if reviews is None or not {"base", "peft"} <= run.predictions.keys():
        raise OutputError(
            f"{folder / PREDICTIONS_FOLDER}: the predictions of base and PEFT are missing. Run "
            "again."
        )
    peft, base = run.predictions["peft"], run.predictions["base"]
    train = load_training_reviews(Settings().updated(results.settings, str(folder)), console)
    level = float(results.settings["evaluation"]["confidence_level"])
    analysis = analyse_errors(reviews, peft, base, train, level)
    path = folder / ERRORS_FILE
    if train is not None or not path.exists():  # else the one there has neighbours, and stays
        write_text(path, render_json(analysis))
    show_errors(console, analysis)
    console.print(f"Errors: {path}", markup=False, highlight=False)
    return analysis


def load_training_reviews(settings: Settings, console: Console) -> Reviews | None:
    """Return the reviews that a run was trained on, or None where they are not at hand any more."""
    if settings.data.streaming:
        say(console, "No nearest training reviews: they were streamed, and are not in memory.")
        return None
    try:
        return split_reviews(
            load_reviews(settings.data), settings.data, settings.training.seed
        ).train
    except PeftSentimentError as error:
        console.print(f"No nearest training reviews: {error}", markup=False, highlight=False)
        return None


def choose_instructive(analysis: ErrorAnalysis, number: int) -> list[str]:
    """Return the texts of so many reviews: confidently wrong, fixed and least sure in turn."""
    kinds = [analysis.confidently_wrong, analysis.fixed, analysis.least_sure]
    longest = max(map(len, kinds))
    in_turn = [kind[i].text for i in range(longest) for kind in kinds if i < len(kind)]
    return list(dict.fromkeys(in_turn))[:number]


def store_explanations(
    folder: Path, classifier: SentimentClassifier, texts: Sequence[str]
) -> list[Explanation]:
    """Explain reviews and keep that beside the results.

    Raises:
        SettingsError: Captum is not installed.
        OutputError: the file can't be written.
    """
    explanations = classifier.explain(texts)
    write_text(folder / EXPLANATIONS_FILE, render_json(ExplanationsRecord(tuple(explanations))))
    return explanations
