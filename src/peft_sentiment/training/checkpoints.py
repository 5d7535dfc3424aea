"""Checkpoints: a training between two steps, as a folder of safetensors and JSON.

A folder is written aside, flushed to disk and renamed into its place, so a name like
`checkpoint-50` always stands for a whole one; a manifest of sha256 sums tells what has been damaged
since. The base is not in it: a checkpoint takes what the trained weights take, four times, or
five where they are averaged.

    checkpoint-50/
      state.safetensors    trained weights, their mean and best, moments, random states
      state.json           step, schedule, best validation, and what the training is
      steps.jsonl          a line for every step and validation so far
      manifest.json        sha256 of the files above
"""

import contextlib
import dataclasses
import json
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from peft_sentiment.errors import CheckpointError
from peft_sentiment.files import compute_sha256, replacing_folder
from peft_sentiment.records import ContrastRecord, StepRecord, ValidationRecord, build_record
from peft_sentiment.training.identity import TrainingIdentity, as_json

FORMAT_VERSION = 1
TENSORS_FILE, STATE_FILE, STEPS_FILE = "state.safetensors", "state.json", "steps.jsonl"
MANIFEST_FILE = "manifest.json"
FILES = (TENSORS_FILE, STATE_FILE, STEPS_FILE)

NAME = re.compile(r"checkpoint-(\d+)")
EVENT_KINDS = {kind.__name__: kind for kind in (ContrastRecord, StepRecord, ValidationRecord)}

Event = ContrastRecord | StepRecord | ValidationRecord
Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True)
class BestSoFar:
    """The best validation of a training so far.

    Attributes:
        record: of that validation.
        waited: validations since then.
        weights: the trained weights at that time, by name.
    """

    record: ValidationRecord
    waited: int
    weights: Tensors


@dataclass(frozen=True)
class Checkpoint:
    """All that a training needs to go on from one of its steps as if nothing had happened.

    Attributes:
        identity: which training it is.
        step: steps done, which is the position in the data, too.
        events: records of all steps and validations so far.
        weights: the trained weights, by name.
        optimizer: its `state_dict`.
        schedule: its `state_dict`.
        scaler: that of the gradient scaler, with fp16.
        random_states: of torch's generators, by device.
        ranks: what AdaLoRA knows of the importance of its ranks; empty with other methods.
        rank_pattern: which of them are in use.
        best: the best validation so far, if there was one.
        average: the mean of the trained weights so far, by name; empty where there is none.
    """

    identity: TrainingIdentity
    step: int
    events: tuple[Event, ...]
    weights: Tensors
    optimizer: dict[str, Any]
    schedule: dict[str, Any]
    scaler: dict[str, Any] | None
    random_states: Tensors
    ranks: Tensors
    rank_pattern: dict[str, list[bool]]
    best: BestSoFar | None
    average: Tensors = dataclasses.field(default_factory=dict)

    @property
    def steps(self) -> int:
        """Steps that the training is to have."""
        return next(e.steps for e in reversed(self.events) if isinstance(e, StepRecord))


def save_checkpoint(checkpoint: Checkpoint, folder: Path) -> Path:
    """Write a checkpoint into `folder`, whole or not at all; return its own folder.

    Raises:
        OutputError: it can't be written.
    """
    path = folder / f"checkpoint-{checkpoint.step}"
    moments, optimizer = _split_optimizer(checkpoint.optimizer)
    tensors = {
        **_prefix("weights", checkpoint.weights),
        **_prefix("optimizer", moments),
        **_prefix("random", checkpoint.random_states),
        **_prefix("ranks", checkpoint.ranks),
        **_prefix("average", checkpoint.average),
        **_prefix("best", checkpoint.best.weights if checkpoint.best else {}),
    }
    best = checkpoint.best
    state = {
        "format_version": FORMAT_VERSION,
        "step": checkpoint.step,
        "optimizer": optimizer,
        "schedule": checkpoint.schedule,
        "scaler": checkpoint.scaler,
        "rank_pattern": checkpoint.rank_pattern,
        "best": best and {"record": dataclasses.asdict(best.record), "waited": best.waited},
        "identity": as_json(checkpoint.identity),
    }
    with replacing_folder(path) as draft:
        save_file(
            {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()},
            draft / FILES[0],
        )
        (draft / STATE_FILE).write_text(json.dumps(state, indent=1), encoding="utf-8")
        (draft / STEPS_FILE).write_text(render_events(checkpoint.events), encoding="utf-8")
        sums = {name: compute_sha256(draft / name) for name in FILES}
        (draft / MANIFEST_FILE).write_text(json.dumps(sums, indent=1), encoding="utf-8")
    return path


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint, after checking every file of it.

    Raises:
        CheckpointError: a file is missing, damaged or not of this version.
    """
    with _checkpoint_errors(path):
        _require_undamaged(path)
        state = json.loads((path / STATE_FILE).read_text(encoding="utf-8"))
        if state["format_version"] != FORMAT_VERSION:
            raise ValueError(f"format {state['format_version']}, needed is {FORMAT_VERSION}")
        parts = _group_by_prefix(load_file(path / TENSORS_FILE))
        best = state["best"]
        return Checkpoint(
            identity=build_record(TrainingIdentity, state["identity"]),
            step=state["step"],
            events=tuple(parse_events((path / STEPS_FILE).read_text(encoding="utf-8"))),
            weights=parts.get("weights", {}),
            optimizer=_join_optimizer(parts.get("optimizer", {}), state["optimizer"]),
            schedule=state["schedule"],
            scaler=state["scaler"],
            random_states=parts["random"],
            ranks=parts.get("ranks", {}),
            rank_pattern=state["rank_pattern"],
            average=parts.get("average", {}),
            best=best
            and BestSoFar(
                build_record(ValidationRecord, best["record"]),
                best["waited"],
                parts.get("best", {}),
            ),
        )


def list_checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints in a folder, the newest first."""
    items = folder.iterdir() if folder.is_dir() else ()
    steps = {int(match[1]): item for item in items if (match := NAME.fullmatch(item.name))}
    return [steps[step] for step in sorted(steps, reverse=True)]


