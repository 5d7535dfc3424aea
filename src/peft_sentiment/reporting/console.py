"""Words for the terminal, made from records.

Everything that comes from outside (reviews, label names, paths) goes through `clean` and into
`Text`, so that neither Rich's markup nor a terminal's control sequences in it take effect.
"""

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Literal, Self

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from peft_sentiment.config import TrainingSettings
from peft_sentiment.records import (
    DataRecord,
    Environment,
    Improvement,
    ParameterCounts,
    Predictions,
    Scores,
    StepRecord,
    TrainingRecord,
    ValidationRecord,
)
from peft_sentiment.reporting.numbers import (
    as_count,
    as_duration,
    as_p_value,
    as_percent,
    as_points,
    as_rate,
    as_rough_duration,
    as_signed_points,
)

PARTS = 4
WIDEST_CONFUSION = 8
"""Labels up to which a confusion table is readable in a terminal."""

TITLES = {
    "base": "Base",
    "majority": "Majority",
    "tfidf": "TF-IDF",
    "probe": "Probe",
    "full": "Full",
    "adapter": "Adapter",
    "peft": "PEFT",
}
"""Name in results.json -> as it is shown."""

COMPANION_NOTE = (
    "PEFT is the adapter with its companion: word counts (TF-IDF), weighed against it on the "
    "validation reviews. Adapter is without it."
)

DemoRow = tuple[str, str, float, str, float]
"""Review, label and confidence of the PEFT model, label and confidence of the base model."""

# Control characters (ESC among them), line separators, and those that turn the writing direction.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]+")

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
        "Device": f"{environment.device}, {environment.dtype}, {environment.attention} attention, "
        f"{environment.threads} threads",
        "Data": f"{data.name}; {as_count(data.duplicates_removed)} duplicates removed",
        "Reviews": f"{as_count(data.train)} training, {as_count(data.validation)} validation, "
        f"{as_count(data.test)} test{_describe_sizes(data)}",
        "Labels": f"{labels} in training",
        "Length": f"{as_count(data.max_length)} tokens; {as_count(data.cut)} longer reviews are "
        f"{_TRUNCATIONS.get(data.truncation, data.truncation)}",
    }
    grid = Table.grid(padding=(0, 2))
    for name, fact in facts.items():
        grid.add_row(Text(name, "bold"), Text(clean(console, fact)))
    console.print(grid)


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
    """Show what the number of training reviews has decided: the passes over them."""
    passes = settings.choose_epochs(reviews)
    origin = "" if settings.num_train_epochs else ", chosen by their number"
    say(console, f"Passes   {passes:g} over {as_count(reviews)} reviews{origin}")


def show_processes(
    console: Console, processes: int, began_with: int, settings: TrainingSettings
) -> None:
    """Show how many processes train together, if there are several or have been."""
    reviews = settings.per_device_train_batch_size * settings.gradient_accumulation_steps
    if processes > 1 or began_with > 1:
        origin = "" if processes == began_with else f", as it began with {began_with}"
        say(console, f"Processes {processes}, {reviews * began_with} reviews a step{origin}")


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
    _say_line(console, f"{line}  best so far" if record.is_best else line)


class TrainingProgress:
    """Progress of a training run, from its step records.

    In a terminal it is a bar that leaves nothing behind; elsewhere, such as in a log file, a plain
    line every few steps. Other lines may be printed to the console in between.

    Example:
        with TrainingProgress(console, settings.logging_steps) as progress:
            for record in steps:
                progress.update(record)
    """

    def __init__(
        self,
        console: Console,
        logging_steps: int,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """Prepare the progress; the clock starts with the `with` block.

        Args:
            console: where to write.
            logging_steps: steps between plain lines.
            clock: gives the time in seconds.
        """
        self._console = console
        self._logging_steps = logging_steps
        self._clock = clock
        self._started = self._seconds = 0.0
        self._steps = self._reviews = 0
        self._bar = _build_bar(console) if console.is_interactive else None

    def __enter__(self) -> Self:
        self._started = self._clock()
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> Literal[False]:
        if self._bar:
            self._bar.stop()
        return False

    def update(self, record: StepRecord) -> None:
        """Show one more step."""
        self._steps += 1
        self._reviews += record.reviews
        self._seconds += record.seconds
        if self._bar:
            self._move_bar(self._bar, record)
        elif record.step % self._logging_steps == 0 or record.step == record.steps:
            _say_line(self._console, self._describe(record))

    def _move_bar(self, bar: Progress, record: StepRecord) -> None:
        bar.update(
            bar.task_ids[0],
            total=record.steps,
            completed=record.step,
            description=f"step {record.step}/{record.steps}",
            words=f"loss {record.loss:.3f}  {self._describe_speed(record)}",
        )

    def _describe(self, record: StepRecord) -> str:
        return (
            f"step {record.step}/{record.steps}  epoch {record.epoch:.2f}  "
            f"loss {record.loss:.3f}  lr {record.learning_rate:.2g}  "
            f"{self._describe_speed(record)}"
        )

    def _describe_speed(self, record: StepRecord) -> str:
        rate = self._reviews / self._seconds
        # By the clock, because what is left has its validations too; and over the steps seen here,
        # because a resumed run does not begin at step 1.
        elapsed = self._clock() - self._started
        left = (record.steps - record.step) * elapsed / self._steps
        return f"{as_rate(rate)} reviews/s  {as_rough_duration(left)} left"


def show_comparison(
    console: Console,
    models: Mapping[str, Scores],
    improvement: Improvement,
    confidence_level: float,
    pair: tuple[str, str] = ("base", "peft"),
) -> None:
    """Show the models side by side, and how sure the improvement is.

    Args:
        console: where to write.
        models: name -> scores; has the pair, and may have others.
        improvement: of the second of the pair over the first.
        confidence_level: of the improvement's interval.
        pair: names of the two models that are compared.
    """
    table = _build_score_table(console, models)
    baseline, challenger = pair
    differences = _describe_differences(models[baseline], models[challenger], improvement)
    table.add_row("Improvement", *differences, style="bold")
    console.print(table)
    if "adapter" in models:
        say(console, COMPANION_NOTE)
    names = (_title(console, baseline), _title(console, challenger))
    for sentence in _describe_certainty(improvement, confidence_level, names):
        say(console, sentence)


def show_models(console: Console, models: Mapping[str, Scores]) -> None:
    """Show the scores of models side by side."""
    console.print(_build_score_table(console, models))


def show_confusion(console: Console, scores: Scores, label_names: Sequence[str]) -> None:
    """Show how many reviews of each label (row) are given which label (column)."""
    if len(label_names) > WIDEST_CONFUSION:
        say(console, f"Confusion: results.json has the table of the {len(label_names)} labels.")
        return
    names = [clean(console, name) for name in label_names]
    table = build_table("True label", *(f"said {name}" for name in names))
    for i, (name, counts) in enumerate(zip(names, scores.confusion, strict=True)):
        cells = [Text(as_count(n), "bold" if i == j else "") for j, n in enumerate(counts)]
        table.add_row(Text(name), *cells)
    console.print(table)


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


def _build_bar(console: Console) -> Progress:
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        TextColumn("{task.fields[words]}"),
        console=console,
        transient=True,
        expand=True,
        # The CPU is needed for the training itself.
        refresh_per_second=2,
    )
    # How many steps there are comes with the first one; until then the bar moves to and fro.
    bar.add_task("starting", total=None, words="")
    return bar


