"""A search on tiny models: kept through a kill, true to a fresh run, blind to the test reviews."""

import io
import json
import signal
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from peft_sentiment.cli import main
from peft_sentiment.config import Settings, load_settings
from peft_sentiment.data.sources import load_reviews
from peft_sentiment.data.split import split_reviews
from peft_sentiment.errors import SettingsError
from peft_sentiment.experiments import workbench
from peft_sentiment.experiments.search import run_search
from peft_sentiment.experiments.workbench import load_workbench
from peft_sentiment.inference.classifier import SentimentClassifier
from peft_sentiment.records import ValidationRecord
from peft_sentiment.training.search_ranges import parse_ranges
from peft_sentiment.training.trials import SearchRecord

RANGES = ("training.learning_rate=1e-3..3e-2:log", "adapter.r=2,4")
TRIALS = 5
Tables = dict[str, dict[str, Any]]


@pytest.fixture
def tables(tiny_distilbert: Path, reviews_csv: Path, tmp_path: Path) -> Tables:
    return {
        "data": {
            "train_file": str(reviews_csv),
            "train_size": 60,
            "validation_size": 40,
            "test_size": 40,
            "max_length": 32,
        },
        "model": {"model_name_or_path": str(tiny_distilbert)},
        "training": {
            "num_train_epochs": 2.0,
            "per_device_train_batch_size": 8,
            "crop_length": 0,
            "bf16": False,
        },
        "output": {"output_dir": str(tmp_path / "output")},
    }


@pytest.fixture
def settings(tables: Tables) -> Settings:
    return load_settings(overrides=tables)


def search(settings: Settings, trials: int, *ranges: str) -> tuple[SearchRecord, str]:
    console = Console(file=io.StringIO(), width=100)
    parsed = parse_ranges(ranges or RANGES, settings)
    record = run_search(settings, parsed, trials, 2, console)
    assert isinstance(console.file, io.StringIO)
    return record, console.file.getvalue()


def read_trials(output: Path) -> list[dict[str, Any]]:
    """Return the trials of a search.json, without what no two runs have in common."""
    record = json.loads((output / "search" / "search.json").read_text(encoding="utf-8"))
    return [{k: v for k, v in trial.items() if k != "seconds"} for trial in record["trials"]]


def build_command(tables: Tables, output: Path) -> list[str]:
    items = {name: value for table in tables.values() for name, value in table.items()}
    items |= {"output_dir": output, "bf16": None}
    flags = [
        part
        for name, value in items.items()
        for part in ["--" + name.replace("_", "-"), str(value)]
        if value is not None
    ]
    ranges = [part for text in RANGES for part in ["--range", text]]
    counts = ["--trials", str(TRIALS), "--validations", "2"]
    return ["search", *flags, "--no-bf16", *ranges, *counts]


def test_a_search_that_was_killed_ends_with_the_trials_of_one_that_was_not(
    tables: Tables, tmp_path: Path
) -> None:
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    kill_in_the_third_trial(build_command(tables, killed))
    assert main(build_command(tables, killed)) == 0
    assert main(build_command(tables, whole)) == 0
    trials = read_trials(killed)
    assert len(trials) == TRIALS
    assert trials == read_trials(whole)


