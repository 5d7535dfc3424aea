"""A pair's sentence never lets "no difference shown" pass for "equal"."""

import dataclasses
import io

from rich.console import Console

from peft_sentiment.records import PairComparison
from peft_sentiment.reporting.pairs import describe_pairs, show_pairs

SURE = PairComparison("base", "peft", 0.38, (0.33, 0.42), 1e-40, 3e-40, 250, 23, 0.071)
UNSURE = PairComparison("tfidf", "peft", 0.012, (-0.015, 0.038), 0.42, 0.42, 37, 30, 0.0384)


def show(*pairs: PairComparison) -> str:
    console = Console(file=io.StringIO(), width=200)
    show_pairs(console, pairs, 0.95)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_difference_that_is_not_shown_is_not_called_equality() -> None:
    text = " ".join(describe_pairs([UNSURE], 0.95))
    assert "PEFT against TF-IDF: no difference is shown, which is not to say they are equal" in text
    assert "a true difference of 3.8 points would be found four times in five" in text


def test_a_difference_that_stands_needs_no_excuse() -> None:
    assert "no difference" not in " ".join(describe_pairs([SURE], 0.95))


def test_a_p_value_is_held_against_the_level_only_after_its_correction() -> None:
    lost = dataclasses.replace(UNSURE, p_value=0.03, adjusted_p_value=0.09)
    assert "no difference is shown" in " ".join(describe_pairs([SURE, lost], 0.95))


def test_baselines_among_themselves_need_no_sentence() -> None:
    others = dataclasses.replace(UNSURE, first="majority", second="base")
    text = " ".join(describe_pairs([UNSURE, others], 0.95))
    assert "PEFT against TF-IDF: no difference" in text
    assert "against Majority" not in text
    assert "no difference is shown" in " ".join(describe_pairs([others], 0.95))


def test_too_few_reviews_are_said_to_be_too_few() -> None:
    few = dataclasses.replace(UNSURE, detectable=None)
    assert "too few test reviews" in " ".join(describe_pairs([few], 0.95))


def test_several_pairs_are_a_table_with_corrected_p_values() -> None:
    text = show(SURE, UNSURE)
    lines = [" ".join(line.split()) for line in text.splitlines()]
    rows = [line for line in lines if " against " in line and ":" not in line]
    assert rows == [
        "PEFT against Base +38.0 +33.0 to +42.0 250 23 < 0.0001",
        "PEFT against TF-IDF +1.2 -1.5 to +3.8 37 30 0.42",
    ]
    assert "corrected by Holm for 2 pairs" in text
    assert "at most 5 %" in text


def test_a_single_pair_has_no_table() -> None:
    assert "p (Holm)" not in show(SURE)


def test_names_are_shown_as_they_are() -> None:
    pair = dataclasses.replace(SURE, first="[bold]a[/bold]\x1b[31m")
    assert "[bold]a[/bold] [31m" in show(pair, UNSURE)
