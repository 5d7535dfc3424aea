"""Models side by side in the terminal, and how sure the difference is."""

from collections.abc import Iterator, Mapping, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from peft_sentiment.records import Improvement, Scores
from peft_sentiment.reporting.numbers import as_count, as_p_value, as_points, as_signed_points
from peft_sentiment.reporting.terminal import build_table, clean, say
from peft_sentiment.reporting.titles import COMPANION_NOTE, name_model

WIDEST_CONFUSION = 8
"""Labels up to which a confusion table is readable in a terminal."""


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
    if "adapter" in models and challenger == "peft":
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


def _title(console: Console, name: str) -> str:
    return clean(console, name_model(name))
