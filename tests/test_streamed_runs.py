"""`--streaming`, as users meet it."""

import dataclasses
import json
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet
from tiny_runs import TinyRun

from peft_sentiment.cli import main
from peft_sentiment.records.reviews import Reviews
from peft_sentiment.training.saving import CheckpointSaver

WEIGHTS = "adapter_model.safetensors"


@pytest.fixture
def folder(tiny_reviews: Reviews, tmp_path: Path) -> Path:
    """The tiny reviews in two Parquet files, and a copy of one of them under another name."""
    path = tmp_path / "reviews"
    path.mkdir()
    for name, places in {"a": range(120), "b": range(120, 200), "c": range(3)}.items():
        part = tiny_reviews.take(places)
        table = pa.table({"text": list(part.texts), "label": list(part.labels)})
        parquet.write_table(table, path / f"{name}.parquet")
    return path


@pytest.fixture
def run(tmp_path: Path, tiny_distilbert: Path, folder: Path) -> TinyRun:
    return TinyRun(tmp_path / "run", tiny_distilbert, folder)


def list_arguments(command: str, run: TinyRun) -> list[str]:
    cache = ["--token-cache-dir", str(run.reviews.parent / "cache")]
    streaming = ["--streaming", "--shuffle-buffer-size", "30", "--train-size", "full"]
    return [command, *run.arguments[1:], *streaming, *cache]


def test_a_run_of_all_parts_says_what_it_does_and_finds_its_files_again(
    run: TinyRun, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("peft_sentiment.streamed.SAMPLE", 50)
    companion = ["--companion", "tfidf", "--overwrite-adapter-dir"]
    assert main([*list_arguments("run", run), *companion]) == 0
    words = " ".join(capsys.readouterr().out.split())
    assert "MB written, token ids" in words
    assert "3 duplicates removed" in words
    assert "140 training, 20 validation, 40 test" in words
    assert "Baselines learn from 50 of 140 training reviews" in words
    results = json.loads((run.output / "results.json").read_text(encoding="utf-8"))
    assert results["data"]["train"] == sum(results["data"]["label_counts"].values()) == 140
    weights = (run.adapter / WEIGHTS).read_bytes()
    assert main([*list_arguments("train", run), *companion]) == 0
    assert "MB found, token ids" in " ".join(capsys.readouterr().out.split())
    assert (run.adapter / WEIGHTS).read_bytes() == weights


def test_a_streamed_adapter_knows_what_it_has_seen(
    run: TinyRun, tiny_reviews: Reviews, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(list_arguments("train", run)) == 0
    table = pa.table({"text": list(tiny_reviews.texts), "label": list(tiny_reviews.labels)})
    parquet.write_table(table, tmp_path / "seen.parquet")
    evaluate = ["evaluate", str(run.adapter)]
    assert main([*evaluate, "--test-file", str(tmp_path / "seen.parquet")]) == 2
    assert "160 of " in capsys.readouterr().err
    assert main(evaluate) == 2
    assert "--test-file" in capsys.readouterr().err


def test_a_stopped_run_goes_on_and_ends_as_if_it_had_not(
    run: TinyRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(list_arguments("train", run)) == 0
    stopped = dataclasses.replace(run, home=run.home.with_name("stopped"))
    arguments = [*list_arguments("train", stopped), "--save-steps", "1"]
    with monkeypatch.context() as patch:
        offer = CheckpointSaver.offer

        def stop(saver: CheckpointSaver, step: int, *rest: object) -> None:
            offer(saver, step, *rest)  # type: ignore[arg-type]
            if step == 5:
                raise KeyboardInterrupt

        patch.setattr(CheckpointSaver, "offer", stop)
        assert main(arguments) == 130
    assert not (stopped.adapter / WEIGHTS).exists()
    assert main([*arguments, "--resume"]) == 0
    assert (stopped.adapter / WEIGHTS).read_bytes() == (run.adapter / WEIGHTS).read_bytes()


@pytest.mark.parametrize("stage", [["--contrastive-epochs", "1"], ["--linear-probing"]])
def test_a_first_stage_for_few_labels_is_refused(
    run: TinyRun, capsys: pytest.CaptureFixture[str], stage: list[str]
) -> None:
    assert main([*list_arguments("train", run), *stage]) == 2
    assert "is for few labels, all in memory" in " ".join(capsys.readouterr().err.split())


def test_a_folder_needs_streaming(run: TinyRun, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(run.arguments) == 2
    assert "--streaming reads all Parquet files" in " ".join(capsys.readouterr().err.split())