def remove_checkpoint(path: Path) -> None:
    """Remove a checkpoint, which never stands half removed under its name."""
    doomed = path.with_name(f".{path.name}.removed")
    shutil.rmtree(doomed, ignore_errors=True)
    with contextlib.suppress(FileNotFoundError):
        path.rename(doomed)
    shutil.rmtree(doomed, ignore_errors=True)


def remove_leftovers(folder: Path) -> None:
    """Remove what processes that were killed have left of checkpoints; none may be at work."""
    for path in folder.glob(".checkpoint-*"):
        shutil.rmtree(path, ignore_errors=True)


def render_events(events: Iterable[Event]) -> str:
    """Return records of steps and validations as JSON, one a line."""
    lines = (
        json.dumps({"kind": type(event).__name__, **dataclasses.asdict(event)}) for event in events
    )
    return "".join(f"{line}\n" for line in lines)


def parse_events(text: str) -> Iterator[Event]:
    """Yield the records of steps and validations that `render_events` has rendered."""
    for line in text.splitlines():
        values = json.loads(line)
        yield build_record(EVENT_KINDS[values.pop("kind")], values)


def _require_undamaged(path: Path) -> None:
    sums = json.loads((path / MANIFEST_FILE).read_text(encoding="utf-8"))
    for name in FILES:
        found = compute_sha256(path / name)
        if found != sums[name]:
            raise ValueError(f"{name}: its sha256 is {found[:12]}, but was {str(sums[name])[:12]}")


def _split_optimizer(state: Mapping[str, Any]) -> tuple[Tensors, dict[str, Any]]:
    """Divide an optimizer's state into tensors by `place.name`, and what JSON can hold."""
    tensors: Tensors = {}
    numbers: dict[str, dict[str, Any]] = {}
    for place, entries in state["state"].items():
        for name, value in entries.items():
            if isinstance(value, torch.Tensor):
                tensors[f"{place}.{name}"] = value
            else:
                numbers.setdefault(str(place), {})[name] = value
    return tensors, {"param_groups": state["param_groups"], "numbers": numbers}


def _join_optimizer(tensors: Tensors, rest: Mapping[str, Any]) -> dict[str, Any]:
    state: dict[int, dict[str, Any]] = {
        int(place): dict(entries) for place, entries in rest["numbers"].items()
    }
    for key, tensor in tensors.items():
        place, _, name = key.partition(".")
        state.setdefault(int(place), {})[name] = tensor
    return {"state": state, "param_groups": rest["param_groups"]}


def _prefix(prefix: str, tensors: Tensors) -> Tensors:
    return {f"{prefix}/{name}": tensor for name, tensor in tensors.items()}


def _group_by_prefix(tensors: Tensors) -> dict[str, Tensors]:
    groups: dict[str, Tensors] = {}
    for key, tensor in tensors.items():
        prefix, _, name = key.partition("/")
        groups.setdefault(prefix, {})[name] = tensor
    return groups


@contextlib.contextmanager
def _checkpoint_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except (
        SafetensorError, OSError, ValueError, KeyError, TypeError, AttributeError,
    ) as error:  # fmt: skip
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise CheckpointError(
            f"{path}: the checkpoint is damaged or not of this version ({reason}). "
            "Remove it; the one before it, or a new start, leads to the same result."
        ) from error
