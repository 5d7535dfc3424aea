"""Ctrl-C and SIGTERM: put off while work is in a state that can't be kept, and told apart."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from peft_sentiment.errors import InterruptionError

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Termination(KeyboardInterrupt):
    """SIGTERM, as Python has Ctrl-C."""


@dataclass
class StopRequest:
    """Whether a signal has asked to stop.

    Attributes:
        signal: its number; 0 while nobody has asked.
    """

    signal: int = 0

    def __bool__(self) -> bool:
        """Tell whether to stop."""
        return self.signal != 0

    @property
    def exit_code(self) -> int:
        """What a program that was stopped by it returns, as shells have it.

        Where the signal has come to another process of the same command, that of SIGTERM.
        """
        return 128 + (self.signal or signal.SIGTERM)


@contextmanager
def signals_put_off() -> Iterator[StopRequest]:
    """Note the first Ctrl-C or SIGTERM of this block; a second one raises at once.

    In a thread other than the main one, where signals never arrive, nothing is changed.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return

    def note(number: int, frame: FrameType | None) -> None:
        if request:
            raise_interruption(number, frame)
        request.signal = number

    before = {number: signal.signal(number, note) for number in SIGNALS}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def raise_interruption(number: int, _frame: FrameType | None) -> None:
    """Raise what a signal stands for; a signal handler.

    Raises:
        KeyboardInterrupt: always; a `Termination` for SIGTERM.
    """
    raise Termination if number == signal.SIGTERM else KeyboardInterrupt


def get_exit_code(stop: KeyboardInterrupt) -> int:
    """Return what a program that was stopped returns, as shells have it."""
    return 128 + (signal.SIGTERM if isinstance(stop, Termination) else signal.SIGINT)


@contextmanager
def stop_told(words: str) -> Iterator[None]:
    """Say something when a signal ends this block.

    Raises:
        InterruptionError: in the place of KeyboardInterrupt.
    """
    try:
        yield
    except KeyboardInterrupt as stop:
        raise InterruptionError(words, get_exit_code(stop)) from None


@contextmanager
def termination_raised() -> Iterator[None]:
    """Let SIGTERM raise in this block, as Ctrl-C does, so that what is half written goes.

    In a thread other than the main one, where signals never arrive, nothing is changed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, raise_interruption)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
