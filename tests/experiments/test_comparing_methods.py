"""Methods compared on tiny models: one process a cell, one split, failures named and survived."""

import io
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from rich.console import Console
from tiny_reviews import write_reviews_csv

from peft_sentiment.cli import main
from peft_sentiment.config import Settings, load_settings
from peft_sentiment.errors import InterruptionError, SettingsError
from peft_sentiment.evaluation.method_comparison import MethodsRecord
from peft_sentiment.evaluation.storage import load_predictions
from peft_sentiment.experiments import methods
from peft_sentiment.experiments.cells import Cell, build_cells, save_failure
from peft_sentiment.records import build_record
from peft_sentiment.records.reviews import Reviews

VARIANTS = {
    "lora": {"adapter": {"method": "lora", "r": 2}},
    "full": {"adapter": {"method": "full"}, "training": {"learning_rate": 1e-3}},
    "wrong": {"adapter": {"target_modules": ["no_such_layer"]}},
}


def run(settings: Settings, cells: Sequence[Cell]) -> tuple[MethodsRecord, str]:
    console = Console(file=io.StringIO(), width=100)
    record = methods.run_methods(settings, cells, console)
    assert isinstance(console.file, io.StringIO)
    return record, console.file.getvalue()


@dataclass(frozen=True)
class Comparison:
    """A finished comparison of two methods that work and one that fails."""

    settings: Settings
    cells: list[Cell]
    record: MethodsRecord
    shown: str

    @property
    def home(self) -> Path:
        return Path(self.settings.output.output_dir) / "methods"


@pytest.fixture(scope="module")
def comparison(
    tmp_path_factory: pytest.TempPathFactory, tiny_distilbert: Path, tiny_reviews: Reviews
) -> Comparison:
    folder = tmp_path_factory.mktemp("methods")
    tables = {
        "data": {
            "train_file": str(write_reviews_csv(folder / "reviews.csv", tiny_reviews)),
            "train_size": 60,
            "validation_size": 20,
            "test_size": 40,
            "max_length": 32,
        },
        "model": {"model_name_or_path": str(tiny_distilbert)},
        "training": {"num_train_epochs": 1.0, "learning_rate": 1e-2, "bf16": False},
        "output": {"output_dir": str(folder / "output")},
    }
    settings = load_settings(overrides=tables)
    cells = build_cells(settings, VARIANTS, 1)
    return Comparison(settings, cells, *run(settings, cells))


def test_every_cell_that_works_has_figures(comparison: Comparison) -> None:
    found = {(cell.name, cell.seed) for cell in comparison.record.cells}
    assert found == {("lora", 42), ("full", 42)}
    assert all(cell.status == "finished" for cell in comparison.record.cells)
    assert all(cell.scores.accuracy > 0.4 for cell in comparison.record.cells)


def test_all_cells_are_tested_on_the_same_reviews(comparison: Comparison) -> None:
    folders = [cell.find_folder(comparison.home / "cells") for cell in comparison.cells]
    files = [folder / "predictions.parquet" for folder in folders]
    texts = [load_predictions(file)[0].texts for file in files if file.is_file()]
    assert len(texts) == 2
    assert texts[0] == texts[1]


def test_a_full_fine_tuning_trains_and_stores_more_than_an_adapter(comparison: Comparison) -> None:
    by_name = {method.name: method for method in comparison.record.methods}
    assert by_name["full"].trainable > 3 * by_name["lora"].trainable
    assert by_name["full"].adapter_bytes > 3 * by_name["lora"].adapter_bytes
    assert by_name["lora"].adapter_bytes >= 4 * by_name["lora"].trainable


def test_what_was_saved_is_what_was_measured(comparison: Comparison) -> None:
    for cell in comparison.record.cells:
        assert cell.reload.flipped == 0
        assert cell.reload.largest_difference < 1e-5
        assert cell.reload.scores.accuracy == cell.scores.accuracy


