"""The demonstration in the terminal: several adapters, commands, and what is piped in."""

import io
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console
from tiny_runs import TinyRun

from peft_sentiment.cli import main
from peft_sentiment.errors import ExportError, SettingsError
from peft_sentiment.model.exported_files import RECORD_FILE
from peft_sentiment.serving.demo import ADAPTER, EXPLAIN, HELP, ask_for_reviews
from peft_sentiment.serving.showcase import SAMPLE_REVIEWS, Showcase, load_showcase, split_name

Talk = Callable[..., str]


@pytest.fixture(scope="module")
def showcase(finished_tiny_run: TinyRun) -> Showcase:
    folder = finished_tiny_run.adapter
    return load_showcase([f"first={folder}", f"second={folder}"], {"training": {"bf16": False}})


@pytest.fixture
def talk(showcase: Showcase) -> Talk:
    def talk(*lines: str) -> str:
        console, typed = Console(record=True, width=120, file=io.StringIO()), iter((*lines, ""))
        ask_for_reviews(console, showcase, lambda _: next(typed))
        return console.export_text()

    return talk


def test_another_adapter_labels_the_last_review_again(talk: Talk) -> None:
    shown = talk("A superb film.", f"{ADAPTER} second")
    assert shown.count("A superb film.") == 2


def test_an_unknown_adapter_is_told_with_those_there_are(talk: Talk) -> None:
    shown = talk(f"{ADAPTER} third")
    assert "no adapter 'third'" in shown
    assert "first, second" in shown


def test_the_adapter_in_use_is_named(talk: Talk) -> None:
    assert "second is in use" in talk(f"{ADAPTER} second", ADAPTER)


def test_what_can_be_typed_is_listed(talk: Talk) -> None:
    shown = talk(HELP)
    assert all(command in shown for command in (EXPLAIN, ADAPTER))


def test_a_review_given_with_explain_is_explained(talk: Talk) -> None:
    shown = talk(f"{EXPLAIN} A dull and good film.")
    assert "A dull and good film." in shown
    assert "of what they explain" in shown


@pytest.mark.parametrize(
    ("piped", "expected"),
    [("A superb film.\n\nA dull one.\n", "A dull one."), ("", SAMPLE_REVIEWS[0][:20])],
)
def test_piped_reviews_are_labelled_and_without_any_the_samples(
    finished_tiny_run: TinyRun,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    piped: str,
    expected: str,
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(piped))
    assert main(["demo", "--no-bf16", str(finished_tiny_run.adapter)]) == 0
    shown = capsys.readouterr().out
    assert expected in shown
    assert (SAMPLE_REVIEWS[0][:20] in shown) == (not piped)


def test_piped_bytes_that_are_no_utf_8_are_told(
    finished_tiny_run: TinyRun,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("caf\udce9 film\n"))
    assert main(["demo", "--no-bf16", str(finished_tiny_run.adapter)]) == 2
    assert "Line 1 is not UTF-8 (character 4" in capsys.readouterr().err


def test_an_export_is_refused_by_its_folder_alone(
    finished_tiny_run: TinyRun, tmp_path: Path
) -> None:
    (tmp_path / RECORD_FILE).write_text("{}")
    with pytest.raises(ExportError, match="Name the adapter it was made from"):
        load_showcase([str(finished_tiny_run.adapter), str(tmp_path)], {})


def test_two_adapters_of_one_name_are_refused(finished_tiny_run: TinyRun) -> None:
    folder = str(finished_tiny_run.adapter)
    with pytest.raises(SettingsError, match="NAME=DIR"):
        load_showcase([folder, folder], {})


@pytest.mark.parametrize(
    ("item", "expected"),
    [("a=b/c", ("a", "b/c")), ("x/a", ("a", "x/a")), ("x/a=b", ("a=b", "x/a=b"))],
)
def test_an_adapter_is_called_by_its_name_or_its_folder(
    item: str, expected: tuple[str, str]
) -> None:
    assert split_name(item) == expected
