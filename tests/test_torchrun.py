"""A command under torchrun: a process that dies ends the others, or all go on from a checkpoint."""

import dataclasses
import functools
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file
from several_processes import run_together
from tiny_reviews import write_reviews_csv
from tiny_runs import TinyRun
from torch.distributed import TCPStore

from peft_sentiment.cli import main
from peft_sentiment.processes import joined_processes
from peft_sentiment.records.reviews import Reviews

PROGRAM = Path(__file__).with_name("dying_process.py")
WEIGHTS = "adapter_model.safetensors"


@pytest.fixture(scope="module")
def whole(
    tmp_path_factory: pytest.TempPathFactory, tiny_distilbert: Path, tiny_reviews: Reviews
) -> TinyRun:
    """A training by two processes that nothing has interrupted."""
    home = tmp_path_factory.mktemp("several")
    run = TinyRun(home, tiny_distilbert, write_reviews_csv(home / "reviews.csv", tiny_reviews))
    assert run_together(lambda: main(list_arguments(run)), is_joined=False) == [0, 0]
    return run


def list_arguments(run: TinyRun) -> list[str]:
    batch = ["--per-device-train-batch-size", "4", "--save-steps", "1"]
    return ["train", "--train-file", str(run.reviews), *run.settings, *batch]


def run_under_torchrun(run: TinyRun, restarts: int) -> "subprocess.CompletedProcess[str]":
    """Train by two processes of which one is killed at its sixth step."""
    launch = ["--nproc-per-node", "2", "--max-restarts", str(restarts), "--standalone"]
    return subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", *launch, PROGRAM, *list_arguments(run)],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "TORCH_CPP_LOG_LEVEL": "ERROR"},
    )


def read_steps(run: TinyRun) -> list[dict[str, Any]]:
    lines = (run.output / "steps.jsonl").read_text(encoding="utf-8").splitlines()
    return [{**json.loads(line), "seconds": 0} for line in lines]


def test_a_killed_process_comes_back_and_the_run_ends_as_if_nothing_had_happened(
    whole: TinyRun, tmp_path: Path
) -> None:
    run = dataclasses.replace(whole, home=tmp_path)
    done = run_under_torchrun(run, restarts=1)
    assert done.returncode == 0, done.stderr
    assert "Going on after step 5 of 8" in done.stdout
    assert (run.adapter / WEIGHTS).read_bytes() == (whole.adapter / WEIGHTS).read_bytes()
    assert read_steps(run) == read_steps(whole)


def test_processes_started_anew_do_not_call_those_that_are_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kept = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setenv("TORCHELASTIC_USE_AGENT_STORE", "True")
    # Which of two calls the other follows from their ports, so each is late some times.
    for start, late in enumerate([None, 0, 1, 0, 1, 0, 1]):
        monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", str(start))
        meet = functools.partial(meet_late, late)
        assert run_together(meet, is_joined=False, port=kept.port) == [2, 2]


def meet_late(late: int | None) -> int:
    """Return how many processes meet, one of which may come after the other."""
    if os.environ["RANK"] == str(late):
        time.sleep(0.3)
    with joined_processes("cpu") as processes:
        return processes.count


def test_a_killed_process_ends_the_others_and_one_process_can_go_on(
    whole: TinyRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = dataclasses.replace(whole, home=tmp_path)
    done = run_under_torchrun(run, restarts=0)
    assert done.returncode != 0
    assert "peft-sentiment: The connection to the other processes is lost" in done.stderr
    assert not run.adapter.exists()
    capsys.readouterr()
    assert main([*list_arguments(run), "--resume"]) == 0
    assert "Processes 1, 8 reviews a step, as it began with 2" in capsys.readouterr().out
    found, expected = read_steps(run), read_steps(whole)
    assert [step.get("reviews") for step in found] == [step.get("reviews") for step in expected]


def test_one_process_alone_prints_and_writes(
    whole: TinyRun, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = dataclasses.replace(whole, home=tmp_path)
    assert run_together(lambda: main(list_arguments(run)), is_joined=False) == [0, 0]
    assert capfd.readouterr().out.count("Adapter: ") == 1


def test_a_command_whose_frozen_weights_are_divided_ends_as_one_without(
    whole: TinyRun,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = dataclasses.replace(whole, home=tmp_path)
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    monkeypatch.setenv("FSDP_VERSION", "2")
    assert run_together(lambda: main(list_arguments(run)), is_joined=False) == [0, 0]
    assert "frozen weights are divided among the processes" in capfd.readouterr().out
    found, expected = (load_file(home.adapter / WEIGHTS) for home in (run, whole))
    assert {name: weight.shape for name, weight in found.items()} == {
        name: weight.shape for name, weight in expected.items()
    }
    assert main(["predict", "--adapter", str(run.adapter), "A film."]) == 0


def test_an_error_of_all_processes_is_told_once(
    whole: TinyRun, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "file").touch()
    run = dataclasses.replace(whole, home=tmp_path)
    assert run_together(lambda: call_main(run), is_joined=False) == [2, 2]
    told = capfd.readouterr().err
    assert told.count("peft-sentiment: ") == 1
    assert "peft-sentiment, process 1: " in told  # Nobody has ended it within its three seconds.


def call_main(run: TinyRun) -> int:
    """Return the exit code of the command line, however it ends."""
    try:
        return main(list_arguments(run))
    except SystemExit as end:
        return int(end.code or 0)
