"""A demonstration in the terminal: a few reviews, then whatever a person types or pipes in."""

import importlib.util
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from rich.console import Console

from peft_sentiment.data.texts import find_fault
from peft_sentiment.errors import DataError, SettingsError
from peft_sentiment.reporting.console import show_demo_rows
from peft_sentiment.reporting.explanation import show_explanations
from peft_sentiment.reporting.terminal import say
from peft_sentiment.serving.showcase import SAMPLE_REVIEWS, Showcase

EXPLAIN, ADAPTER, HELP = ":explain", ":adapter", ":help"
"""What to type for the words that spoke for the last label, for another adapter, for a list."""

CHUNK = 100
"""Piped reviews that are labelled at a time."""


def show_samples(console: Console, showcase: Showcase) -> None:
    """Score the sample reviews with the first adapter and, for comparison, without."""
    show_reviews(console, showcase, showcase.names[0], SAMPLE_REVIEWS)


def show_reviews(console: Console, showcase: Showcase, name: str, texts: Sequence[str]) -> None:
    """Score reviews with an adapter and, for comparison, with the untrained base."""
    rows = [
        (o.text, o.label, o.confidence, o.base_label, max(o.base.values()))
        for o in showcase.label(name, texts)
    ]
    show_demo_rows(console, rows)


def label_lines(console: Console, showcase: Showcase, lines: Iterable[str]) -> None:
    """Score reviews that are piped in, one a line; the samples where there are none."""
    chunk: list[str] = []
    is_any = False
    for number, line in enumerate(lines, start=1):
        if text := line.strip():
            if fault := find_fault(text):
                raise DataError(f"Line {number} {fault}")
            chunk.append(text)
        if len(chunk) == CHUNK:
            show_reviews(console, showcase, showcase.names[0], chunk)
            chunk, is_any = [], True
    if chunk:
        show_reviews(console, showcase, showcase.names[0], chunk)
    elif not is_any:
        show_samples(console, showcase)


def ask_for_reviews(
    console: Console, showcase: Showcase, read_line: Callable[[str], str] = input
) -> None:
    """Score what is typed, a review a line, until an empty line, the end of input or Ctrl-C."""
    if importlib.util.find_spec("readline") is not None:
        import readline  # noqa: F401 - gives `input` arrow keys and a history
    say(console, f"Type a review to try it; {HELP} lists what else there is; an empty line ends.")
    conversation = Conversation(console, showcase)
    while True:
        try:
            line = read_line("> ").strip()
        except (EOFError, KeyboardInterrupt):
            console.print()
            return
        if not line:
            return
        conversation.answer(line)


@dataclass
class Conversation:
    """What the terminal remembers: the adapter in use, and the review that was typed last."""

    console: Console
    showcase: Showcase
    adapter: str = ""
    last: str = SAMPLE_REVIEWS[0]

    def __post_init__(self) -> None:
        self.adapter = self.adapter or self.showcase.names[0]

    def answer(self, line: str) -> None:
        """Do what a line asks for: label it, or follow a command."""
        command, _, rest = line.partition(" ")
        if command == EXPLAIN:
            self._explain(rest.strip() or self.last)
        elif command == ADAPTER:
            self._choose(rest.strip())
        elif command == HELP:
            self._list_commands()
        else:
            show_reviews(self.console, self.showcase, self.adapter, [line])
            self.last = line

    def _explain(self, text: str) -> None:
        """Show which words spoke for a review's label, or what is missing to tell."""
        self.last = text
        try:
            show_explanations(self.console, [self.showcase.explain(self.adapter, text)])
        except SettingsError as error:
            say(self.console, str(error))

    def _choose(self, name: str) -> None:
        if name in self.showcase.names:
            self.adapter = name
            show_reviews(self.console, self.showcase, name, [self.last])
            return
        there = ", ".join(self.showcase.names)
        found = f"There is no adapter {name!r}" if name else f"{self.adapter} is in use"
        say(self.console, f"{found}; there is: {there}. Choose with: {ADAPTER} NAME")

    def _list_commands(self) -> None:
        say(self.console, f"{EXPLAIN}         which words spoke for the last review's label")
        say(self.console, f"{EXPLAIN} TEXT    the same of another review")
        say(self.console, f"{ADAPTER} NAME    another adapter: {', '.join(self.showcase.names)}")
        say(self.console, "an empty line    ends")
