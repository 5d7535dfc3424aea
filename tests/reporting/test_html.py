"""The report is whole, harmless and readable, made again from what a run has left on disk alone."""

import dataclasses
import json
import re
from pathlib import Path

import pytest
from reporting.browser import open_page
from tiny_runs import TinyRun

from peft_sentiment.cli import main
from peft_sentiment.errors import OutputError
from peft_sentiment.evaluation.storage import load_predictions, save_predictions
from peft_sentiment.records import load_results, render_json
from peft_sentiment.records.explanation import Explanation, ExplanationsRecord, WordScore
from peft_sentiment.records.reviews import Reviews
from peft_sentiment.reporting.html import describe_run, write_report

SECTIONS = [
    "comparison",
    "confusion",
    "curves",
    "training",
    "calibration",
    "length",
    "words",
    "reviews",
    "settings",
    "reproduce",
]
HOSTILE = '<script>alert(1)</script><img src="http://example.invalid/x.png"> <b>bold</b> & "so" '
MOST_BYTES = 3_000_000


def make_hostile(run: TinyRun) -> None:
    """Put markup before every stored review."""
    for path in (run.output / "predictions").glob("*.parquet"):
        reviews, predictions = load_predictions(path)
        texts = [HOSTILE + text for text in reviews.texts]
        save_predictions(path, Reviews(texts, reviews.labels), predictions)


def list_sections(html: str) -> list[str]:
    return re.findall(r'<section id="(\w+)"', html)


