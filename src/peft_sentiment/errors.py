"""Every error that a user can cause or meet, in one tree.

    PeftSentimentError          exit code 2, one message without a traceback
    |-- SettingsError           a flag, a TOML file or an argument
    |-- DataError               a data file, its rows and labels, the split
    |   |-- BadRowError         a row that can't be used, in a file whose others can
    |   `-- RefusedRowsError    rows that `check` found and training would refuse; exit code 1
    |-- ModelError              an encoder: missing, corrupt, not supported
    |   |-- AdapterError        a saved adapter's folder
    |   `-- ExportError         an exported model: damaged, or too unlike its original
    |-- HubError                the model hub: unreachable, or without what was asked for
    |-- OutputError             a folder or file that can't be written
    |-- CheckpointError         a checkpoint that is damaged, or of another run
    |-- DeviceMemoryError       memory ran out
    |-- DivergenceError         the loss is no number any more, or that of guessing
    |-- ClusterError            Ray can't be reached, or has given up
    |-- ProcessError            one of several processes that work together has ended
    `-- InterruptionError       Ctrl-C (exit code 130) or SIGTERM (143) during training

A message says where, what was found, what is needed and what to do. `cli.main` alone turns an
error into a message and an exit code; any other exception is a bug and keeps its traceback.
"""

import difflib
from collections.abc import Sequence


class PeftSentimentError(Exception):
    """Base of all errors that end in a message instead of a traceback."""

    exit_code = 2


class SettingsError(PeftSentimentError):
    """A setting that is unknown, malformed or out of range."""


class DataError(PeftSentimentError):
    """Data that is missing, unreadable or contradicts the settings."""


class BadRowError(DataError):
    """A row that can't be used, in a file whose other rows can.

    Attributes:
        place: of the row, such as 'reviews.csv, line 7'.
        problem: what is wrong with it, and what to do.
    """

    def __init__(self, place: str, problem: str) -> None:
        super().__init__(f"{place}: {problem}")
        self.place = place
        self.problem = problem


class RefusedRowsError(DataError):
    """A file that can be read, with rows that training would refuse."""

    exit_code = 1


class ModelError(PeftSentimentError):
    """An encoder that is missing, corrupt or not supported."""


class AdapterError(ModelError):
    """A saved adapter that is incomplete, corrupt or made for another base."""


class ExportError(ModelError):
    """An exported model that is damaged, or says too often something else than its original."""


class HubError(PeftSentimentError):
    """A model hub that can't be reached or does not have what was asked for."""


class OutputError(PeftSentimentError):
    """A place that can't be written to."""


class DeviceMemoryError(PeftSentimentError):
    """Memory ran out; the message names the flags that help."""


class CheckpointError(PeftSentimentError):
    """A checkpoint that is damaged, or of a run with other settings."""


class DivergenceError(PeftSentimentError):
    """The loss became infinite or not a number, or that of guessing again.

    Attributes:
        step: optimizer step at which it did.
        reviews: places of that step's reviews among the training reviews, if it is their doing.
    """

    def __init__(self, message: str, step: int = 0, reviews: Sequence[int] = ()) -> None:
        super().__init__(message)
        self.step = step
        self.reviews = reviews


class ClusterError(PeftSentimentError):
    """The engine that scores on several workers can't be reached, or has given up."""


class ProcessError(PeftSentimentError):
    """One of the processes that do a command together has ended, or can't be reached."""

    exit_code = 1


class InterruptionError(PeftSentimentError):
    """Training was stopped from outside; the message says what is saved.

    Attributes:
        exit_code: 128 and the number of the signal, as shells have it.
    """

    def __init__(self, message: str, exit_code: int = 130) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def build_missing_error(need: str, library: str, extra: str, otherwise: str = "") -> SettingsError:
    """Return the error of an optional library that is needed and not installed.

    Args:
        need: what needs it, such as "The page needs".
        library: its name.
        extra: of this package, that brings it.
        otherwise: what else may be done, as the end of the sentence.
    """
    return SettingsError(
        f"{need} {library}, which is not installed. "
        f"Install it with: {name_install(extra)}{otherwise}."
    )


def name_install(extra: str) -> str:
    """Return the command that installs an extra of this package."""
    return f"pip install 'peft-sentiment[{extra}]'"


def suggest(name: str, known: list[str]) -> str:
    """Return a sentence that names what was probably meant, or else all there is."""
    nearest = find_nearest(name, known)
    return f"There is: {', '.join(known)}." if nearest is None else f"Did you mean {nearest}?"


def find_nearest(name: str, known: list[str]) -> str | None:
    """Return the known name that was probably meant, or None where none is alike."""
    return next(iter(difflib.get_close_matches(name, known, n=1)), None)
