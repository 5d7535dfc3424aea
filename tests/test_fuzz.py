"""Files that nobody meant to be read are read, or end in our error; `make fuzz` tries many more."""

from collections.abc import Callable
from pathlib import Path

import pytest
from fuzz_cases import (
    Case,
    UnexpectedEndError,
    build_adapters,
    draw_adapter_cases,
    draw_reader_cases,
    iterate_kept,
    try_case,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_runs import TinyRun, leave_sums_out

from peft_sentiment.cli import main
from peft_sentiment.errors import PeftSentimentError

Try = Callable[[Case], bool]


@pytest.fixture(scope="module")
def adapters(
    finished_tiny_run: TinyRun, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    home = tmp_path_factory.mktemp("fuzz")
    run = finished_tiny_run
    own = ["--adapter-dir", str(home / "tfidf"), "--output-dir", str(home / "output")]
    assert main(["train", *run.arguments[1:], "--companion", "tfidf", *own]) == 0
    return build_adapters(run, home, home / "tfidf")


@pytest.fixture(scope="module")
def attempt(adapters: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Try:
    folder = tmp_path_factory.mktemp("cases")
    return lambda case: try_case(case, folder, adapters)


@pytest.mark.parametrize(
    "case", list(iterate_kept()), ids=lambda case: f"{case.adapter}-{case.name}"
)
def test_kept_cases_end_well(case: Case, attempt: Try) -> None:
    attempt(case)


@settings(max_examples=300, suppress_health_check=list(HealthCheck))
@given(case=draw_reader_cases())
def test_any_file_of_reviews_ends_well(case: Case, attempt: Try) -> None:
    attempt(case)


@settings(max_examples=40, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_file_in_an_adapter_ends_well(
    data: st.DataObject, attempt: Try, adapters: dict[str, Path]
) -> None:
    attempt(data.draw(draw_adapter_cases(adapters)))


def test_files_in_order_are_read(attempt: Try, adapters: dict[str, Path]) -> None:
    assert attempt(Case("a.csv", b"text,label\nfine,a\ndull,b\n"))
    for name, folder in adapters.items():
        assert attempt(Case("tokenizer.json", (folder / "tokenizer.json").read_bytes(), name))


def test_another_end_is_seen(attempt: Try, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("fuzz_cases.load_reviews", fail)
    with pytest.raises(UnexpectedEndError, match="ZeroDivisionError"):
        attempt(Case("a.csv", b"text,label\nfine,a\n"))

    def be_vague(*_: object) -> None:
        raise PeftSentimentError("Something is wrong.")

    monkeypatch.setattr("fuzz_cases.load_reviews", be_vague)
    with pytest.raises(UnexpectedEndError, match="no place"):
        attempt(Case("a.csv", b"text,label\nfine,a\n"))


def test_an_adapter_is_named_in_what_is_told_of_its_base(
    tiny_run: TinyRun, capsys: pytest.CaptureFixture[str]
) -> None:
    path = leave_sums_out(tiny_run.adapter) / "peft_sentiment.json"
    text = path.read_text(encoding="utf-8").replace(str(tiny_run.base), "/nowhere/base")
    path.write_text(text, encoding="utf-8")
    assert main(["predict", "A film.", "--adapter", str(tiny_run.adapter)]) == 2
    message = capsys.readouterr().err
    assert f"{tiny_run.adapter}: its base can't be loaded. /nowhere/base: no such" in message
