"""Words for the terminal on where a model errs."""

from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from peft_sentiment.errors import name_install
from peft_sentiment.records.mistakes import ErrorAnalysis, GroupScore, LabelDoubts, Mistake
from peft_sentiment.reporting.numbers import as_count, as_percent, as_points
from peft_sentiment.reporting.terminal import build_table, clean, say

SHOWN = 5
"""Reviews shown of a kind; errors.json has more."""

WIDTH = 100
"""Characters shown of a review."""


def show_errors(console: Console, analysis: ErrorAnalysis) -> None:
    """Show where the model errs: by kind of review, and the most instructive reviews."""
    low, high = analysis.accuracy_interval
    say(
        console,
        f"{as_count(analysis.wrong)} of {as_count(analysis.reviews)} test reviews are labelled "
        f"wrong; accuracy {as_percent(analysis.accuracy)} ({as_points(low)} to {as_points(high)}).",
    )
    for name, groups in analysis.groups.items():
        _show_groups(console, name, groups)
    _show_mistakes(console, "Wrong and most confident", analysis.confidently_wrong)
    _show_mistakes(console, "Broken by tuning, right before", analysis.broken)
    _show_mistakes(console, "Fixed by tuning, wrong before", analysis.fixed)
    _show_doubts(console, analysis.label_doubts)


def _show_groups(console: Console, name: str, groups: Sequence[GroupScore]) -> None:
    table = build_table(f"By {name}", "Reviews", "Accuracy %", "Interval")
    for group in groups:
        low, high = group.accuracy_interval
        interval = f"{as_points(low)} to {as_points(high)}"
        cells = as_count(group.reviews), as_points(group.accuracy), interval
        table.add_row(Text(clean(console, group.name)), *cells)
    console.print(table)


def _show_mistakes(console: Console, title: str, mistakes: Sequence[Mistake]) -> None:
    if not mistakes:
        return
    console.print(Text(title, "bold"))
    for mistake in mistakes[:SHOWN]:
        say(
            console,
            f"- {mistake.label}, called {mistake.predicted} ({as_percent(mistake.confidence)}): "
            f"{_shorten(mistake.text)}",
        )
        for neighbour in mistake.neighbours[:1]:
            console.print(
                Text(
                    f"    nearest training review ({neighbour.similarity:.2f}) is "
                    f"{clean(console, neighbour.label)}: "
                    f"{clean(console, _shorten(neighbour.text))}",
                    "dim",
                )
            )


def _show_doubts(console: Console, doubts: LabelDoubts | None) -> None:
    if doubts is None:
        say(console, f"Probable label errors need cleanlab: {name_install('labels')}.")
        return
    low, high = doubts.accuracy_interval
    _show_mistakes(console, "Labels that are probably wrong", doubts.examples)
    say(
        console,
        f"Without the {as_count(len(doubts.indices))} reviews whose label is doubtful the accuracy "
        f"would be {as_percent(doubts.accuracy)} ({as_points(low)} to {as_points(high)}); the "
        "model itself is the judge of that, so it is an upper bound.",
    )


def _shorten(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= WIDTH else line[: WIDTH - 3] + "..."
