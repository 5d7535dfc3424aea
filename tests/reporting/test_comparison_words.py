"""The comparison shows the records' numbers, and says no more than the interval does."""

import dataclasses

import pytest
from shown_run import BASE, IMPROVEMENT, PEFT, render

from peft_sentiment.reporting.comparison import show_comparison, show_confusion


def read_rows(text: str) -> dict[str, list[str]]:
    """Return the rows of the comparison's table: a name and six scores each."""
    lines = [line.split() for line in text.splitlines()]
    return {line[0]: line[1:] for line in lines if len(line) == 7 and line[6][-1].isdigit()}


def test_the_comparison_shows_every_score_and_the_improvement_with_its_sign() -> None:
    models = {"base": BASE, "tf-idf": PEFT, "peft": PEFT}
    text = render(show_comparison, models, IMPROVEMENT, 0.95)
    rows = read_rows(text)
    assert rows["Base"] == ["50.3", "34.5", "52.0", "50.1", "0.551", "0.694"]
    assert rows["PEFT"] == rows["tf-idf"] == ["88.2", "88.2", "88.2", "88.2", "0.946", "0.295"]
    assert rows["Improvement"] == ["+37.9", "+53.7", "+36.2", "+38.0", "+0.395", "-0.398"]
    assert list(rows) == ["Base", "tf-idf", "PEFT", "Improvement"]
    assert "+37.9 points, 95 % interval +33.5 to +42.0" in text
    assert "fixes 1,250 reviews and breaks 23" in text
    assert "p < 0.0001" in text


def test_a_missing_roc_auc_is_a_dash_and_has_no_difference() -> None:
    models = {"base": dataclasses.replace(BASE, roc_auc=None), "peft": PEFT}
    text = render(show_comparison, models, IMPROVEMENT, 0.95)
    rows = read_rows(text)
    assert rows["Base"][4] == rows["Improvement"][4] == "-"
    assert rows["PEFT"][4] == "0.946"


@pytest.mark.parametrize(
    ("interval", "verdict"),
    [
        ((0.01, 0.05), "more accurate than the base"),
        ((-0.05, -0.01), "less accurate than the base"),
        ((-0.02, 0.04), "do not show that PEFT is better or worse"),
        ((0.0, 0.04), "do not show that PEFT is better or worse"),
    ],
)
def test_the_verdict_is_the_intervals(interval: tuple[float, float], verdict: str) -> None:
    improvement = dataclasses.replace(IMPROVEMENT, accuracy_interval=interval)
    text = render(show_comparison, {"base": BASE, "peft": PEFT}, improvement, 0.9)
    assert verdict in " ".join(text.split())
    assert "90 % interval" in text


@pytest.mark.parametrize(
    ("p_value", "shown"),
    [(0.00009, "p < 0.0001"), (0.0001, "p = 0.0001"), (0.04991, "p = 0.0499"), (1.0, "p = 1)")],
)
def test_a_p_value_is_neither_zero_nor_a_tail_of_digits(p_value: float, shown: str) -> None:
    improvement = dataclasses.replace(IMPROVEMENT, p_value=p_value)
    text = render(show_comparison, {"base": BASE, "peft": PEFT}, improvement, 0.95)
    assert shown in text


def test_the_confusion_table_has_true_labels_in_rows() -> None:
    text = render(show_confusion, PEFT, ["negative", "positive"])
    rows = [line.split() for line in text.splitlines()]
    assert ["negative", "262", "38"] in rows
    assert ["positive", "33", "1,267"] in rows


def test_a_confusion_table_too_wide_for_a_terminal_is_named_instead() -> None:
    names = [f"label {i}" for i in range(30)]
    assert "table of the 30 labels" in render(show_confusion, PEFT, names)
