"""Runs that were stopped: found again, offered, gone on from; and what a stop leaves behind."""

import dataclasses
import hashlib
import json
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import torch
from rich.console import Console

from peft_sentiment.config import Settings
from peft_sentiment.data.batching import LabelledTokens
from peft_sentiment.errors import CheckpointError, DivergenceError, InterruptionError
from peft_sentiment.files import locked, write_text
from peft_sentiment.foundation import Foundation
from peft_sentiment.inference.classifier import SentimentClassifier
from peft_sentiment.interruptions import StopRequest, get_exit_code, signals_put_off, stop_told
from peft_sentiment.model.precision import Precision
from peft_sentiment.model.speed import AttentionForms
from peft_sentiment.processes import get_processes
from peft_sentiment.records import ContrastRecord, ValidationRecord
from peft_sentiment.records.reviews import Reviews
from peft_sentiment.reporting.numbers import as_percent
from peft_sentiment.reporting.unfinished import ask_to_resume, show_note
from peft_sentiment.training.checkpoints import Checkpoint, Event
from peft_sentiment.training.identity import (
    TrainingIdentity,
    list_differences,
    list_shifts,
    select_binding_settings,
)
from peft_sentiment.training.saving import CheckpointSaver, find_checkpoint, remove_checkpoints

CHECKPOINTS_FOLDER = "checkpoints"
INTERRUPTED_FOLDER = "interrupted"
DIVERGED_FILE = "diverged.jsonl"
GO_ON = "The same command with --resume goes on from there"


@contextmanager
def outputs_locked(settings: Settings) -> Iterator[None]:
    """Have the folders of a run to oneself, or to the processes that do it together.

    Raises:
        OutputError: another run is at work in one of them.
    """
    if not get_processes().is_main:
        yield
        return
    output, adapter = Path(settings.output.output_dir), Path(settings.output.adapter_dir).resolve()
    with ExitStack() as stack:
        stack.enter_context(locked(output, output / ".lock", "--output-dir"))
        beside = adapter.with_name(f".{adapter.name}.lock")
        stack.enter_context(locked(adapter, beside, "--adapter-dir"))
        yield


def make_paths_absolute(settings: Settings) -> Settings:
    """Return the settings with file names that hold in any working folder."""
    data = settings.data
    names = ("validation_file", "test_file", "unlabelled")
    given = {name: getattr(data, name) for name in names}
    found: dict[str, object] = {
        name: str(Path(file).resolve()) for name, file in given.items() if file is not None
    }
    if data.train_file is not None:
        found["train_file"] = [str(Path(file).resolve()) for file in data.train_file]
    return settings.updated({"data": found}, "paths")


def open_checkpoints(
    settings: Settings, console: Console, foundation: Foundation, resume: bool
) -> CheckpointSaver:
    """Return what writes the checkpoints of a run, and holds the one to go on from, if any.

    Args:
        settings: of the run.
        console: where to say what is found, and to ask.
        foundation: whose classifier takes over the precision of a run that is resumed.
        resume: whether to go on without asking.

    Raises:
        CheckpointError: the unfinished run that is to be resumed has other settings.
    """
    identity = identify_training(make_paths_absolute(settings), foundation)
    start = get_processes().agree(lambda: find_start(settings, console, identity, resume))
    classifier = foundation.classifier
    if start is not None:
        then = start.identity
        classifier.precision_ = take_over_precision(classifier.precision_, then)
        identity = dataclasses.replace(identity, precision=then.precision, processes=then.processes)
    folder = Path(settings.output.output_dir) / CHECKPOINTS_FOLDER
    return CheckpointSaver(folder, settings.output, identity, start)


def identify_training(settings: Settings, foundation: Foundation) -> TrainingIdentity:
    """Return what the training of these settings is.

    Args:
        settings: with absolute paths.
        foundation: of the training.
    """
    precision, environment = foundation.classifier.precision_, foundation.environment
    return TrainingIdentity(
        settings=select_binding_settings(settings.as_tables()),
        data_sha256=fingerprint_tokens((foundation.lessons.tokens, foundation.validation)),
        base_sha256=foundation.classifier.encoder_.sha256,
        precision={
            "dtype": precision.dtype_name,
            "attention_forms": {
                work: {str(length): form for length, form in forms.items()}
                for work, forms in vars(precision.attention_forms).items()
            },
        },
        environment={
            "device": environment.device,
            "threads": environment.threads,
            **{f"version of {name}": text for name, text in environment.versions.items()},
        },
        processes=get_processes().count,
    )