def kill_in_the_third_trial(arguments: Sequence[str]) -> None:
    """Start a search in another process, and kill it with no time to say anything."""
    command = [sys.executable, "-u", "-m", "peft_sentiment.cli", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("trial 2/"):
                process.kill()
                break
        assert process.wait(timeout=60) == -signal.SIGKILL


def test_trials_give_what_a_fresh_classifier_gives(settings: Settings) -> None:
    bench = load_workbench(settings, validations=2)
    tried = [{"adapter": {"r": 4}}, {"adapter": {"r": 2}}, {"data": {"max_length": 24}},
             {"adapter": {"init_lora_weights": "olora"}}, {"data": {"train_size": 50}}]  # fmt: skip
    for changed in [*tried, *tried]:
        chosen = settings.updated(changed, "test")
        assert strip([check.record for check in bench.validate(chosen)]) == strip(
            train_afresh(bench.complete(chosen))
        )
    assert len(bench.encoders) == 1
    assert len(bench.tokens) == 3


def train_afresh(settings: Settings) -> list[ValidationRecord]:
    splits = split_reviews(load_reviews(settings.data), settings.data, settings.training.seed)
    classifier = SentimentClassifier.from_settings(settings)
    classifier.build_base(splits.label_names)
    train, validation = map(classifier.tokenize, (splits.train, splits.validation))
    events = classifier.iterate_fit(train, validation)
    return [event for event in events if isinstance(event, ValidationRecord)]


def strip(records: list[ValidationRecord]) -> list[tuple[float, ...]]:
    assert records
    return [(r.step, r.epoch, r.accuracy, r.f1, r.log_loss, r.is_best) for r in records]


def test_no_trial_reads_a_test_review(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    splits = split_reviews(load_reviews(settings.data), settings.data, settings.training.seed)
    read: set[str] = set()
    tokenize = SentimentClassifier.tokenize

    def spy(self: SentimentClassifier, reviews: Any) -> Any:  # noqa: ANN401
        read.update(reviews.texts)
        return tokenize(self, reviews)

    def refuse(*_: object) -> None:
        raise AssertionError("something is scored that is not a validation")

    monkeypatch.setattr(SentimentClassifier, "tokenize", spy)
    monkeypatch.setattr(SentimentClassifier, "predict_reviews", refuse)
    bench = load_workbench(settings, validations=2)
    assert list(bench.validate(settings))
    assert read == {*splits.train.texts, *splits.validation.texts}
    assert read.isdisjoint(splits.test.texts)


def test_the_best_settings_are_a_file_that_gives_the_best_trial_again(settings: Settings) -> None:
    record, shown = search(settings, 3)
    folder = Path(settings.output.output_dir) / "search"
    assert record.best is not None
    best = record.trials[record.best - 1]
    chosen = load_settings(config_file=str(folder / "best.toml"))
    assert chosen.adapter.r == best.values["adapter.r"]
    assert train_afresh(chosen)[-1].epoch == 2.0
    assert min(r.log_loss for r in train_afresh(chosen)) == best.score
    assert "output" not in tomllib.loads((folder / "best.toml").read_text(encoding="utf-8"))
    assert f"peft-sentiment run --config {folder / 'best.toml'}" in shown


def test_a_search_leaves_its_record_and_a_picture_and_shows_every_trial(
    settings: Settings,
) -> None:
    record, shown = search(settings, 4)
    folder = Path(settings.output.output_dir) / "search"
    assert [line.split("  ")[0] for line in shown.splitlines() if line.startswith("trial ")] == [
        f"trial {number}/4" for number in (1, 2, 3, 4)
    ]
    assert json.loads((folder / "search.json").read_text(encoding="utf-8"))["best"] == record.best
    assert (folder / "search.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (folder / "search.svg").read_text(encoding="utf-8")
    assert "the test reviews stay unread" in shown


def test_what_can_t_be_trained_fails_and_a_search_of_nothing_else_says_so(
    settings: Settings,
) -> None:
    with pytest.raises(SettingsError, match=r"None of the 2 trials was finished; .*reads at most"):
        search(settings, 2, "data.max_length=4000,5000")


def test_a_search_needs_validation_reviews(settings: Settings) -> None:
    without = settings.updated({"data": {"validation_size": 0}}, "test")
    with pytest.raises(SettingsError, match="Set --validation-size"):
        search(without, 1)


@pytest.mark.parametrize("epochs", [0.3, 1.0, 0.0])
def test_a_trial_has_as_many_validations_as_asked_for_the_last_at_its_end(
    epochs: float, settings: Settings
) -> None:
    changed = {"training": {"num_train_epochs": epochs, "reviews_to_pass": 120}}
    bench = load_workbench(settings.updated(changed, "test"), validations=3)
    checks = list(bench.validate(settings.updated(changed, "test")))
    assert [check.is_last for check in checks] == [False, False, True]


def test_steps_between_validations_that_are_given_stay(settings: Settings) -> None:
    bench = load_workbench(settings, validations=4)
    assert bench.complete(settings).training.eval_steps == 4
    given = settings.updated({"training": {"eval_steps": 7}}, "test")
    assert bench.complete(given) == given


def test_ctrl_c_keeps_what_is_finished(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    validate = workbench.Workbench.validate
    trained = []

    def stop(self: workbench.Workbench, tried: Settings) -> Any:  # noqa: ANN401
        if trained:
            raise KeyboardInterrupt
        trained.append(tried)
        return validate(self, tried)

    monkeypatch.setattr(workbench.Workbench, "validate", stop)
    with pytest.raises(Exception, match="Stopped; 1 of 3 trials are kept"):
        search(settings, 3)
    monkeypatch.undo()
    record, _ = search(settings, 3)
    assert len(record.trials) == 3


def test_without_optuna_the_message_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert main(["search", "--range", "adapter.r=4,8"]) == 2
    assert "pip install 'peft-sentiment[search]'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--range", "adapter.rr=4,8"], "Did you mean adapter.r?"),
        ([], "There is nothing to search"),
        (["--range", "adapter.r=4,8", "--trials", "0"], "--trials is '0', but must be"),
        (["--range", "adapter.r=4,8", "--trial", "3"], "Did you mean --trials?"),
    ],
)
def test_a_mistyped_search_ends_with_one_message(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["search", *arguments]) == 2
    assert words in capsys.readouterr().err
