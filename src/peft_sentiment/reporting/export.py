"""Words for an export and its check."""

from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from peft_sentiment.records.export import ExportCheck, ExportRecord, ScoredForm


def show_export(console: Console, record: ExportRecord, output: Path) -> None:
    """Show how near an export is to its original, and where it lies."""
    check = record.check
    if check is not None:
        console.print(_build_table(record.form, check))
        console.print(Text(_describe_difference(check)))
    console.print(Text(f"Written: {output}"), soft_wrap=True)


def _build_table(form: str, check: ExportCheck) -> Table:
    title = f"{check.reviews:,} reviews of {check.data}"
    table = Table("", "accuracy", "size", "reviews/s", title=Text(title), title_justify="left")
    for name, scored in (("original", check.original), (form, check.exported)):
        table.add_row(name, *_describe_form(scored))
    return table


def _describe_form(scored: ScoredForm) -> tuple[str, str, str]:
    accuracy = "not known" if scored.accuracy is None else f"{100 * scored.accuracy:.2f} %"
    return accuracy, f"{scored.bytes / 1e6:.1f} MB", f"{scored.reviews_per_second:.1f}"


def _describe_difference(check: ExportCheck) -> str:
    share = 100 * check.flipped / check.reviews
    return (
        f"Labels flipped: {check.flipped} ({share:.2f} %). Largest difference of a logit: "
        f"{check.largest_logit_difference:.2g}. The original's labels are those in float32, its "
        f"speed is that in {check.dtype}."
    )
