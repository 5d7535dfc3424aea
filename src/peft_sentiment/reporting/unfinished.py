"""Words about runs that were stopped."""

from rich.console import Console
from rich.prompt import Confirm
from rich.text import Text

from peft_sentiment.reporting.terminal import say


def show_note(console: Console, words: str) -> None:
    """Show one line about what was found and what is done about it."""
    say(console, words)


def ask_to_resume(console: Console, what: str) -> bool:
    """Ask at a terminal whether to go on with an unfinished run; yes by default."""
    return Confirm.ask(Text(f"{what} Go on with it?"), console=console, default=True)
