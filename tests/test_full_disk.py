"""A disk that is full at any write: a message with the place, and the last good state intact."""

import contextlib
import errno
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_runs import TinyRun, read_folder

from peft_sentiment import files
from peft_sentiment.cli import main
from peft_sentiment.errors import OutputError
from peft_sentiment.inference.classifier import SentimentClassifier
from peft_sentiment.training.checkpoints import list_checkpoints, load_checkpoint
from peft_sentiment.training.lower_layers import LowerLayersCache

WRITES = [
    "README.md", "adapter", "base.parquet", "checkpoint-8", "errors.json", "explanations.json",
    "peft.parquet", "report.html", "results.json", "settings.toml", "skipped_rows.jsonl",
    "steps.jsonl", "tfidf.parquet",
]  # fmt: skip
"""What a run writes, each whole or not at all."""


@contextlib.contextmanager
def size_limit(most: int) -> Iterator[None]:
    """Refuse every byte of a file beyond so many, as a full disk does; Python ignores SIGXFSZ."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def arguments(tiny_run: TinyRun) -> list[str]:
    """Of a run that writes everything there is."""
    content = tiny_run.reviews.read_bytes() + b"A film.,\r\n"
    flawed = tiny_run.home / "flawed.csv"
    flawed.write_bytes(content)
    flags = ["--train-file", str(flawed), "--skip-bad-rows", "--save-steps", "8"]
    return [*tiny_run.arguments, *flags, "--baselines", "tfidf"]


def limit_write(monkeypatch: pytest.MonkeyPatch, full: str | None) -> list[str]:
    """Fill the disk for the write of one name; list the names of all."""
    names: list[str] = []
    whole = files._draft_folder

    @contextlib.contextmanager
    def draft_folder(path: Path) -> Iterator[Path]:
        names.append(path.name)
        with whole(path) as folder, size_limit(16) if path.name == full else _no_limit():
            yield folder

    monkeypatch.setattr(files, "_draft_folder", draft_folder)
    return names


def _no_limit() -> contextlib.AbstractContextManager[None]:
    return contextlib.nullcontext()


def test_all_that_a_run_writes_is_tried_here(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = limit_write(monkeypatch, None)
    assert main(arguments) == 0
    assert sorted(set(names)) == WRITES


@pytest.mark.parametrize("name", WRITES)
def test_a_disk_that_is_full_at_any_write_of_a_run(
    name: str,
    arguments: list[str],
    tiny_run: TinyRun,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with monkeypatch.context() as patch:
        limit_write(patch, name)
        assert main(arguments) == 2
    message = capsys.readouterr().err
    assert f"{name}: can't be written (File too large). Make room" in message
    assert "Traceback" not in message
    assert not list(tiny_run.home.rglob("*.draft-*"))
    SentimentClassifier.load(tiny_run.adapter, bf16=False)
    for checkpoint in list_checkpoints(tiny_run.output / "checkpoints"):
        load_checkpoint(checkpoint)
    if name == "results.json":
        assert main([*arguments, "--resume"]) == 0
        assert "Going on after step" in capsys.readouterr().out


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_a_disk_that_is_full_at_the_labels(
    ending: str, finished_tiny_run: TinyRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / f"labels{ending}"
    output.write_text("before", encoding="utf-8")
    asked = ["predict", "--adapter", str(finished_tiny_run.adapter), "--output", str(output)]
    with size_limit(16):
        assert main([*asked, "--no-bf16", "--file", str(finished_tiny_run.reviews)]) == 2
    assert f"{output}: can't be written (File too large)" in capsys.readouterr().err
    assert read_folder(tmp_path) == {output.name: b"before"}


def test_room_for_the_lower_layers_is_made_before_it_is_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # Without it a full disk would be met in a write to memory, which kills the process.
    monkeypatch.setenv("PEFT_SENTIMENT_CACHE", str(tmp_path))
    lengths = np.full(10, 100, np.int32)
    with LowerLayersCache(lengths, 32, torch.float32) as cache:
        assert os.fstat(cache._file.fileno()).st_blocks * 512 >= 10 * 100 * 32 * 4

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    with pytest.raises(OutputError, match=r"no room for .*No space left on device"):
        LowerLayersCache(lengths, 32, torch.float32)