def test_a_cell_that_fails_is_named_with_its_reason(comparison: Comparison) -> None:
    (failure,) = comparison.record.failures
    assert (failure.name, failure.kind) == ("wrong", "SettingsError")
    assert "no_such_layer" in failure.reason
    assert "Failed: wrong (seed 42): " in comparison.shown


def test_table_picture_and_record_are_left(comparison: Comparison) -> None:
    stored = json.loads((comparison.home / "methods.json").read_text(encoding="utf-8"))
    assert build_record(MethodsRecord, stored) == comparison.record
    assert (comparison.home / "methods.png").read_bytes().startswith(b"\x89PNG")
    picture = (comparison.home / "methods.svg").read_text(encoding="utf-8")
    assert "<svg" in picture
    for title in ("Accuracy %", "Trained weights", "On disk", "Reloaded %", "Memory"):
        assert title in comparison.shown


def test_the_memory_of_a_cell_is_not_that_of_who_started_it(comparison: Comparison) -> None:
    ballast = bytearray(600_000_000)
    ballast[::4096] = b"x" * len(ballast[::4096])
    code = "from peft_sentiment.model.memory import measure_peak_rss; print(measure_peak_rss())"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert int(done.stdout) < len(ballast)
    assert 50e6 < comparison.record.cells[0].peak_rss_bytes < 2e9


def test_finished_cells_are_skipped_and_failed_ones_tried_again(
    comparison: Comparison, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[str] = []

    def fail(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        started.append(Path(command[-1]).name)
        return subprocess.CompletedProcess(command, -9)

    monkeypatch.setattr(methods.subprocess, "run", fail)
    record, shown = run(comparison.settings, comparison.cells)
    assert [name.split("-")[0] for name in started] == ["wrong"]
    assert record.cells == comparison.record.cells
    assert record.methods == comparison.record.methods
    assert "its process was killed by signal 9" in record.failures[0].reason
    assert "3 cells, each in a process of its own, 2 of them finished before" in shown


def test_after_a_refusal_the_other_seeds_are_not_tried(
    comparison: Comparison, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells = build_cells(comparison.settings, {"wrong": VARIANTS["wrong"]}, 3)
    started: list[str] = []

    def refuse(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        started.append(command[-1])
        save_failure(comparison.record.failures[0], Path(command[-1]))
        return subprocess.CompletedProcess(command, 2)

    monkeypatch.setattr(methods.subprocess, "run", refuse)
    with pytest.raises(SettingsError, match=r"None of the 3 cells .*no_such_layer"):
        run(comparison.settings, cells)
    assert len(started) == 1


def test_a_cell_that_was_stopped_half_way_is_in_no_table(
    comparison: Comparison, monkeypatch: pytest.MonkeyPatch
) -> None:
    (stopped,) = build_cells(comparison.settings, {"other": {"adapter": {"r": 3}}}, 1)

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(methods.subprocess, "run", stop)
    cells = [*comparison.cells[:1], stopped]
    with pytest.raises(InterruptionError, match="1 of 2 cells are finished and kept"):
        run(comparison.settings, cells)
    monkeypatch.setattr(
        methods.subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, 1)
    )
    record, _ = run(comparison.settings, cells)
    assert [cell.name for cell in record.cells] == ["lora"]
    assert record.failures[0].name == "other"
    assert "exit code 1. See " in record.failures[0].reason


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "There is nothing to compare"),
        (["--methods", "lora,ia33"], "Did you mean ia3?"),
        (["--methods", "lora", "--seeds", "none"], "--seeds is 'none', but must be"),
        (["--variants", "nowhere.toml"], "nowhere.toml: the variants can't be read"),
    ],
)
def test_a_mistyped_comparison_ends_with_one_message(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["methods", *arguments]) == 2
    assert words in capsys.readouterr().err


def test_without_matplotlib_the_message_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main(["methods", "--methods", "lora"]) == 2
    assert "pip install 'peft-sentiment[search]'" in capsys.readouterr().err
