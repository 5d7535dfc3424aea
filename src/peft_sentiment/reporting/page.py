"""What a report says, as words and pictures in order; page and Markdown are two forms of it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from peft_sentiment.evaluation.examples import Example, select_examples
from peft_sentiment.records import PairComparison, Results, Scores, TrainingRecord
from peft_sentiment.reporting import pictures
from peft_sentiment.reporting.charts import Chart
from peft_sentiment.reporting.highlights import HighlightedReview, highlight
from peft_sentiment.reporting.numbers import (
    as_count,
    as_duration,
    as_p_value,
    as_percent,
    as_points,
    as_rate,
    as_signed_points,
)
from peft_sentiment.reporting.pairs import describe_pairs, is_shown, name_pair
from peft_sentiment.reporting.run_files import StoredRun
from peft_sentiment.reporting.titles import COMPANION_NOTE, name_model

EXAMPLES_PER_KIND = 5
WIDEST_CONFUSION = 8
"""Labels up to which a confusion table is readable on a page."""

EXCERPT = 280
"""Signs of a review that are shown before it is unfolded."""


@dataclass(frozen=True)
class Grid:
    """A table: names of its columns, and rows of words; the first column names the row."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    marked: int | None = None
    """Row to stress, by its number."""


@dataclass(frozen=True)
class Confusion:
    """How often which true label (row) is given which label (column).

    Attributes:
        cells: count, share of its row, and whether it is right.
    """

    name: str
    label_names: tuple[str, ...]
    cells: tuple[tuple[tuple[str, float, bool], ...], ...]


@dataclass(frozen=True)
class ExampleGroup:
    """Reviews of one kind."""

    title: str
    explanation: str
    examples: tuple[Example, ...]


@dataclass(frozen=True)
class Page:
    """A report. Sections whose data the run lacks are empty."""

    title: str
    summary: tuple[str, ...]
    facts: tuple[tuple[str, str], ...]
    accuracies: Chart
    scores: Grid
    pairs: Grid | None
    other_pairs: Grid | None
    findings: tuple[str, ...]
    confusions: tuple[Confusion, ...]
    curves: tuple[Chart, ...]
    reliability: Chart | None
    training: tuple[Chart, ...]
    training_words: str
    lengths: Chart | None
    calibration_words: str
    highlights: tuple[HighlightedReview, ...]
    examples: tuple[ExampleGroup, ...]
    settings: Mapping[str, Mapping[str, Any]]
    versions: tuple[tuple[str, str], ...]
    settings_toml: str
    commands: str


def build_page(run: StoredRun) -> Page:
    """Put a run into words and pictures."""
    results, level = run.results, run.results.settings["evaluation"]["confidence_level"]
    curves = (pictures.draw_roc_curves(run), pictures.draw_precision_recall_curves(run))
    training = (pictures.draw_losses(run), pictures.draw_validation_scores(run))
    return Page(
        title=f"{_last_part(results.settings['model']['model_name_or_path'])} on "
        f"{_last_part(results.data.name)}",
        summary=(describe_work(results), describe_outcome(results)),
        facts=tuple(list_facts(results)),
        accuracies=pictures.draw_accuracies(run),
        scores=build_score_grid(results.models),
        pairs=build_pair_grid([p for p in results.comparisons if has_peft(p)], level),
        other_pairs=build_pair_grid([p for p in results.comparisons if not has_peft(p)], level),
        findings=(
            *([COMPANION_NOTE] if "adapter" in results.models else ()),
            *describe_pairs(results.comparisons, level),
        ),
        confusions=tuple(build_confusions(results)),
        curves=tuple(chart for chart in curves if chart),
        reliability=pictures.draw_reliability(run),
        training=tuple(chart for chart in training if chart),
        training_words=describe_training(results),
        lengths=pictures.draw_accuracy_by_length(run),
        calibration_words=describe_calibration(results),
        highlights=tuple(map(highlight, run.explanations)),
        examples=tuple(select_example_groups(run)),
        settings=results.settings,
        versions=tuple(list_versions(results)),
        settings_toml=run.settings_toml,
        commands=describe_commands(results),
    )


