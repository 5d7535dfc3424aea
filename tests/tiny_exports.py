"""Every export of a tiny adapter, made by the command line."""

from pathlib import Path

from tiny_reviews import write_reviews_csv

from peft_sentiment.cli import main
from peft_sentiment.model.exported_files import FORMS
from peft_sentiment.records.reviews import Reviews

LOOSE = ("--most-flips", "20", "--most-loss", "20", "--most-difference", "5")
"""Weights this few lose more to int8 than real ones."""


def export_every_form(adapter: Path, reviews: Reviews, home: Path) -> dict[str, Path]:
    """Export an adapter below a folder, checked on these reviews; form -> folder."""
    checked = write_reviews_csv(home / "reviews.csv", reviews)
    for form in FORMS:
        arguments = ["export", str(adapter), "--to", form]
        arguments += ["--output", str(home / form), "--reviews", str(checked)]
        assert main([*arguments, *(LOOSE if form == "onnx-int8" else ())]) == 0
    return {form: home / form for form in FORMS}
