"""Scoring by several workers gives what one gives, and no loss of a worker changes it."""

import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyarrow import parquet
from tiny_runs import TinyRun

from peft_sentiment.cli import main
from peft_sentiment.errors import SettingsError
from peft_sentiment.scale.records import Columns
from peft_sentiment.scale.scoring import Job, PartScorer, Pool, choose_demand, score_files
from peft_sentiment.scale.store import FAULTS_FOLDER

ROWS = 200


@pytest.fixture(scope="module")
def local_ray() -> Iterator[None]:
    """A Ray of two workers for the tests of this file."""
    from peft_sentiment.scale.scoring import import_ray, running_ray

    with running_ray(import_ray(), Pool(workers=2)):
        yield


@pytest.fixture
def job(finished_tiny_run: TinyRun, tmp_path: Path) -> Job:
    """The tiny reviews with keys of their own, in parts of 10."""
    source = finished_tiny_run.reviews.read_text(encoding="utf-8").splitlines()
    rows = [f"id-{i},{row}" for i, row in enumerate(source[1:])]
    path = tmp_path / "reviews.csv"
    path.write_text("\n".join([f"id,{source[0]}", *rows]) + "\n", encoding="utf-8")
    output = str(tmp_path / "labels")
    return Job(
        str(finished_tiny_run.adapter), {}, str(path), Columns("text", "id"), output, rows=10
    )


def read_told(capsys: pytest.CaptureFixture[str]) -> str:
    return " ".join(capsys.readouterr().out.split())


def read_labels(job: Job) -> dict[str, str]:
    table = parquet.read_table(sorted(Path(job.output).glob("part-*.parquet"))).to_pydict()
    assert len(set(table["key"])) == len(table["key"])
    return dict(zip(table["key"], table["label"], strict=True))


def label_offline(job: Job, tmp_path: Path) -> dict[str, str]:
    output = tmp_path / "offline.parquet"
    arguments = ["--adapter", job.adapter, "--file", job.pattern, "--output", str(output)]
    assert main(["predict", *arguments]) == 0
    return {
        f"id-{i}": label for i, label in enumerate(parquet.read_table(output)["label"].to_pylist())
    }


@pytest.mark.usefixtures("local_ray")
def test_a_worker_killed_in_the_middle_changes_no_label(job: Job, tmp_path: Path) -> None:
    expected, killed = label_offline(job, tmp_path), []
    for done in score_files(job, Pool(workers=2)):
        if len(killed) < 1:
            os.kill(int(done.process), signal.SIGKILL)
            killed.append(done.process)
    assert read_labels(job) == expected
    assert len(expected) == ROWS
    assert list(score_files(job, Pool(workers=2))) == []


@pytest.mark.usefixtures("local_ray")
def test_the_command_goes_on_with_a_job_and_sets_broken_rows_aside(
    job: Job, capsys: pytest.CaptureFixture[str]
) -> None:
    with Path(job.pattern).open("a", encoding="utf-8") as file:
        file.write("id-bad,too,many,fields\n")
    flags = {"--adapter": job.adapter, "--file": job.pattern, "--output": job.output}
    columns = ["--key-column", "id", "--rows-per-part", "100"]
    flat = [part for flag in flags.items() for part in flag]
    arguments = ["predict", "--engine", "ray", *flat, *columns]
    assert main([*arguments, "--workers", "1"]) == 0
    told = read_told(capsys)
    assert "200 reviews labelled" in told
    assert "1 broken rows" in told
    (fault,) = (Path(job.output) / FAULTS_FOLDER).iterdir()
    assert json.loads(fault.read_text(encoding="utf-8"))["row"] == ROWS + 1
    parts = {path: path.stat().st_mtime_ns for path in Path(job.output).glob("part-*")}
    lost = sorted(parts)[1]
    lost.unlink()
    assert main(arguments) == 0
    assert "100 reviews labelled" in read_told(capsys)
    assert lost.is_file()
    assert all(path.stat().st_mtime_ns == parts[path] for path in parts if path != lost)
    assert main(arguments) == 0
    assert "Nothing was left to do" in capsys.readouterr().out


def test_a_part_that_is_there_is_not_scored_again(job: Job) -> None:
    from peft_sentiment.scale.scoring import prepare_job

    part = next(iter(prepare_job(job)))
    scorer = PartScorer(job)
    first, again = scorer.score(part), scorer.score(part)
    assert (first.is_new, first.rows, again.is_new, again.rows) == (True, 10, False, 0)
    assert len(list(prepare_job(job))) == ROWS // 10 - 1


@pytest.mark.parametrize(
    ("resources", "workers", "demand"),
    [
        ({"CPU": 8.0}, None, {"workers": 8, "num_cpus": 1}),
        ({"CPU": 8.0}, 3, {"workers": 3, "num_cpus": 1}),
        ({"CPU": 64.0, "GPU": 4.0}, None, {"workers": 4, "num_gpus": 1}),
        ({"CPU": 64.0}, None, {"workers": 20, "num_cpus": 1}),
    ],
)
def test_there_is_a_worker_for_each_core_or_gpu_but_no_idle_one(
    resources: dict[str, float], workers: int | None, demand: dict[str, int]
) -> None:
    assert choose_demand(resources, workers, parts=20) == demand


def test_without_ray_the_message_names_the_extra(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(SettingsError, match=r"peft-sentiment\[ray\]"):
        next(score_files(job, Pool()))


@pytest.mark.parametrize("arguments", [["a text"], ["--file", "a.csv"], ["--output", "labels"]])
def test_the_engine_asks_for_files_and_a_folder(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", "--engine", "ray", *arguments]) == 2
    assert "--engine ray labels files" in capsys.readouterr().err


def test_the_engine_reads_utf8_alone(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["predict", "--engine", "ray", "--file", "a.csv", "--output", "labels"]
    folder = ["--adapter", "no-such-folder"]
    assert main([*arguments, *folder, "--encoding", "cp1252"]) == 2
    assert "--engine ray reads UTF-8" in capsys.readouterr().err
    assert main([*arguments, *folder, "--encoding", "UTF-8"]) == 2
    assert "no-such-folder: no such adapter" in capsys.readouterr().err