def describe_work(results: Results) -> str:
    """Return one sentence on what was done."""
    counts, training, data = results.parameters, results.training, results.data
    taught = (
        f" and {as_count(data.pseudo_labelled)} of {as_count(data.unlabelled)} reviews without "
        "labels, labelled by a first classifier,"
    )
    return (
        f"The pre-trained encoder {results.settings['model']['model_name_or_path']} was fine-tuned "
        f"on {as_count(data.train)} reviews of {data.name}{taught if data.unlabelled else ''} in "
        f"{as_duration(training.seconds)}; {as_count(counts.trainable)} of its "
        f"{as_count(counts.total)} weights were trained ({counts.trainable_percent:.2g} %)."
    )


def describe_outcome(results: Results) -> str:
    """Return one sentence on what came of it."""
    peft, gain = results.models["peft"], results.improvement
    low, high = gain.accuracy_interval
    words = (
        f"Of {as_count(results.data.test)} test reviews that it had not seen it labels "
        f"{as_percent(peft.accuracy)} right ({_as_range(peft.accuracy_interval)}): "
        f"{as_signed_points(gain.accuracy)} points against the encoder with an untrained head "
        f"({as_signed_points(low)} to {as_signed_points(high)})"
    )
    rival = _find_rival(results)
    if rival is None:
        return f"{words}."
    difference = peft.accuracy - results.models[rival].accuracy
    return (
        f"{words}, and {as_signed_points(difference)} against the best baseline, "
        f"{name_model(rival)}."
    )


def list_facts(results: Results) -> Iterator[tuple[str, str]]:
    """Yield the key figures: name and value."""
    gain, peft = results.improvement, results.models["peft"]
    yield "accuracy", as_percent(peft.accuracy)
    yield "macro F1", as_percent(peft.f1)
    yield "reviews fixed", as_count(gain.fixed)
    yield "reviews broken", as_count(gain.broken)
    yield "training", as_duration(results.training.seconds)
    yield "peak memory", f"{results.peak_rss_bytes / 1e9:.1f} GB"


def build_score_grid(models: Mapping[str, Scores]) -> Grid:
    """Return every model's scores, each with its interval."""
    columns = ("Model", "Accuracy", "Macro F1", "Precision", "Recall", "ROC AUC", "Log loss")
    rows = tuple((name_model(name), *_describe_scores(scores)) for name, scores in models.items())
    return Grid(columns, rows, marked=list(models).index("peft"))


def has_peft(pair: PairComparison) -> bool:
    """Tell whether a pair is one of the tuned model and another."""
    return "peft" in (pair.first, pair.second)


def build_pair_grid(pairs: Sequence[PairComparison], level: float) -> Grid | None:
    """Return pairs with their differences and tests."""
    if not pairs:
        return None
    columns = ("Pair", "Points", "Interval", "Fixed", "Broken", "p, corrected", "Shown?")
    rows = tuple(
        (
            name_pair(pair),
            as_signed_points(pair.accuracy),
            " to ".join(map(as_signed_points, pair.accuracy_interval)),
            as_count(pair.fixed),
            as_count(pair.broken),
            as_p_value(pair.adjusted_p_value).removeprefix("p ").removeprefix("= "),
            "yes" if is_shown(pair, level) else "no",
        )
        for pair in pairs
    )
    return Grid(columns, rows)


def build_confusions(results: Results) -> Iterator[Confusion]:
    """Yield every model's confusion table, unless there are too many labels to read one."""
    names = results.data.label_names
    if len(names) > WIDEST_CONFUSION:
        return
    for model, scores in results.models.items():
        cells = tuple(
            tuple(
                (as_count(count), count / max(1, sum(row)), i == j) for j, count in enumerate(row)
            )
            for i, row in enumerate(scores.confusion)
        )
        yield Confusion(name_model(model), names, cells)


def describe_training(results: Results) -> str:
    """Return a sentence on the training."""
    record = results.training
    end = "stopped early by validation" if record.stopped_early else "as many as planned"
    return (
        f"{as_count(record.steps)} steps{describe_schedule(record)}, {end}, at "
        f"{as_rate(record.reviews_per_second)} reviews a second; the weights of step "
        f"{as_count(record.best_step)} were kept."
    )


