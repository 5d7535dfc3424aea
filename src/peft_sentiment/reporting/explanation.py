"""Words for the terminal on which words spoke for a label."""

from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from peft_sentiment.records.explanation import Explanation, WordScore
from peft_sentiment.reporting.numbers import as_percent
from peft_sentiment.reporting.terminal import clean, say

NAMED = 5
"""Words named on each side."""

SHOWN_SHARE = 0.15
"""Of the strongest word's score: what a word needs to be coloured."""


def show_explanations(console: Console, explanations: Sequence[Explanation]) -> None:
    """Show each review with its words coloured, and the words that counted most."""
    for explanation in explanations:
        console.print(colour_words(console, explanation))
        for side in describe_sides(explanation):
            say(console, side)
        say(console, f"The scores miss {as_percent(explanation.gap)} of what they explain.")
        console.print()


def colour_words(console: Console, explanation: Explanation) -> Text:
    """Return the review with what spoke for the label in green, against it in red underlined."""
    words = [word for word in explanation.words if word.score is not None]
    strongest = max((abs(word.score or 0) for word in words), default=0.0)
    line, place = Text(), 0
    for word in explanation.words:
        line.append(_clean_gap(console, explanation.text[place : word.start]))
        style = _choose_style(word, strongest)
        line.append(clean(console, explanation.text[word.start : word.end]), style)
        place = word.end
    return line


def describe_sides(explanation: Explanation) -> list[str]:
    """Return a sentence on the words for the label, and one on those against it, if any."""
    ranked = explanation.strongest
    sides = {
        f"For {explanation.label} ({as_percent(explanation.confidence)})": [
            word for word in ranked[:NAMED] if (word.score or 0) > 0
        ],
        "Against it": [word for word in ranked[::-1][:NAMED] if (word.score or 0) < 0],
    }
    return [
        f"{side}: {', '.join(name_word(explanation, word) for word in words)}."
        for side, words in sides.items()
        if words
    ]


def name_word(explanation: Explanation, word: WordScore) -> str:
    """Return a word with its score, such as "wonderful +1.20"."""
    return f"{explanation.text[word.start : word.end]} {word.score or 0:+.2f}"


def _choose_style(word: WordScore, strongest: float) -> str:
    if word.score is None:
        return "dim"
    if abs(word.score) < SHOWN_SHARE * strongest:
        return ""
    return "bold green" if word.score > 0 else "underline red"


def _clean_gap(console: Console, gap: str) -> str:
    return " " if gap and not clean(console, gap) else clean(console, gap)
