"""What the console says of passes that nobody has set."""

import io

from rich.console import Console

from peft_sentiment.config import TrainingSettings
from peft_sentiment.reporting.console import show_learning_rate, show_passes


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


def show_rate(asked: float, method: str, suits: float, head: float = 0.0) -> str:
    file = io.StringIO()
    settings = TrainingSettings(learning_rate=asked)
    rate = asked or suits
    settled = TrainingSettings(learning_rate=rate, head_learning_rate=head)
    show_learning_rate(Console(file=file, width=100), settings, settled, method, suits)
    return file.getvalue()


def test_a_rate_that_the_method_has_chosen_is_shown() -> None:
    assert "0.002 at most, which suits lora" in show_rate(0.0, "lora", 2e-3)
    assert "0.01 at most, the head 0.002, which suits vera" in show_rate(0.0, "vera", 1e-2, 2e-3)


def test_a_rate_far_above_what_suits_is_told_and_another_is_not() -> None:
    assert "20 times the 0.0001 that suits full; --learning-rate 0" in show_rate(2e-3, "full", 1e-4)
    assert show_rate(2e-4, "full", 1e-4) == ""
    assert show_rate(1e-6, "lora", 2e-3) == ""