def describe_schedule(record: TrainingRecord) -> str:
    """Return passes and learning rate in brackets; nothing for records of before they had them."""
    if not record.learning_rate:
        return ""
    return f" ({record.epochs:.3g} passes, learning rate {record.learning_rate:.3g} at most)"


def describe_calibration(results: Results) -> str:
    """Return a sentence on the temperature and what it gave, or nothing where none was fitted."""
    record = results.calibration
    if record is None:
        return ""
    before, after = record.before, record.after
    return (
        f"A temperature of {record.temperature:.2f}, fitted on "
        f"{as_count(record.validation_reviews)} validation reviews, takes PEFT's expected "
        f"calibration error from {before.expected_calibration_error:.3f} to "
        f"{after.expected_calibration_error:.3f} (a perfectly calibrated model would have about "
        f"{after.error_by_chance:.3f} on so many reviews) and its Brier score from "
        f"{before.brier_score:.3f} to {after.brier_score:.3f}."
    )


def select_example_groups(run: StoredRun) -> Iterator[ExampleGroup]:
    """Yield the reviews that are worth reading, kind by kind."""
    models = run.predictions
    rival = _find_rival(run.results) or "base"
    if run.reviews is None or not {rival, "peft"} <= models.keys():
        return
    chosen = select_examples(run.reviews, models[rival], models["peft"], EXAMPLES_PER_KIND)
    name = name_model(rival)
    groups = (
        (
            "Sure and wrong",
            "The PEFT model's surest errors. Some may be errors of the label.",
            "wrong",
        ),
        ("Fixed", f"PEFT gets these right and {name} does not; the surest first.", "fixed"),
        ("Broken", f"{name} gets these right and PEFT does not; the surest first.", "broken"),
    )
    for title, explanation, kind in groups:
        if examples := getattr(chosen, kind):
            yield ExampleGroup(title, explanation, examples)


def list_versions(results: Results) -> Iterator[tuple[str, str]]:
    """Yield what the run was computed with."""
    environment = results.environment
    yield "device", f"{environment.device}, {environment.dtype}, {environment.threads} threads"
    yield "attention", environment.attention
    if results.data.sha256:
        yield "data sha256", results.data.sha256
    if environment.commit:
        yield "commit", environment.commit
    yield from sorted(environment.versions.items())


def describe_commands(results: Results) -> str:
    """Return the commands that make the run again, given its settings as settings.toml."""
    version = results.environment.versions.get("peft-sentiment")
    pinned = f"peft-sentiment=={version}" if version else "peft-sentiment"
    commit = results.environment.commit
    install = f"git checkout {commit}\nmake setup" if commit else f"pip install {pinned}"
    return f"{install}\npeft-sentiment run --config settings.toml"


def cut_excerpt(text: str) -> str:
    """Return the beginning of a review, up to a word's end."""
    line = " ".join(text.split())
    return line if len(line) <= EXCERPT else line[:EXCERPT].rsplit(" ", 1)[0] + " ..."


def _describe_scores(scores: Scores) -> Iterator[str]:
    shares = {"f1": scores.f1, "precision": scores.precision, "recall": scores.recall}
    yield f"{as_points(scores.accuracy)} ({_as_range(scores.accuracy_interval)})"
    for name, share in shares.items():
        interval = scores.intervals.get(name)
        yield as_points(share) + (f" ({_as_range(interval)})" if interval else "")
    for name, value in {"roc_auc": scores.roc_auc, "log_loss": scores.log_loss}.items():
        interval = scores.intervals.get(name)
        bounds = f" ({interval[0]:.3f} to {interval[1]:.3f})" if interval else ""
        yield "-" if value is None else f"{value:.3f}{bounds}"


def _find_rival(results: Results) -> str | None:
    """Return the most accurate of the baselines, if there are any."""
    own = ("base", "peft", "adapter")  # the last is PEFT without its companion
    baselines = {name: s.accuracy for name, s in results.models.items() if name not in own}
    return max(baselines, key=baselines.__getitem__) if baselines else None


def _as_range(interval: tuple[float, float]) -> str:
    return f"{as_points(interval[0])} to {as_points(interval[1])}"


def _last_part(name: str) -> str:
    return name.rstrip("/").rpartition("/")[2]
