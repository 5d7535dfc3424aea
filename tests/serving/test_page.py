"""The page to try adapters on, as a person uses it: in a browser."""

import gzip
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import pytest
from free_port import find_free_port
from reporting.browser import OpenedPage, open_page
from tiny_runs import TinyRun

from peft_sentiment.cli import main
from peft_sentiment.config import DataSettings
from peft_sentiment.errors import DataError, SettingsError
from peft_sentiment.records.explanation import Explanation, WordScore
from peft_sentiment.reporting.highlights import highlight
from peft_sentiment.serving.page import label_file, read_file_form, render_opinion, render_words
from peft_sentiment.serving.showcase import SAMPLE_REVIEWS, Opinion, Showcase

MARKUP = (
    "A <b>superb</b> & good film <script>document.title = 'taken'</script> <img src=//x.test/y>"
)

DEMO = [sys.executable, "-m", "peft_sentiment.cli", "demo", "--web", "--no-bf16"]


@pytest.fixture(scope="module")
def address(finished_tiny_run: TinyRun, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    pytest.importorskip("gradio")
    # Files sent to the page and made by it are kept here, and gone when it has ended.
    kept = tmp_path_factory.mktemp("kept")
    folder, port = finished_tiny_run.adapter, find_free_port()
    command = [*DEMO, f"first={folder}", f"second={folder}", "--port", str(port)]
    environment = {**os.environ, "TMPDIR": str(kept)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        try:
            said = process.stdout.readline()
            assert f"http://127.0.0.1:{port}/" in said, said
            yield f"http://127.0.0.1:{port}/"
        finally:
            process.terminate()  # Ctrl-C is ignored by what a shell has started in the background.
            process.stdout.read()
    assert [path for path in kept.rglob("*") if path.is_file()] == []
    assert process.returncode == 0


@pytest.fixture
def opened(address: str) -> Iterator[OpenedPage]:
    with open_page(address) as opened:
        opened.page.wait_for_selector("#review textarea")
        yield opened
        hosts = {urlparse(url).hostname for url in opened.requests if url.startswith("http")}
        assert hosts == {"127.0.0.1"}


def test_a_typed_review_is_labelled_by_both_models_and_its_words_are_set_off(
    opened: OpenedPage,
) -> None:
    page = opened.page
    page.fill("#review textarea", MARKUP)
    page.click("#label")
    page.wait_for_selector("#words .words")
    assert page.locator("#opinions .opinion").count() == 2
    assert "Tuned: first" in page.inner_text("#opinions")
    assert page.locator("#words mark").count() > 0
    assert "of what they explain" in page.inner_text("#words")
    assert "labelled rightly" in page.inner_text("#opinions")
    assert MARKUP in page.inner_text("#words .words")  # as text
    assert page.title() == "PEFT Sentiment"
    assert not any("x.test" in url for url in opened.requests)
    assert opened.evaluate("document.documentElement.scrollWidth") <= 390


def test_the_page_is_used_by_keyboard_alone(opened: OpenedPage) -> None:
    page = opened.page
    page.focus("#review textarea")
    page.keyboard.type("A dull film.")
    page.keyboard.press("Shift+Enter")
    page.wait_for_selector("#opinions .opinion")
    page.focus("#review textarea")
    for _ in range(10):
        page.keyboard.press("Tab")
        if opened.evaluate("document.activeElement.id") == "label":
            break
    assert opened.evaluate("document.activeElement.id") == "label"


def test_another_adapter_is_chosen(opened: OpenedPage) -> None:
    page = opened.page
    page.get_by_label("Adapter").click()
    page.get_by_role("option", name="second").click()
    page.get_by_text(SAMPLE_REVIEWS[1][:30]).first.click()
    page.wait_for_function("document.querySelector('#review textarea').value.startsWith('Two')")
    page.click("#label")
    page.wait_for_selector("#opinions .opinion")
    assert "Tuned: second" in page.inner_text("#opinions")


def give_file(page: Any, source: Path) -> None:  # noqa: ANN401 - of Playwright
    """Choose a file in its tab; a page that does not show it is loaded again, twice at most."""
    from playwright.sync_api import TimeoutError

    for _ in range(3):
        page.get_by_role("tab", name="Several reviews").click()
        try:
            page.set_input_files("#file input[type=file]", source)
            page.get_by_text(source.name).first.wait_for(timeout=15_000)
            return
        except TimeoutError:
            page.reload()
            page.wait_for_selector("#review textarea")
    pytest.fail("the page does not show the file that was chosen")


def test_a_file_is_labelled_and_the_table_downloaded(opened: OpenedPage, tmp_path: Path) -> None:
    source = tmp_path / "reviews.csv"
    source.write_text(f'text\n"{MARKUP}"\nA dull film.\n', encoding="utf-8")
    page = opened.page
    give_file(page, source)
    page.click("#label-file")
    page.get_by_text("2 reviews labelled.").wait_for()
    with page.expect_download() as download:
        page.click("#download")
    lines = Path(download.value.path()).read_text(encoding="utf-8").splitlines()
    assert lines[0] == "text,label,probability_negative,probability_positive"
    assert MARKUP in lines[1]
    assert len(lines) == 3


def test_a_file_that_cannot_be_read_is_told_on_the_page(opened: OpenedPage, tmp_path: Path) -> None:
    source = tmp_path / "reviews.csv"
    source.write_text("words\nA dull film.\n", encoding="utf-8")
    page = opened.page
    give_file(page, source)
    page.click("#label-file")
    page.get_by_text("no column").first.wait_for()
    assert page.inner_text("#message").startswith("reviews.csv")  # not where the page keeps it


def test_what_a_message_names_is_a_field_of_the_page(opened: OpenedPage, tmp_path: Path) -> None:
    source = tmp_path / "reviews.csv"
    source.write_bytes("words;stars\nA café, dull.;1\n".encode("cp1252"))
    page = opened.page
    give_file(page, source)
    page.click("#label-file")
    page.get_by_text("--encoding").first.wait_for()
    page.click("#form button")
    page.get_by_label("--encoding").fill("cp1252")
    page.get_by_label("--delimiter").fill(";")
    page.get_by_label("--text-column").fill("words")
    page.click("#label-file")
    page.get_by_text("1 review labelled.").wait_for()
    assert "café" in page.inner_text("#table")


def test_a_field_that_holds_what_cannot_be_is_told() -> None:
    with pytest.raises(SettingsError, match="encoding"):
        read_file_form("text", "", "no-such-encoding")
    assert read_file_form(" ", "", "") == DataSettings()


def test_a_packed_file_is_not_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "small.csv.gz"
    path.write_bytes(gzip.compress(b"text\n" + b"x" * 10_000_000))
    with pytest.raises(DataError, match=r"small\.csv\.gz: unpack the file first"):
        label_file(Showcase({}), "first", str(path), DataSettings())


def test_whatever_a_review_or_a_label_holds_is_escaped() -> None:
    opinion = Opinion(MARKUP, "<i>", {"<i>": 0.9, "b": 0.1}, {"<i>": 0.4, "b": 0.6}, is_cut=True)
    page = render_opinion(opinion, "<name>", "<meaning>")
    assert "<i>" not in page
    assert "<name>" not in page
    assert "<meaning>" not in page
    assert "longer than what is read" in page
    words = (WordScore(0, 8, 1.0), WordScore(9, 13, -1.0))
    explanation = Explanation("<script> &lt;", "x", 0.9, 1.0, 0.0, 0.01, words)
    shown = render_words(highlight(explanation))
    assert "&lt;script&gt;" in shown
    assert "&amp;lt;" in shown
    assert 'class="for"' in shown
    assert 'class="against"' in shown


def test_the_page_names_its_extra(
    finished_tiny_run: TinyRun, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    arguments: list[Any] = ["demo", "--web", "--no-bf16", str(finished_tiny_run.adapter)]
    assert main(arguments) == 2
    assert "peft-sentiment[demo]" in capsys.readouterr().err


def test_a_port_in_use_is_told(finished_tiny_run: TinyRun) -> None:
    pytest.importorskip("gradio")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        command = [*DEMO, str(finished_tiny_run.adapter), "--port", str(taken.getsockname()[1])]
        done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert "Choose another port" in done.stderr
    assert "Traceback" not in done.stderr
