"""Words for the terminal on how far probabilities can be trusted."""

from rich.console import Console

from peft_sentiment.records.calibration import CalibrationRecord, CalibrationScores, ThresholdRecord
from peft_sentiment.reporting.numbers import as_count, as_percent, as_points
from peft_sentiment.reporting.terminal import build_table, say


def show_calibration(console: Console, record: CalibrationRecord | None) -> None:
    """Show the probabilities' errors before and after temperature scaling, if it was fitted."""
    if record is None:
        return
    table = build_table("Probabilities", "Calibration error", "by chance", "Brier", "Log loss")
    table.add_row("as they come", *_describe(record.before))
    table.add_row(f"temperature {record.temperature:.2f}", *_describe(record.after), style="bold")
    console.print(table)
    say(
        console,
        "The calibration error is the mean gap between confidence and share of right labels over "
        f"{len(record.after.bins)} bins of equal width; a perfect model would show the one by "
        f"chance. Temperature from {as_count(record.validation_reviews)} validation reviews.",
    )
    if record.threshold is not None:
        say(console, _describe_threshold(record.threshold))


def _describe(scores: CalibrationScores) -> list[str]:
    values = (
        scores.expected_calibration_error,
        scores.error_by_chance,
        scores.brier_score,
        scores.log_loss,
    )
    return [f"{value:.3f}" for value in values]


def _describe_threshold(record: ThresholdRecord) -> str:
    left = (
        f"Below a confidence of {record.confidence:.3f} reviews are left undecided: "
        f"{as_percent(record.undecided_share)}."
    )
    if record.precision is None or record.precision_interval is None:
        return left
    low, high = record.precision_interval
    return (
        f"{left} Of the {as_count(record.decided)} others "
        f"{as_percent(record.precision)} are labelled right "
        f"({as_points(low)} to {as_points(high)})."
    )
