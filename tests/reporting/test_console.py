"""What is shown are the record's numbers and the user's words, harmless on any terminal."""

import dataclasses
import io
import re
from collections.abc import Callable, Iterator

import pytest
from rich.console import Console

from peft_sentiment.records import (
    DataRecord,
    Environment,
    Improvement,
    ParameterCounts,
    Scores,
    StepRecord,
    TrainingRecord,
    ValidationRecord,
)
from peft_sentiment.reporting import console as words

BASE = Scores(
    accuracy=0.5032,
    f1=0.3451,
    precision=0.5204,
    recall=0.5012,
    roc_auc=0.5513,
    log_loss=0.6937,
    accuracy_interval=(0.4634, 0.5431),
    reviews_per_second=2131.4,
    confusion=((20, 280), (18, 1282)),
)
PEFT = Scores(
    accuracy=0.8817,
    f1=0.8818,
    precision=0.8823,
    recall=0.8816,
    roc_auc=0.9461,
    log_loss=0.2954,
    accuracy_interval=(0.8533, 0.9051),
    reviews_per_second=87.44,
    confusion=((262, 38), (33, 1267)),
)
IMPROVEMENT = Improvement(0.3786, 0.5367, (0.3352, 0.4203), 1e-40, 1250, 23)
DATA = DataRecord(
    name="my/reviews.csv",
    sha256=None,
    train=3000,
    validation=500,
    test=600,
    duplicates_removed=96,
    label_names=("negative", "positive"),
    label_counts={"negative": 1492, "positive": 1508},
    max_length=256,
    truncation="head+tail",
    cut=1604,
)
ENVIRONMENT = Environment({"torch": "2"}, "cpu", "bfloat16", "measured", "fused", 2, None)
TRAINING = TrainingRecord(632.4, 9000, 14.23, 3012.4, 564, 0.2131, 376, True, ())
VALIDATION = ValidationRecord(188, 1.0, 0.8645, 0.8639, 0.3221, True, 4.2)
HOSTILE = "[bold]loved[/bold] \x1b[31mit\x9b2J\x07\n:smile: \u202e[/]\\"


def build_console(width: int = 80, encoding: str = "utf-8", is_terminal: bool = False) -> Console:
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding, newline="")
    return Console(
        file=file,
        width=width,
        force_terminal=is_terminal,
        force_interactive=is_terminal,
        color_system="truecolor" if is_terminal else None,
        _environ={},
    )


def read(console: Console) -> str:
    console.file.flush()
    file = console.file
    assert isinstance(file, io.TextIOWrapper)
    assert isinstance(file.buffer, io.BytesIO)
    return file.buffer.getvalue().decode(file.encoding)


def build_steps(first: int = 1, last: int = 40, steps: int = 40) -> list[StepRecord]:
    return [
        StepRecord(step, steps, step / 20, 0.7 - step / 100, 5.9e-4, 1.0, 16, 3000, seconds=2.0)
        for step in range(first, last + 1)
    ]


def show_everything(console: Console) -> None:
    words.show_heading(console, 1, "The foundation model")
    words.show_foundation(console, ENVIRONMENT, DATA, "packaged/distilbert", 1.234)
    words.show_parameters(console, ParameterCounts(147456, 147840, 295296, 22860000, 1.2917))
    with words.TrainingProgress(console, 20) as progress:
        for record in build_steps():
            progress.update(record)
        words.show_validation(console, VALIDATION)
    words.show_training(console, TRAINING)
    words.show_scores(console, "PEFT model", PEFT)
    words.show_comparison(console, {"base": BASE, "peft": PEFT}, IMPROVEMENT, 0.95)
    words.show_confusion(console, PEFT, ["negative", "positive"])
    words.show_demo_rows(console, [("A film to sleep to 😀.", "negative", 0.991, "positive", 0.51)])


def render(show: Callable[..., None], *arguments: object, width: int = 80) -> str:
    console = build_console(width)
    show(console, *arguments)
    return read(console)


def read_rows(text: str) -> dict[str, list[str]]:
    """Return the rows of the comparison's table: a name and six scores each."""
    lines = [line.split() for line in text.splitlines()]
    return {line[0]: line[1:] for line in lines if len(line) == 7 and line[6][-1].isdigit()}


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


