"""What the console says of passes that nobody has set."""

import io

from rich.console import Console

from peft_sentiment.config import TrainingSettings
from peft_sentiment.reporting.console import show_passes


def show(settings: TrainingSettings, reviews: int) -> str:
    console = Console(file=io.StringIO(), width=100)
    show_passes(console, settings, reviews)
    written = console.file
    assert isinstance(written, io.StringIO)
    return written.getvalue()


def test_chosen_passes_are_named_as_chosen_and_set_ones_are_not() -> None:
    assert "3 over 1,000 reviews, chosen" in show(
        TrainingSettings(num_train_epochs=0, reviews_to_pass=3000), 1000
    )
    assert show(TrainingSettings(num_train_epochs=1.5), 1000).strip().endswith("1,000 reviews")


def test_few_labels_are_told_what_there_is_for_them() -> None:
    assert "--preset few-labels" in show(TrainingSettings(), 500)
    assert "--preset" not in show(TrainingSettings(), 501)
    shown = show(TrainingSettings(contrastive_epochs=40, num_train_epochs=3), 100)
    assert "40 over pairs of them, then 3 over 100 reviews" in shown
    assert "--preset" not in shown
    shown = show(TrainingSettings(linear_probing=True, num_train_epochs=3), 300)
    assert "the head as a regression, then 3 over 300 reviews" in shown
    assert "--preset" not in shown
