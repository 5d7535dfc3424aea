"""Words for the terminal about searches and comparisons of methods, made from their records."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from peft_sentiment.evaluation.method_comparison import (
    CellFailure,
    CellRecord,
    MethodRecord,
    MethodsRecord,
)
from peft_sentiment.reporting.numbers import as_bytes, as_count, as_duration, as_percent, as_points
from peft_sentiment.reporting.terminal import build_table, clean, say
from peft_sentiment.training.trials import SearchRecord, TrialRecord, rank_trials

MOST_SHOWN = 10
"""Trials in the table; search.json has all."""


def show_search_start(
    console: Console, done: int, trials: int, train: int, validation: int
) -> None:
    """Show what a search is going to do, on one line.

    Args:
        console: where to write.
        done: trials that the study has already.
        trials: that it is to have.
        train: training reviews of a trial.
        validation: reviews that the trials are judged on.
    """
    begun = f", {as_count(done)} of them done before" if done else ""
    say(
        console,
        f"{as_count(trials)} trials{begun}: {as_count(train)} training reviews, judged on "
        f"{as_count(validation)} validation reviews; the test reviews stay unread",
    )


def show_trial(
    console: Console, trial: TrialRecord, trials: int, metric: str, best: TrialRecord | None
) -> None:
    """Show a trial that is over, on one line; `best` is the best one so far."""
    parts = [f"trial {trial.number}/{trials}"]
    if trial.score is None or trial.state == "failed":
        parts.append(f"failed: {trial.reason}")
    else:
        parts.append(f"{_name(metric)} {format_score(metric, trial.score)}")
        parts += ["pruned"] if trial.state == "pruned" else []
        parts += ["best so far"] if best is not None and best.number == trial.number else []
    parts += [as_duration(trial.seconds), format_values(trial.values)]
    say_line(console, *parts)


def show_search(console: Console, record: SearchRecord, files: Sequence[Path]) -> None:
    """Show the best trials, what matters, and where everything is stored; best.toml comes first."""
    names = list(record.trials[0].values)
    columns = [name.partition(".")[2] for name in names]
    metric = _name(record.metric)
    table = build_table("Trial", f"{metric[0].upper()}{metric[1:]}", "Log loss", "Time", *columns)
    for trial in rank_trials(record.trials, record.metric)[:MOST_SHOWN]:
        table.add_row(*_describe_trial(console, trial, record.metric, names))
    console.print(table)
    say(console, _count_states(record.trials))
    if record.importances:
        parts = [f"{name} {as_percent(share)}" for name, share in record.importances.items()]
        say(console, f"What explains the differences: {', '.join(parts)}")
    best, *others = files
    say_line(console, f"Best settings: {best}")
    say_line(console, f"Also written: {', '.join(map(str, others))}")
    say(
        console,
        "The best of many looks better than it is. Test it on reviews it was not chosen by:",
    )
    say_line(console, f"peft-sentiment run --config {best}")


def show_methods_start(console: Console, cells: int, known: int) -> None:
    """Show how many cells a comparison has, and how many are finished before it begins."""
    before = f", {as_count(known)} of them finished before" if known else ""
    say(console, f"{as_count(cells)} cells, each in a process of its own{before}")


def show_cell(console: Console, cell: CellRecord, is_known: bool) -> None:
    """Show a finished cell on one line."""
    say_line(
        console,
        f"{cell.name}, seed {cell.seed}",
        f"accuracy {as_percent(cell.scores.accuracy)}",
        f"{as_count(cell.parameters.trainable)} weights",
        as_duration(cell.seconds),
        as_bytes(_get_peak(cell)),
        *(["finished before"] if is_known else []),
    )


def show_cell_failure(console: Console, failure: CellFailure) -> None:
    """Show on one line why a cell has no figures."""
    say_line(console, f"{failure.name}, seed {failure.seed}", f"failed: {failure.reason}")


def show_methods(console: Console, record: MethodsRecord, files: Sequence[Path]) -> None:
    """Show what the methods reach, what they cost, what failed, and where it is stored."""
    reach = build_table("Method", "Accuracy %", "Seeds", "F1 %", "Behind the first")
    cost = build_table("Method", "Trained weights", "On disk", "Time", "Memory", "Reloaded %")
    for method in record.methods:
        mark = "*" if method.is_on_front else ""
        name = Text(clean(console, f"{method.name}{mark}"))
        reach.add_row(name, *_describe_reach(method))
        cost.add_row(name, *_describe_cost(method))
    console.print(reach)
    console.print(cost)
    level = f"{100 * record.confidence_level:g} %"
    say(console, f"In brackets: {level} intervals, for other reviews and other seeds.")
    say(console, "* no method with as few weights is more accurate.")
    for sentence in (*_describe_ties(record.methods), *_describe_failures(record.failures)):
        say(console, sentence)
    say_line(console, f"Written: {', '.join(map(str, files))}")


def format_score(metric: str, score: float) -> str:
    """Return the value of a metric as it is usually shown."""
    return f"{score:.3f}" if metric == "log_loss" else as_percent(score)


def format_values(values: Mapping[str, Any]) -> str:
    """Return settings and their values on one line."""
    return " ".join(
        f"{name.partition('.')[2]}={format_value(value)}" for name, value in values.items()
    )


def format_value(value: object) -> str:
    """Return a setting's value, with as many digits as a person reads."""
    if isinstance(value, float):
        return f"{value:.3g}"
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _describe_trial(
    console: Console, trial: TrialRecord, metric: str, names: Sequence[str]
) -> list[Text]:
    score = "-" if trial.score is None else format_score(metric, trial.score)
    cells = [
        str(trial.number),
        score if trial.state == "finished" else f"{score} {trial.state}",
        "-" if trial.log_loss is None else f"{trial.log_loss:.3f}",
        as_duration(trial.seconds),
        *(format_value(trial.values[name]) for name in names),
    ]
    return [Text(clean(console, cell)) for cell in cells]


