"""What a run reports to experiment trackers, by Accelerate's own tracker classes."""

import importlib
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate.state import PartialState
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, GeneralTracker

from peft_sentiment.config import Settings
from peft_sentiment.errors import SettingsError
from peft_sentiment.processes import get_processes
from peft_sentiment.records import ContrastRecord, Scores, StepRecord, ValidationRecord

PROJECT = "peft-sentiment"

PACKAGES = {
    "tensorboard": ("tensorboard", "peft-sentiment[trackers]"),
    "mlflow": ("mlflow", "peft-sentiment[trackers]"),
    "wandb": ("wandb", "wandb"),
    "trackio": ("trackio", "trackio"),
}
"""Tracker -> the module that it needs, and what to install for it."""

STEP_VALUES = ("loss", "learning_rate", "grad_norm", "epoch")
VALIDATION_VALUES = ("accuracy", "f1", "log_loss")
TEST_VALUES = ("accuracy", "f1", "precision", "recall", "roc_auc", "log_loss")


@dataclass(frozen=True)
class Trackers:
    """The trackers of one run; without any, nothing is reported."""

    started: tuple[GeneralTracker, ...] = ()

    def log_event(self, event: ContrastRecord | StepRecord | ValidationRecord) -> None:
        """Report a step or a validation; a tracker's steps only rise, so not a first stage's."""
        if isinstance(event, ContrastRecord):
            return
        is_step = isinstance(event, StepRecord)
        names: Sequence[str] = STEP_VALUES if is_step else VALIDATION_VALUES
        prefix = "train" if is_step else "validation"
        self._log({f"{prefix}/{name}": getattr(event, name) for name in names}, event.step)

    def log_scores(self, model: str, scores: Scores, step: int) -> None:
        """Report a model's scores on the test reviews, as of a step."""
        values = {f"test/{model}/{name}": getattr(scores, name) for name in TEST_VALUES}
        self._log({name: value for name, value in values.items() if value is not None}, step)

    def _log(self, values: dict[str, float], step: int) -> None:
        for tracker in self.started:
            tracker.log(values, step=step)


@contextmanager
def open_trackers(settings: Settings) -> Iterator[Trackers]:
    """Start the trackers that the settings name, tell them the settings, and end them.

    TensorBoard and MLflow write into the output folder, unless MLflow's own variables name another
    place; Weights & Biases and Trackio go where their own variables say.

    Raises:
        SettingsError: the package of a tracker is not installed.
    """
    names = settings.training.report_to if get_processes().is_main else ()
    require_packages(names)
    folder = Path(settings.output.output_dir).resolve()
    with ExitStack() as stack:
        yield Trackers(tuple(_start(name, folder, settings, stack) for name in names))


def require_packages(names: Sequence[str]) -> None:
    """Check that the trackers' packages are there, before time is spent.

    Raises:
        SettingsError: one is not installed.
    """
    for name in names:
        module, package = PACKAGES[name]
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise SettingsError(
                f"training.report_to names {name}, whose package can't be imported ({error}). "
                f"Install it with: pip install '{package}'."
            ) from error


def _start(name: str, folder: Path, settings: Settings, stack: ExitStack) -> GeneralTracker:
    PartialState()  # Accelerate's trackers ask it whether this is the main process.
    folder.mkdir(parents=True, exist_ok=True)
    if name == "tensorboard":
        tracker = LOGGER_TYPE_TO_CLASS[name](PROJECT, logging_dir=str(folder / "tensorboard"))
    elif name == "mlflow":
        _place_mlflow(folder / "mlruns")
        tracker = LOGGER_TYPE_TO_CLASS[name](PROJECT)
    else:
        tracker = LOGGER_TYPE_TO_CLASS[name](PROJECT)
    tracker.start()
    stack.callback(tracker.finish)
    tracker.store_init_configuration(flatten_settings(settings))
    return tracker


def _place_mlflow(folder: Path) -> None:
    """Let MLflow write below the output folder, unless its user has said where."""
    if "MLFLOW_TRACKING_URI" in os.environ:
        return
    import mlflow

    # Its form for folders is no longer developed, but needs neither a server nor a database.
    os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow.set_tracking_uri(folder.as_uri())


def flatten_settings(settings: Settings) -> dict[str, Any]:
    """Return section.setting -> value, with what is neither number nor text written as text."""
    return {
        f"{section}.{name}": value if isinstance(value, bool | int | float | str) else str(value)
        for section, values in settings.as_tables().items()
        for name, value in values.items()
    }
