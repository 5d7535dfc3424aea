"""Plain text on a terminal, whatever is in it.

Everything that comes from outside (reviews, label names, paths) goes through `clean` and into
`Text`, so that neither Rich's markup nor a terminal's control sequences in it take effect.
"""

import re

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

# Control characters (ESC among them), line separators, and those that turn the writing direction.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]+")


def build_table(first: str, *columns: str) -> Table:
    """Return an empty table whose first column holds names and whose others hold numbers."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    # Names too long for their column are folded: an ASCII terminal can't show an ellipsis.
    table.add_column(Text(first), overflow="fold")
    for column in columns:
        table.add_column(Text(column), justify="right", overflow="fold")
    return table


def say(console: Console, words: str) -> None:
    """Print a sentence, which may hold anything, as plain text."""
    console.print(Text(clean(console, words)))


def say_line(console: Console, words: str) -> None:
    """Print without wrapping, so that a line of a log stays a line."""
    console.print(Text(words), soft_wrap=True)


def clean(console: Console, words: str) -> str:
    """Return text on one line that can do a terminal no harm and that its encoding can hold."""
    line = " ".join(_CONTROL.sub(" ", words).split())
    return line.encode(console.encoding, "replace").decode(console.encoding)
