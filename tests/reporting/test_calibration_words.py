"""What is shown of calibration are the record's numbers."""

import io

from rich.console import Console

from peft_sentiment.records.calibration import (
    CalibrationRecord,
    CalibrationScores,
    ReliabilityBin,
    ThresholdRecord,
)
from peft_sentiment.reporting.calibration import show_calibration

BINS = (ReliabilityBin(0, 0.5, 0, 0.25, None), ReliabilityBin(0.5, 1, 600, 0.9, 0.88))
RECORD = CalibrationRecord(
    temperature=1.3456,
    validation_reviews=1500,
    before=CalibrationScores(0.0512, 0.0201, 0.0987, 0.3123, BINS),
    after=CalibrationScores(0.0234, 0.0212, 0.0876, 0.2987, BINS),
    threshold=ThresholdRecord(0.8123, 480, 0.2, 0.95625, (0.934, 0.971)),
)


def show(record: CalibrationRecord | None) -> str:
    console = Console(file=io.StringIO(), width=200)
    show_calibration(console, record)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_numbers_of_the_record_are_shown() -> None:
    shown = show(RECORD)
    for number in ("1.35", "0.051", "0.023", "0.021", "0.099", "0.088", "0.312", "0.299", "1,500"):
        assert number in shown
    assert "2 bins of equal width" in shown
    assert "20.0 %. Of the 480 others 95.6 % are labelled right (93.4 to 97.1)" in shown


def test_a_threshold_that_decides_nothing_has_no_precision() -> None:
    threshold = ThresholdRecord(0.99, 0, 1.0, None, None)
    shown = show(CalibrationRecord(1.0, 20, RECORD.before, RECORD.after, threshold))
    assert "left undecided: 100.0 %." in shown
    assert "others" not in shown


def test_without_a_calibration_nothing_is_shown() -> None:
    assert show(None) == ""