def _count_states(trials: Sequence[TrialRecord]) -> str:
    states = [trial.state for trial in trials]
    seconds = sum(trial.seconds for trial in trials)
    return (
        f"{as_count(len(trials))} trials in {as_duration(seconds)}: "
        f"{states.count('finished')} finished, {states.count('pruned')} pruned, "
        f"{states.count('failed')} failed"
    )


def _describe_reach(method: MethodRecord) -> list[str]:
    low, high = map(as_points, method.accuracy_interval)
    lowest, highest = map(as_points, method.accuracy_range)
    nearest, farthest = map(as_points, method.behind_interval)
    behind = f"{as_points(method.behind)} ({nearest} to {farthest})"
    return [
        f"{as_points(method.accuracy)} ({low} to {high})",
        f"{lowest} to {highest}",
        as_points(method.f1),
        "-" if method.behind_interval == (0.0, 0.0) else behind,
    ]


def _describe_cost(method: MethodRecord) -> list[str]:
    flips = f", {as_count(method.flipped)} flipped" if method.flipped else ""
    return [
        as_count(method.trainable),
        as_bytes(method.adapter_bytes),
        as_duration(method.seconds),
        as_bytes(method.peak_device_bytes or method.peak_rss_bytes),
        f"{as_points(method.reloaded_accuracy)}{flips}",
    ]


def _describe_ties(methods: Sequence[MethodRecord]) -> list[str]:
    """Say which methods these reviews do not tell from the first one."""
    first, *others = methods
    level = [method.name for method in others if method.behind_interval[0] <= 0]
    if not level:
        return []
    return [
        f"The interval of {', '.join(level)} behind {first.name} holds 0: these reviews do not "
        "tell them apart. More test reviews (--test-size) would."
    ]


def _describe_failures(failures: Sequence[CellFailure]) -> list[str]:
    reasons: dict[tuple[str, str], list[str]] = {}
    for failure in failures:
        reasons.setdefault((failure.name, failure.reason), []).append(str(failure.seed))
    return [
        f"Failed: {name} (seed {', '.join(seeds)}): {reason}"
        for (name, reason), seeds in reasons.items()
    ]


def _get_peak(cell: CellRecord) -> int:
    return cell.peak_rss_bytes if cell.peak_device_bytes is None else cell.peak_device_bytes


def _name(metric: str) -> str:
    return {"f1": "macro F1", "log_loss": "log loss"}.get(metric, metric)


def say_line(console: Console, *parts: str) -> None:
    """Print without wrapping, so that a line of a log stays a line and a command one command."""
    line = "  ".join(clean(console, part) for part in parts)
    console.print(Text(line), soft_wrap=True)