def test_a_run_writes_its_report_and_names_it_at_its_end(
    tiny_run: TinyRun, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(tiny_run.arguments) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"Report: {tiny_run.output / 'report.html'}"
    html = (tiny_run.output / "report.html").read_text(encoding="utf-8")
    assert list_sections(html) == SECTIONS
    assert len(html.encode()) < MOST_BYTES


def test_the_report_command_makes_the_same_page_again(tiny_run: TinyRun) -> None:
    path = tiny_run.output / "report.html"
    before = path.read_bytes()
    path.unlink()
    assert main(["report", str(tiny_run.output)]) == 0
    assert path.read_bytes() == before


def test_the_page_shows_the_figures_of_the_results(tiny_run: TinyRun) -> None:
    results = load_results(tiny_run.output / "results.json")
    html = write_report(tiny_run.output).read_text(encoding="utf-8")
    for scores in results.models.values():
        assert f"{100 * scores.accuracy:.1f}" in html
        assert all(f">{count}<small>" in html for row in scores.confusion for count in row)
    assert f"<dt>reviews fixed</dt><dd>{results.improvement.fixed}</dd>" in html
    training = results.training
    assert f"({training.epochs:.3g} passes, learning rate {training.learning_rate:.3g} at" in html


def test_results_from_before_rates_were_recorded_are_still_shown(tiny_run: TinyRun) -> None:
    path = tiny_run.output / "results.json"
    values = json.loads(path.read_text())
    del values["training"]["learning_rate"], values["training"]["epochs"]
    path.write_text(json.dumps(values))
    html = write_report(tiny_run.output).read_text(encoding="utf-8")
    assert f"{values['training']['steps']} steps, as many as planned" in html


def test_a_model_without_predictions_is_left_out_of_the_curves(tiny_run: TinyRun) -> None:
    (tiny_run.output / "predictions" / "peft.parquet").unlink()
    html = write_report(tiny_run.output).read_text(encoding="utf-8")
    assert list_sections(html) == [part for part in SECTIONS if part != "reviews"]
    curves = html[html.index('id="curves"') : html.index('id="training"')]
    assert "</svg>Base</li>" in curves
    assert "</svg>PEFT</li>" not in curves


def test_predictions_of_two_runs_are_not_mixed(tiny_run: TinyRun) -> None:
    path = tiny_run.output / "predictions" / "base.parquet"
    reviews, predictions = load_predictions(path)
    save_predictions(path, Reviews([*reviews.texts[::-1]], reviews.labels), predictions)
    with pytest.raises(OutputError, match="of more than one run"):
        write_report(tiny_run.output)
    assert main(["errors", str(tiny_run.output)]) == 2


def test_a_companion_is_explained_and_no_baseline(tiny_run: TinyRun) -> None:
    assert main([*tiny_run.arguments, "--companion", "tfidf"]) == 0
    html = (tiny_run.output / "report.html").read_text(encoding="utf-8")
    assert "PEFT is the adapter with its companion" in html
    path = tiny_run.output / "results.json"
    values = json.loads(path.read_text())
    for name, scores in values["models"].items():
        scores["accuracy"] = 1.0 if name == "adapter" else 0.5
    path.write_text(json.dumps(values))
    html = write_report(tiny_run.output).read_text(encoding="utf-8")
    assert "against the best baseline, " in html
    assert "against the best baseline, Adapter" not in html


def test_results_alone_are_enough_for_a_page(tiny_run: TinyRun) -> None:
    others = [tiny_run.output / name for name in ("steps.jsonl", "explanations.json")]
    for path in [*(tiny_run.output / "predictions").iterdir(), *others]:
        path.unlink()
    html = write_report(tiny_run.output).read_text(encoding="utf-8")
    assert list_sections(html) == ["comparison", "confusion", "settings", "reproduce"]


def test_models_of_any_name_are_shown(tiny_run: TinyRun) -> None:
    path = tiny_run.output / "results.json"
    values = json.loads(path.read_text())
    models = values["models"]
    values["models"] = {"base": models["base"], "<i>mine</i>": models["peft"], **models}
    path.write_text(json.dumps(values))
    html = write_report(tiny_run.output).read_text(encoding="utf-8")
    assert "&lt;i&gt;mine&lt;/i&gt;" in html
    assert "<i>mine" not in html


def test_damaged_steps_are_named(tiny_run: TinyRun) -> None:
    (tiny_run.output / "steps.jsonl").write_text('{"kind": "StepRecord"}\n')
    with pytest.raises(OutputError, match=r"steps\.jsonl"):
        write_report(tiny_run.output)


def test_words_that_spoke_for_a_label_are_set_off_and_escaped(tiny_run: TinyRun) -> None:
    words = (WordScore(0, 6, 2.0), WordScore(7, 11, 0.1), WordScore(12, 15, -1.0))
    words = (*words, WordScore(16, 20, None))
    explanation = Explanation("<good> film bad rest", "positive", 0.9, 2.0, 0.9, 0.01, words)
    record = ExplanationsRecord((explanation,))
    (tiny_run.output / "explanations.json").write_text(render_json(record))
    html = write_report(tiny_run.output).read_text(encoding="utf-8")
    assert '<mark class="for" style="--share: 1.00">&lt;good&gt;</mark> film' in html
    assert '<mark class="against" style="--share: 0.50">bad</mark>' in html
    assert '<span class="unread">rest</span></p>' in html


def test_damaged_explanations_are_named(tiny_run: TinyRun) -> None:
    (tiny_run.output / "explanations.json").write_text('{"explanations": [{}]}')
    with pytest.raises(OutputError, match=r"explanations\.json"):
        write_report(tiny_run.output)


def test_a_folder_without_results_has_no_report(tmp_path: Path) -> None:
    assert main(["report", str(tmp_path)]) == 2
    assert not (tmp_path / "report.html").exists()


def test_every_picture_has_words_for_those_who_cannot_see_it(tiny_run: TinyRun) -> None:
    html = write_report(tiny_run.output).read_text(encoding="utf-8")
    pictures = re.findall(r"<svg [^>]*>", html)
    assert len(pictures) >= 6
    for picture in pictures:
        assert re.search(r'role="img" aria-label="[^"]{20,}"|aria-hidden="true"', picture)


def test_the_markdown_form_has_the_tables_and_no_markup_from_outside(
    tiny_run: TinyRun, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tiny_run.output / "results.json"
    results = load_results(path)
    data = dataclasses.replace(results.data, name="a|b<script>")
    path.write_text(json.dumps(dataclasses.asdict(dataclasses.replace(results, data=data))))
    assert main(["report", str(tiny_run.output), "--markdown"]) == 0
    text = capsys.readouterr().out
    assert text == describe_run(tiny_run.output)
    assert f"| PEFT | {100 * results.models['peft'].accuracy:.1f} (" in text
    assert "| PEFT against Base |" in text
    assert r"a\|b&lt;script&gt;" in text
    assert "<script>" not in text


@pytest.mark.parametrize(
    ("width", "scheme"), [(390, "light"), (390, "dark"), (1280, "light"), (1280, "dark")]
)
def test_a_browser_shows_the_page_whole_without_asking_for_anything(
    tiny_run: TinyRun, width: int, scheme: str
) -> None:
    make_hostile(tiny_run)
    path = write_report(tiny_run.output)
    with open_page(path, width, scheme) as opened:
        assert opened.messages == []
        assert opened.requests == [path.as_uri()]
        sections = opened.evaluate("[...document.querySelectorAll('section')].map(s => s.id)")
        assert sections == SECTIONS
        heights = "[...document.querySelectorAll('section')].map(s => s.offsetHeight)"
        assert min(opened.evaluate(heights)) > 50
        assert opened.evaluate("document.documentElement.scrollWidth") == width
        assert (
            opened.evaluate("document.querySelectorAll('article script, article img').length") == 0
        )
        assert HOSTILE.strip() in opened.evaluate("document.querySelector('#reviews').textContent")
        background = opened.evaluate("getComputedStyle(document.body).backgroundColor")
        brightness = sum(map(int, re.findall(r"\d+", background))) / 3
        assert (brightness > 128) == (scheme == "light")