def build_table(first: str, *columns: str) -> Table:
    """Return an empty table whose first column holds names and whose others hold numbers."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    # Names too long for their column are folded: an ASCII terminal can't show an ellipsis.
    table.add_column(Text(first), overflow="fold")
    for column in columns:
        table.add_column(Text(column), justify="right", overflow="fold")
    return table


def _build_score_table(console: Console, models: Mapping[str, Scores]) -> Table:
    table = build_table("", "Accuracy %", "F1 %", "Precision %", "Recall %", "ROC AUC", "Log loss")
    for name, scores in models.items():
        table.add_row(Text(_title(console, name)), *_describe_scores(scores))
    return table


def _describe_scores(scores: Scores) -> list[str]:
    shares = (scores.accuracy, scores.f1, scores.precision, scores.recall)
    roc_auc = "-" if scores.roc_auc is None else f"{scores.roc_auc:.3f}"
    return [*map(as_points, shares), roc_auc, f"{scores.log_loss:.3f}"]


def _describe_differences(base: Scores, peft: Scores, improvement: Improvement) -> list[str]:
    shares = (
        improvement.accuracy,
        improvement.f1,
        peft.precision - base.precision,
        peft.recall - base.recall,
    )
    is_known = base.roc_auc is not None and peft.roc_auc is not None
    return [
        *map(as_signed_points, shares),
        f"{(peft.roc_auc or 0) - (base.roc_auc or 0):+.3f}" if is_known else "-",
        f"{peft.log_loss - base.log_loss:+.3f}",
    ]


def _describe_certainty(
    improvement: Improvement, confidence_level: float, names: tuple[str, str]
) -> Iterator[str]:
    baseline, challenger = names
    baseline = "the base" if baseline == "Base" else baseline
    low, high = improvement.accuracy_interval
    yield (
        f"Accuracy: {as_signed_points(improvement.accuracy)} points, {100 * confidence_level:g} % "
        f"interval {as_signed_points(low)} to {as_signed_points(high)} (paired bootstrap)."
    )
    yield (
        f"{challenger} fixes {as_count(improvement.fixed)} reviews and breaks "
        f"{as_count(improvement.broken)} (exact McNemar test, {as_p_value(improvement.p_value)})."
    )
    if low > 0:
        yield f"The interval lies above 0: {challenger} is more accurate than {baseline}."
    elif high < 0:
        yield f"The interval lies below 0: {challenger} is less accurate than {baseline}."
    else:
        yield (
            f"The interval holds 0: these reviews do not show that {challenger} is better or "
            "worse. More test reviews (--test-size) would narrow it."
        )


def name_model(name: str) -> str:
    """Return a model's name as it is shown; one that is not of our own is shown as it is."""
    return TITLES.get(name, name)


def _title(console: Console, name: str) -> str:
    return clean(console, name_model(name))


def say(console: Console, words: str) -> None:
    """Print a sentence, which may hold anything, as plain text."""
    console.print(Text(clean(console, words)))


def _say_line(console: Console, words: str) -> None:
    """Print without wrapping, so that a line of a log stays a line."""
    console.print(Text(words), soft_wrap=True)


def clean(console: Console, words: str) -> str:
    """Return text on one line that can do a terminal no harm and that its encoding can hold."""
    line = " ".join(_CONTROL.sub(" ", words).split())
    return line.encode(console.encoding, "replace").decode(console.encoding)
