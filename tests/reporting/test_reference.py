"""The settings page in docs/ is what the code says."""

from pathlib import Path

from peft_sentiment.reporting.reference import render_settings_reference


def test_the_settings_page_is_up_to_date() -> None:
    page = Path(__file__).parents[2] / "docs" / "settings.md"
    assert page.read_text(encoding="utf-8") == render_settings_reference(), "run: make docs"
