"""What is shown are the record's numbers and the user's words, harmless on any terminal."""

import dataclasses
import re

import pytest
from rich.console import Console
from shown_run import (
    BASE,
    DATA,
    ENVIRONMENT,
    HOSTILE,
    IMPROVEMENT,
    PEFT,
    TRAINING,
    VALIDATION,
    build_console,
    build_steps,
    read,
    render,
)

from peft_sentiment.records import ParameterCounts
from peft_sentiment.reporting import console as words
from peft_sentiment.reporting.comparison import show_comparison, show_confusion
from peft_sentiment.reporting.progress import TrainingProgress


def show_everything(console: Console) -> None:
    words.show_heading(console, 1, "The foundation model")
    words.show_foundation(console, ENVIRONMENT, DATA, "packaged/distilbert", 1.234)
    words.show_parameters(console, ParameterCounts(147456, 147840, 295296, 22860000, 1.2917))
    with TrainingProgress(console, 20) as progress:
        for record in build_steps():
            progress.update(record)
        words.show_validation(console, VALIDATION)
    words.show_training(console, TRAINING)
    words.show_scores(console, "PEFT model", PEFT)
    show_comparison(console, {"base": BASE, "peft": PEFT}, IMPROVEMENT, 0.95)
    show_confusion(console, PEFT, ["negative", "positive"])
    words.show_demo_rows(console, [("A film to sleep to 😀.", "negative", 0.991, "positive", 0.51)])


def test_a_heading_says_which_part_of_how_many_it_is() -> None:
    assert "Part 2 of 4: Training" in render(words.show_heading, 2, "Training")


def test_the_foundation_shows_what_is_loaded_and_what_is_cut() -> None:
    text = render(words.show_foundation, ENVIRONMENT, DATA, "my-encoder", 1.25)
    for fact in (
        "my-encoder",
        "cpu, bfloat16",
        "my/reviews.csv",
        "96 duplicates",
        "3,000 training",
    ):
        assert fact in text
    assert "500 validation, 600 test" in text
    assert "negative 1,492, positive 1,508" in text
    assert "256 tokens; 1,604 longer reviews are cut in the middle" in text


@pytest.mark.parametrize(("truncation", "place"), [("head", "end"), ("tail", "beginning")])
def test_the_foundation_says_where_reviews_are_cut(truncation: str, place: str) -> None:
    data = dataclasses.replace(DATA, truncation=truncation)
    text = render(words.show_foundation, ENVIRONMENT, data, "my-encoder", 1.25)
    assert f"cut at the {place}" in text


def test_scores_are_one_line_with_the_interval() -> None:
    text = render(words.show_scores, "PEFT model", PEFT)
    assert text == ("PEFT model: accuracy 88.2 % (85.3 to 90.5), macro F1 88.2 %, 87.4 reviews/s\n")


def test_parameters_are_one_line() -> None:
    counts = ParameterCounts(147456, 147840, 295296, 22860000, 1.2917)
    assert render(words.show_parameters, counts) == (
        "Trainable 295,296 of 22,860,000 weights (1.29 %): adapter 147,456, head 147,840\n"
    )


def test_training_says_what_it_took_and_which_weights_were_kept() -> None:
    text = render(words.show_training, TRAINING)
    assert "564 steps in 10 min 32 s: 14.2 reviews/s, 3,012 tokens/s" in text
    assert "Final loss 0.213; stopped early; weights of step 376 kept" in text
    whole = dataclasses.replace(TRAINING, stopped_early=False)
    assert "stopped" not in render(words.show_training, whole)


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.04, "0.0 s"), (59.4, "59.4 s"), (60, "1 min 0 s"), (7512, "2 h 5 min")],
)
def test_durations_read_as_people_say_them(seconds: float, shown: str) -> None:
    record = dataclasses.replace(TRAINING, seconds=seconds)
    assert f"in {shown}:" in render(words.show_training, record)


def test_a_validation_is_one_line_and_says_when_it_is_the_best() -> None:
    line = "validation  step 188  accuracy 86.5 %  F1 86.4 %  log loss 0.322"
    assert render(words.show_validation, VALIDATION) == f"{line}  best so far\n"
    worse = dataclasses.replace(VALIDATION, is_best=False)
    assert render(words.show_validation, worse) == f"{line}\n"


def test_a_demo_row_is_one_line_with_both_models_words() -> None:
    rows = [("so much " * 50, "positive", 0.987, "negative", 0.512)]
    lines = render(words.show_demo_rows, rows).splitlines()
    (row,) = [line for line in lines if "so much" in line]
    assert "…" in row
    assert row.split()[-6:] == ["positive", "98.7", "%", "negative", "51.2", "%"]


@pytest.mark.parametrize("is_terminal", [False, True])
def test_words_from_outside_are_shown_as_they_are_and_do_nothing(is_terminal: bool) -> None:
    console = build_console(200, is_terminal=is_terminal)
    hostile_data = dataclasses.replace(DATA, name=HOSTILE, label_counts={HOSTILE: 1})
    words.show_demo_rows(console, [(HOSTILE, HOSTILE, 0.9, HOSTILE, 0.8)])
    words.show_foundation(console, ENVIRONMENT, hostile_data, HOSTILE, 1.0)
    show_confusion(console, PEFT, [HOSTILE, "positive"])
    words.show_scores(console, HOSTILE, PEFT)
    words.show_heading(console, 1, HOSTILE)
    models = {"base": BASE, HOSTILE: BASE, "peft": PEFT}
    show_comparison(console, models, IMPROVEMENT, 0.95)
    text = read(console)
    assert "\x1b[31mit" not in text
    assert not set("\x07\x9b\u202e") & set(text)
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
    assert "\x1b" not in plain
    # Once each in row, model, data, labels, title and heading; narrow cells fold it.
    assert plain.count("[bold]loved[/bold] [31mit 2J :smile: [/]\\") >= 6


def test_a_surrogate_in_a_review_does_not_break_the_output() -> None:
    text = render(words.show_demo_rows, [("half \ud83d pair", "positive", 0.9, "positive", 0.8)])
    assert "half ? pair" in text


@pytest.mark.parametrize("width", [80, 100])
def test_nothing_is_wider_than_the_console(width: int) -> None:
    console = build_console(width)
    show_everything(console)
    assert max(map(len, read(console).splitlines())) <= width


def test_without_a_terminal_the_output_has_no_control_sequences() -> None:
    console = build_console()
    show_everything(console)
    assert "\x1b" not in read(console)
    assert "\r" not in read(console)


def test_an_ascii_console_gets_ascii() -> None:
    console = build_console(encoding="ascii")
    show_everything(console)
    assert "A film to sleep to ?." in read(console)
