"""What a run shows in the terminal: words made from its records."""

from collections import Counter
from collections.abc import Sequence
from typing import Literal

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from peft_sentiment.config import TrainingSettings
from peft_sentiment.data.labels import find_spellings
from peft_sentiment.processes import Processes
from peft_sentiment.records import (
    DataRecord,
    Environment,
    ParameterCounts,
    Predictions,
    Scores,
    TrainingRecord,
    ValidationRecord,
)
from peft_sentiment.reporting.numbers import as_count, as_duration, as_percent, as_points, as_rate
from peft_sentiment.reporting.terminal import clean, say, say_line

PARTS = 4

FEW_LABELS = 500
"""Training reviews up to which the preset for few is worth a try: between 300 and 1,000, with which
it was compared (docs/experiments.md, 2026-11-27)."""

MUCH_HIGHER = 4.0
"""Times the rate that suits a method from which on the user is told."""

DemoRow = tuple[str, str, float, str, float]
"""Review, label and confidence of the PEFT model, label and confidence of the base model."""

_TRUNCATIONS = {
    "head": "cut at the end",
    "tail": "cut at the beginning",
    "head+tail": "cut in the middle",
}


def show_heading(console: Console, number: int, title: str) -> None:
    """Show where the run has got to, such as "Part 1 of 4: The foundation model"."""
    console.print()
    heading = f"Part {number} of {PARTS}: {clean(console, title)}"
    console.rule(Text(heading, "bold"), align="left")


def show_foundation(
    console: Console, environment: Environment, data: DataRecord, model_name: str, seconds: float
) -> None:
    """Show what is loaded: the encoder, where it computes, and the reviews.

    Args:
        console: where to write.
        environment: what the run computes with.
        data: the reviews.
        model_name: the encoder, as it was asked for.
        seconds: wall time of loading both.
    """
    labels = ", ".join(f"{name} {as_count(count)}" for name, count in data.label_counts.items())
    facts = {
        "Model": f"{model_name}; ready after {as_duration(seconds)}",
        "Device": f"{environment.device}, {environment.dtype}, attention {environment.attention}, "
        f"{environment.threads} threads",
        "Data": f"{data.name}; {as_count(data.duplicates_removed)} duplicates removed",
        "Reviews": f"{as_count(data.train)} training, {as_count(data.validation)} validation, "
        f"{as_count(data.test)} test{_describe_sizes(data)}",
        "Labels": f"{labels} in training",
        "Length": f"{as_count(data.max_length)} tokens; {as_count(data.cut)} longer reviews are "
        f"{_TRUNCATIONS.get(data.truncation, data.truncation)}{_describe_windows(data)}",
    }
    grid = Table.grid(padding=(0, 2))
    for name, fact in facts.items():
        grid.add_row(Text(name, "bold"), Text(clean(console, fact)))
    console.print(grid)
    for label, usual in find_spellings(data.label_counts).items():
        words = f"Label {label} seems to be {usual}, written differently, and is trained as another"
        say(console, f"{words} one. Where they mean the same, write them alike.")


def _describe_windows(data: DataRecord) -> str:
    if not 0 < data.window_length < data.max_length:
        return ""
    return f"; scored in windows of at most {as_count(data.window_length)}"


def _describe_sizes(data: DataRecord) -> str:
    words = ""
    if data.is_small:
        words += "; there are too few for the usual sizes, so a tenth each validates and tests"
    if data.near_duplicates:
        count = as_count(data.near_duplicates)
        words += f"; {count} nearly the same as in another part (--near-duplicates)"
    return words


def show_scores(console: Console, title: str, scores: Scores) -> None:
    """Show a model's accuracy with its interval, its macro F1 and its speed on one line."""
    low, high = scores.accuracy_interval
    key_figure = f"{clean(console, title)}: accuracy {as_percent(scores.accuracy)}"
    others = (
        f" ({as_points(low)} to {as_points(high)}), macro F1 {as_percent(scores.f1)}, "
        f"{as_rate(scores.reviews_per_second)} reviews/s"
    )
    console.print(Text.assemble((key_figure, "bold"), others))


def show_passes(console: Console, settings: TrainingSettings, reviews: int) -> None:
    """Show what the number of training reviews has decided: the passes over them.

    Where they are few, say what may serve better.
    """
    passes, pairs = settings.choose_epochs(reviews), settings.contrastive_epochs
    origin = "" if settings.num_train_epochs else ", chosen by their number"
    before = f"{pairs:g} over pairs of them, then " if pairs else ""
    if settings.linear_probing and not pairs:
        before = "the head as a regression, then "
    say(console, f"Passes   {before}{passes:g} over {as_count(reviews)} reviews{origin}")
    if reviews <= FEW_LABELS and not (pairs or settings.linear_probing):
        say(console, "For so few labels there is --preset few-labels, and --unlabelled FILE")


