"""When checkpoints are written, and which of them are kept."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from peft_sentiment.config import OutputSettings
from peft_sentiment.errors import CheckpointError
from peft_sentiment.training.checkpoints import (
    Checkpoint,
    list_checkpoints,
    load_checkpoint,
    remove_checkpoint,
    remove_leftovers,
    save_checkpoint,
)
from peft_sentiment.training.identity import TrainingIdentity

SECONDS_PER_MINUTE = 60.0
LEAST_WORK = 50.0
"""Times the seconds of writing a checkpoint that must pass before time alone asks for the next
one: writing then takes less than 2 % of a training."""


@dataclass
class CheckpointSaver:
    """Writes a training's checkpoints as it goes on.

    Attributes:
        folder: of the checkpoints.
        settings: how often to write one, and how many to keep.
        identity: which training it is.
        start: the checkpoint it goes on from.
        is_stopping: tells whether this process is asked to stop after the present step.
        is_stopped: whether the training has stopped because a process was asked to.
        clock: seconds that no one can set back.
        seconds: spent on writing so far.
        written: checkpoints so far.
    """

    folder: Path
    settings: OutputSettings
    identity: TrainingIdentity
    start: Checkpoint | None = None
    is_stopping: Callable[[], bool] = lambda: False
    clock: Callable[[], float] = time.monotonic
    is_stopped: bool = False
    seconds: float = 0.0
    written: int = 0
    _own: list[Path] = field(default_factory=list)
    _last: float = 0.0
    _cost: float = 0.0

    def __post_init__(self) -> None:
        self._last = self.clock()
        if self.start is not None:
            self._own.append(self.folder / f"checkpoint-{self.start.step}")

    @property
    def newest(self) -> Path | None:
        """The newest checkpoint of this training, if there is one."""
        return self._own[-1] if self._own else None

    def offer(self, step: int, is_last: bool, capture: Callable[[], Checkpoint]) -> None:
        """Write a checkpoint if one is due after this step.

        Args:
            step: that has been done.
            is_last: whether the training ends with it.
            capture: gives the checkpoint.

        Raises:
            OutputError: it can't be written; those before it are as they were.
        """
        if is_last or self.is_stopping() or self._is_due(step):
            self.save(capture())

    def save(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint, and remove those that are not to be kept."""
        start = self.clock()
        path = save_checkpoint(checkpoint, self.folder)
        self._own = [*(own for own in self._own if own != path), path]
        self._own = self._own[-self.settings.save_total_limit :]
        for old in list_checkpoints(self.folder):
            if old not in self._own:
                remove_checkpoint(old)
        remove_leftovers(self.folder)
        self._last = self.clock()
        self._cost = self._last - start
        self.seconds += self._cost
        self.written += 1

    def _is_due(self, step: int) -> bool:
        settings = self.settings
        if settings.save_steps and step % settings.save_steps == 0:
            return True
        wait = max(settings.save_minutes * SECONDS_PER_MINUTE, LEAST_WORK * self._cost)
        return settings.save_minutes > 0 and self.clock() - self._last >= wait


@dataclass(frozen=True)
class Search:
    """What was found in a folder of checkpoints.

    Attributes:
        checkpoint: the newest whole one of the training that is looked for.
        damaged: what is wrong with newer ones, a message each.
        other: the newest whole one of another training.
    """

    checkpoint: Checkpoint | None
    damaged: tuple[str, ...]
    other: Checkpoint | None


def find_checkpoint(folder: Path, identity: TrainingIdentity) -> Search:
    """Look for the newest whole checkpoint of a training."""
    damaged: list[str] = []
    other: Checkpoint | None = None
    for path in list_checkpoints(folder):
        try:
            checkpoint = load_checkpoint(path)
        except CheckpointError as error:
            damaged.append(str(error))
            continue
        if checkpoint.identity.sha256 == identity.sha256:
            return Search(checkpoint, tuple(damaged), other)
        other = other or checkpoint
    return Search(None, tuple(damaged), other)


def remove_checkpoints(folder: Path) -> None:
    """Remove all checkpoints of a folder, and the folder if nothing else is in it."""
    for path in list_checkpoints(folder):
        remove_checkpoint(path)
    remove_leftovers(folder)
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