def fingerprint_tokens(parts: Sequence[LabelledTokens]) -> str:
    """Return a sha256 of token ids, lengths, labels and weights."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(json.dumps(part.label_names).encode())
        digest.update(part.targets.astype("<i8").tobytes())
        if part.weights is not None:
            digest.update(part.weights.astype("<f4").tobytes())
        digest.update(part.reviews.sha256.encode())
    return digest.hexdigest()


def find_start(
    settings: Settings, console: Console, identity: TrainingIdentity, resume: bool
) -> Checkpoint | None:
    """Return the checkpoint to go on from, if there is one and it is wanted.

    Without `resume` an unfinished run of the same settings is offered at a terminal, and named
    elsewhere.

    Raises:
        CheckpointError: `resume` is asked for, but what is there is a run of other settings.
    """
    folder = Path(settings.output.output_dir) / CHECKPOINTS_FOLDER
    found = find_checkpoint(folder, identity)
    for message in found.damaged:
        show_note(console, message)
    if found.checkpoint is None:
        if resume and found.other is not None:
            raise _refuse_other(folder, found.other, identity)
        if resume:
            show_note(console, f"{folder}: no checkpoint to resume; starting from the beginning.")
        return None
    name = f"{folder / f'checkpoint-{found.checkpoint.step}'}"
    steps = f"step {found.checkpoint.step:,} of {found.checkpoint.steps:,}"
    if not resume and not _is_wanted(console, name, steps):
        return None
    for shift in list_shifts(found.checkpoint.identity, identity):
        show_note(console, f"{shift}: the result may differ in its last digits.")
    show_note(console, f"Going on after {steps}, from {name}.")
    return found.checkpoint


def _is_wanted(console: Console, name: str, steps: str) -> bool:
    what = f"An unfinished run of these settings has reached {steps}."
    if console.is_terminal and sys.stdin.isatty():
        return ask_to_resume(console, what)
    show_note(
        console,
        f"{what} Starting from the beginning; --resume would go on from {name}, which the first "
        "checkpoint of this run replaces.",
    )
    return False


def _refuse_other(folder: Path, other: Checkpoint, identity: TrainingIdentity) -> CheckpointError:
    differences = "; ".join(list_differences(other.identity, identity))
    return CheckpointError(
        f"{folder}: the unfinished run, at step {other.step:,}, is another one: {differences}. "
        "Give its settings to resume it, or leave out --resume to start anew."
    )


def take_over_precision(precision: Precision, identity: TrainingIdentity) -> Precision:
    """Return the precision of a training that is continued, on the device in use now.

    It is measured, and could come out differently today.
    """
    forms = AttentionForms(
        **{
            work: {int(length): form for length, form in of_work.items()}
            for work, of_work in identity.precision["attention_forms"].items()
        }
    )
    dtype = getattr(torch, identity.precision["dtype"])
    if (dtype, forms) == (precision.dtype, precision.attention_forms):
        return precision
    return Precision(precision.device, dtype, "as the resumed run began", forms)


@contextmanager
def told_how_to_go_on(saver: CheckpointSaver) -> Iterator[None]:
    """Say, when a signal ends this block, from which checkpoint the run can be resumed.

    Raises:
        InterruptionError: in the place of KeyboardInterrupt, where there is a checkpoint.
    """
    try:
        yield
    except KeyboardInterrupt as stop:
        checkpoint = saver.newest
        if checkpoint is None:
            raise
        raise InterruptionError(
            f"Stopped. The training so far is in {checkpoint}. {GO_ON}. Earlier results are "
            "unchanged.",
            get_exit_code(stop),
        ) from None


@contextmanager
def kept_whole(settings: Settings, last: str) -> Iterator[None]:
    """Let a signal wait until this block has stored what belongs together.

    Args:
        settings: of the run.
        last: name of the file that is written last.

    Raises:
        InterruptionError: a signal came; says what is stored, also where a second one came.
    """
    half = f"{describe_places(settings)}; without {last}, it is not whole. {GO_ON}."
    with stop_told(f"Stopped while results were being stored: {half}"), signals_put_off() as stop:
        yield
    if stop:
        remove_unfinished(settings)
        raise InterruptionError(
            f"Stopped. The run has finished: {describe_places(settings)}", stop.exit_code
        )


def describe_places(settings: Settings) -> str:
    """Return where a run's adapter and results are, in words."""
    output = settings.output
    return f"the adapter is in {output.adapter_dir}, the results in {output.output_dir}"