def show_learning_rate(
    console: Console, asked: TrainingSettings, settled: TrainingSettings, method: str, suits: float
) -> None:
    """Show the rate that the method has decided, or that the one asked for is far above it.

    Args:
        console: where to write.
        asked: the settings as they were given.
        settled: with the rates that the training has.
        method: what is trained.
        suits: the rate that suits it.
    """
    rate = settled.learning_rate
    if not asked.learning_rate:
        own = settled.head_learning_rate
        head = f", the head {own:g}" if own and own != rate and method != "head" else ""
        say(console, f"Rate     {rate:g} at most{head}, which suits {method}")
    elif rate > MUCH_HIGHER * suits:
        times = f"{rate / suits:.0f} times the {suits:g} that suits {method}"
        say(console, f"Rate     {rate:g}, {times}; --learning-rate 0 takes that")


def show_processes(
    console: Console, processes: Processes, began_with: int, settings: TrainingSettings
) -> None:
    """Show how many processes train together, if there are several or have been."""
    reviews = settings.per_device_train_batch_size * settings.gradient_accumulation_steps
    if processes.count > 1 or began_with > 1:
        origin = "" if processes.count == began_with else f", as it began with {began_with}"
        say(console, f"Processes {processes.count}, {reviews * began_with} reviews a step{origin}")
    if processes.sharding:
        say(console, f"{processes.sharding:8} frozen weights are divided among the processes")


def show_cache(console: Console, size: int) -> None:
    """Show how many bytes of frozen lower layers' output will be kept on disk, if any."""
    if size:
        console.print(
            f"Lower layers are run once; {size / 1e9:.2f} GB of disk keep what they say",
            markup=False,
            highlight=False,
        )


def show_parameters(console: Console, counts: ParameterCounts) -> None:
    """Show how many weights are trained, on one line."""
    say(
        console,
        f"Trainable {as_count(counts.trainable)} of {as_count(counts.total)} weights "
        f"({counts.trainable_percent:.3g} %): adapter {as_count(counts.adapter)}, "
        f"head {as_count(counts.head)}",
    )


def show_pseudo_labels(console: Console, read: int, labels: Sequence[str]) -> None:
    """Show how many unlabelled reviews were read, and how many have got which label."""
    counts = ", ".join(f"{name} {as_count(count)}" for name, count in Counter(labels).items())
    say(
        console,
        f"Self-training: of {as_count(read)} reviews without labels, {as_count(len(labels))} are "
        f"learned from with the label that the classifier above is surest of ({counts})",
    )


def show_training(console: Console, record: TrainingRecord) -> None:
    """Show a finished training run: what it took and where it ended."""
    say(
        console,
        f"Trained {as_count(record.steps)} steps in {as_duration(record.seconds)}: "
        f"{as_rate(record.reviews_per_second)} reviews/s, "
        f"{as_rate(record.tokens_per_second)} tokens/s",
    )
    end = "stopped early; " if record.stopped_early else ""
    say(
        console,
        f"Final loss {record.final_loss:.3f}; {end}"
        f"weights of step {as_count(record.best_step)} kept",
    )


def show_validation(console: Console, record: ValidationRecord) -> None:
    """Show the scores on the validation reviews, on one line."""
    line = (
        f"validation  step {record.step}  accuracy {as_percent(record.accuracy)}  "
        f"F1 {as_percent(record.f1)}  log loss {record.log_loss:.3f}"
    )
    say_line(console, f"{line}  best so far" if record.is_best else line)


def show_predictions(
    console: Console, texts: Sequence[str], labels: Sequence[str], predictions: Predictions
) -> None:
    """Show a line per text: its label, how sure that is, and the text; whole, where it is piped.

    Args:
        console: where to write.
        texts: N texts.
        labels: (N,), what to call each; the most probable label, or that it is undecided.
        predictions: what the model says of them.
    """
    width = max(map(len, [*predictions.label_names, *labels]))
    for text, label, row in zip(texts, labels, predictions.probabilities, strict=True):
        label = clean(console, label).ljust(width)
        line = Text(f"{label}  {row.max():.3f}  {clean(console, text)}")
        if console.is_terminal:
            console.print(line, no_wrap=True, overflow="ellipsis")
        else:
            console.print(line, soft_wrap=True)


def show_demo_rows(console: Console, rows: Sequence[DemoRow]) -> None:
    """Show reviews, each on one line, with what the PEFT and the base model say of them."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, expand=True)
    overflow: Literal["crop", "ellipsis"] = "crop" if console.options.ascii_only else "ellipsis"
    table.add_column("Review", no_wrap=True, overflow=overflow, ratio=1)
    table.add_column("PEFT", overflow="fold", max_width=24)
    table.add_column("Base", overflow="fold", max_width=24)
    for text, label, confidence, base_label, base_confidence in rows:
        table.add_row(
            Text(clean(console, text)),
            Text(f"{clean(console, label)} {as_percent(confidence)}", "bold"),
            Text(
                f"{clean(console, base_label)} {as_percent(base_confidence)}",
                "dim" if base_label == label else "yellow",
            ),
        )
    console.print(table)