def test_the_comparison_shows_every_score_and_the_improvement_with_its_sign() -> None:
    models = {"base": BASE, "tf-idf": PEFT, "peft": PEFT}
    text = render(words.show_comparison, models, IMPROVEMENT, 0.95)
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
    text = render(words.show_comparison, models, IMPROVEMENT, 0.95)
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
    text = render(words.show_comparison, {"base": BASE, "peft": PEFT}, improvement, 0.9)
    assert verdict in " ".join(text.split())
    assert "90 % interval" in text


@pytest.mark.parametrize(
    ("p_value", "shown"),
    [(0.00009, "p < 0.0001"), (0.0001, "p = 0.0001"), (0.04991, "p = 0.0499"), (1.0, "p = 1)")],
)
def test_a_p_value_is_neither_zero_nor_a_tail_of_digits(p_value: float, shown: str) -> None:
    improvement = dataclasses.replace(IMPROVEMENT, p_value=p_value)
    text = render(words.show_comparison, {"base": BASE, "peft": PEFT}, improvement, 0.95)
    assert shown in text


def test_the_confusion_table_has_true_labels_in_rows() -> None:
    text = render(words.show_confusion, PEFT, ["negative", "positive"])
    rows = [line.split() for line in text.splitlines()]
    assert ["negative", "262", "38"] in rows
    assert ["positive", "33", "1,267"] in rows


def test_a_confusion_table_too_wide_for_a_terminal_is_named_instead() -> None:
    names = [f"label {i}" for i in range(30)]
    assert "table of the 30 labels" in render(words.show_confusion, PEFT, names)


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
    words.show_confusion(console, PEFT, [HOSTILE, "positive"])
    words.show_scores(console, HOSTILE, PEFT)
    words.show_heading(console, 1, HOSTILE)
    models = {"base": BASE, HOSTILE: BASE, "peft": PEFT}
    words.show_comparison(console, models, IMPROVEMENT, 0.95)
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


def test_plain_progress_is_a_line_every_few_steps_and_one_for_the_last() -> None:
    console = build_console()
    with words.TrainingProgress(console, 15) as progress:
        for record in build_steps():
            progress.update(record)
    lines = read(console).splitlines()
    assert [line.split()[1] for line in lines] == ["15/40", "30/40", "40/40"]
    assert lines[1].startswith("step 30/40  epoch 1.50  loss 0.400  lr 0.00059  8.0 reviews/s")


def tick(seconds: float) -> Iterator[float]:
    """Yield the times of a clock that is looked at once a step."""
    now = 0.0
    while True:
        yield now
        now += seconds


def test_time_left_is_by_the_clock_and_the_rate_by_the_steps_own_time() -> None:
    console = build_console()
    clock = tick(30.0)
    # A step computes for 2 s, and validation takes the other 28 s.
    with words.TrainingProgress(console, 1, lambda: next(clock)) as progress:
        for record in build_steps():
            progress.update(record)
    lines = read(console).splitlines()
    assert all("8.0 reviews/s" in line for line in lines)
    assert lines[19].endswith("10 min left")
    assert lines[38].endswith("30 s left")
    assert lines[39].endswith("0 s left")


def test_a_resumed_run_judges_its_speed_by_its_own_steps() -> None:
    console = build_console()
    clock = tick(60.0)
    with words.TrainingProgress(console, 1, lambda: next(clock)) as progress:
        for record in build_steps(first=31):
            progress.update(record)
    assert read(console).splitlines()[0].endswith("8.0 reviews/s  9 min left")


def test_a_long_run_has_hours_left() -> None:
    console = build_console()
    clock = tick(600.0)
    with words.TrainingProgress(console, 1, lambda: next(clock)) as progress:
        progress.update(build_steps()[0])
    assert read(console).splitlines()[0].endswith("6 h 30 min left")


def test_a_terminal_gets_a_bar_that_other_lines_pass_and_that_leaves_nothing() -> None:
    console = build_console(is_terminal=True)
    with words.TrainingProgress(console, 1) as progress:
        for record in build_steps(last=20):
            progress.update(record)
        words.show_validation(console, VALIDATION)
    shown = read(console)
    assert "step 20/40" in shown
    assert "loss 0.500" in shown
    assert "8.0 reviews/s" in shown
    assert "best so far" in shown
    assert shown.endswith("\x1b[2K")  # the bar's own line is erased


def test_the_bar_is_gone_when_training_stops_half_way() -> None:
    console = build_console(is_terminal=True)

    def train() -> None:
        with words.TrainingProgress(console, 1) as progress:
            progress.update(build_steps()[0])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train()
    assert read(console).endswith("\x1b[2K")