def save_interrupted(
    settings: Settings, classifier: SentimentClassifier, events: Sequence[Event], stop: StopRequest
) -> InterruptionError:
    """Save the adapter as it stands, away from the last finished run, and say where."""
    steps = [event.step for event in events if not isinstance(event, ContrastRecord)]
    if not steps:
        return InterruptionError(
            "Stopped in the first stage, on pairs of reviews, which has no checkpoints. The same "
            "command starts it anew. Earlier results are unchanged.",
            stop.exit_code,
        )
    step = max(steps)
    folder = _save_aside(settings, classifier)
    return InterruptionError(
        f"Stopped after step {step}. {GO_ON}. The adapter as it stands is saved in {folder}; try "
        f"it with: peft-sentiment demo {folder}. Earlier results are unchanged.",
        stop.exit_code,
    )


@contextmanager
def divergence_told(
    settings: Settings,
    classifier: SentimentClassifier,
    train: Reviews,
    saver: CheckpointSaver,
    events: Sequence[Event],
) -> Iterator[None]:
    """Keep what is left of a training that diverges in this block, and say where.

    Args:
        settings: of the run.
        classifier: that is trained; if there was a validation, with the best weights by then.
        train: the training reviews; those of a step whose loss is no number are listed.
        saver: of the checkpoints.
        events: of the training, as they come.

    Raises:
        DivergenceError: with the places of the list, the last good checkpoint and the adapter.
    """
    try:
        yield
    except DivergenceError as error:
        said = [str(error)]
        if error.reviews:
            path = _list_diverged(settings, train, error)
            count = len(error.reviews)
            said.append(f"The {count} reviews of that step are listed in {path}.")
            if saver.newest:
                said.append(f"The last good checkpoint is {saver.newest}.")
        best = [event for event in events if isinstance(event, ValidationRecord) and event.is_best]
        if best:
            folder = _save_aside(settings, classifier)
            said.append(
                f"The best weights until then, of step {best[-1].step} (accuracy "
                f"{as_percent(best[-1].accuracy)} on validation), are saved in {folder}; try them "
                f"with: peft-sentiment demo {folder}."
            )
        said.append("Earlier results are unchanged.")
        raise DivergenceError(" ".join(said), error.step, error.reviews) from error


def _list_diverged(settings: Settings, train: Reviews, error: DivergenceError) -> Path:
    """Write the reviews of the step at which a training has diverged; return where."""
    path = Path(settings.output.output_dir) / DIVERGED_FILE
    chosen = train.take(list(error.reviews))
    rows = (
        json.dumps({"step": error.step, "text": text, "label": label})
        for text, label in zip(chosen.texts, chosen.labels, strict=True)
    )
    if get_processes().is_main:
        write_text(path, "".join(f"{row}\n" for row in rows))
    return path


def _save_aside(settings: Settings, classifier: SentimentClassifier) -> Path:
    """Save an adapter away from the last finished run; return where."""
    folder = Path(settings.output.output_dir) / CHECKPOINTS_FOLDER / INTERRUPTED_FOLDER
    if get_processes().is_main:
        classifier.save(folder)
    return folder


def remove_unfinished(settings: Settings) -> None:
    """Remove what a run has left in case it would be stopped, now that it has finished."""
    folder = Path(settings.output.output_dir) / CHECKPOINTS_FOLDER
    shutil.rmtree(folder / INTERRUPTED_FOLDER, ignore_errors=True)
    (Path(settings.output.output_dir) / DIVERGED_FILE).unlink(missing_ok=True)
    remove_checkpoints(folder)
