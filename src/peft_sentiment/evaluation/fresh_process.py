"""Logits of saved adapters in a process of its own, by our loader and by plain `peft`.

A process that has just trained an adapter has its weights in memory, so it is no witness of what
is on disk. `python -m peft_sentiment.evaluation.fresh_process FOLDER` is the other process.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from peft import PeftModel
from safetensors.numpy import load_file, save_file
from transformers import AutoModelForSequenceClassification

from peft_sentiment.config import ModelSettings
from peft_sentiment.data.batching import TokenizedReviews
from peft_sentiment.errors import AdapterError, PeftSentimentError
from peft_sentiment.evaluation.verification import Check, compare_logits, compute_padded_logits
from peft_sentiment.model.adapters import quiet_peft
from peft_sentiment.model.metadata import load_metadata
from peft_sentiment.model.saved_adapters import load_adapter

TIMEOUT = 1800.0
"""Seconds for all jobs together."""


@dataclass(frozen=True)
class Job:
    """An adapter to load.

    Attributes:
        adapter: its folder.
        base: folder of its base on this machine.
        pad_id: token that fills up short reviews.
    """

    adapter: str
    base: str
    pad_id: int


@dataclass(frozen=True)
class Answer:
    """What another process has computed.

    Attributes:
        ours: (N, C) logits by our loader, or why there are none.
        plain: (N, C) logits by plain peft, or why there are none.
    """

    ours: NDArray[np.float32] | str
    plain: NDArray[np.float32] | str


def load_elsewhere(jobs: Sequence[Job], reviews: TokenizedReviews) -> list[Answer]:
    """Load adapters in a new process, one after the other, and return what they say of reviews.

    Raises:
        AdapterError: the process ended without an answer.
    """
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        tokens = {f"{i:06}": ids for i, ids in enumerate(reviews.token_ids)}
        save_file(tokens, place / "tokens.safetensors")
        (place / "jobs.json").write_text(json.dumps([asdict(job) for job in jobs]))
        done = subprocess.run(  # noqa: S603 - our own module
            [sys.executable, "-m", "peft_sentiment.evaluation.fresh_process", folder],
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
            env={**os.environ, "TRANSFORMERS_VERBOSITY": "error"},
        )
        if done.returncode != 0:
            last = done.stderr.strip().rpartition("\n")[2]
            raise AdapterError(f"The process that was to load the adapter has failed: {last}.")
        return [_read_answer(place, i) for i in range(len(jobs))]


def _read_answer(place: Path, number: int) -> Answer:
    logits = load_file(place / f"{number}.safetensors")
    errors = json.loads((place / f"{number}.json").read_text(encoding="utf-8"))
    ours, plain = (logits.get(kind, errors.get(kind)) for kind in ("ours", "plain"))
    return Answer(ours, plain)


def check_answer(answer: Answer, expected: NDArray[np.float32]) -> Iterator[Check]:
    """Yield the checks that the other process says the same, by our loader and by plain peft."""
    for name, found in (("new process", answer.ours), ("plain peft", answer.plain)):
        if isinstance(found, str):
            yield Check(name, "fail", reason=found)
        else:
            yield compare_logits(name, found, expected)


def answer_jobs(folder: Path) -> None:
    """Load every adapter of `jobs.json`, and write its logits or the reason why there are none."""
    tokens = load_file(folder / "tokens.safetensors")
    ids = [tokens[name] for name in sorted(tokens)]
    reviews = TokenizedReviews(ids, np.zeros(len(ids), np.bool_))
    for number, values in enumerate(json.loads((folder / "jobs.json").read_text())):
        job, logits, errors = Job(**values), {}, {}
        for kind, load in (("ours", _load_ours), ("plain", _load_plain)):
            try:
                logits[kind] = compute_padded_logits(load(job), reviews, job.pad_id)
            except (PeftSentimentError, OSError, ValueError, KeyError, RuntimeError) as error:
                errors[kind] = f"{type(error).__name__}: {' '.join(str(error).split())}"
        save_file(logits, folder / f"{number}.safetensors")
        (folder / f"{number}.json").write_text(json.dumps(errors), encoding="utf-8")


def _load_ours(job: Job) -> torch.nn.Module:
    model, _, _ = load_adapter(Path(job.adapter), ModelSettings(), base_name=job.base)
    return model


def _load_plain(job: Job) -> torch.nn.Module:
    """Load an adapter as the documentation of peft has it."""
    labels = len(load_metadata(Path(job.adapter)).label_names)
    model = AutoModelForSequenceClassification.from_pretrained(
        job.base, num_labels=labels, use_safetensors=True, ignore_mismatched_sizes=True
    )
    if model.config.pad_token_id is None:
        model.config.pad_token_id = job.pad_id
    with quiet_peft():
        return PeftModel.from_pretrained(model, job.adapter)


if __name__ == "__main__":
    answer_jobs(Path(sys.argv[1]))
