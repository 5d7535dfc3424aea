"""Words for what was found in a file of labelled reviews."""

from collections.abc import Iterator
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table
from rich.text import Text

from peft_sentiment.data.inspection import KINDS, LONG_FACTOR, Finding, Inspection, Lengths
from peft_sentiment.reporting.numbers import as_count, as_percent
from peft_sentiment.reporting.terminal import clean, say

TITLES = {
    "row": (
        "that can't be read",
        "Training refuses them, or leaves them out with --skip-bad-rows: correct the row.",
    ),
    "text": ("without a text", "Training refuses them: write one, or remove the row."),
    "label": ("without a label", "Training refuses them: add one, or remove the row."),
    "duplicate": ("with the text of an earlier row", "Training takes the first of each."),
    "conflict": (
        "with one text and several labels",
        "Training takes none of them: keep the row whose label is right.",
    ),
    "spelling": (
        "with a label that seems to be another one, written differently",
        "Training takes them for labels of their own: write labels that mean the same alike.",
    ),
    "overlap": (
        "with a text of the other file",
        "Scores on texts that are trained on mean nothing: remove them from one of the two.",
    ),
    "near": (
        "nearly the same as an earlier row",
        "Training and test may each get one: --near-duplicates drop leaves them out there.",
    ),
    "near_overlap": (
        "nearly the same as a row of the other file",
        "They make the test easier than it is: remove them from one of the two.",
    ),
    "mojibake": (
        "with letters read in a wrong encoding",
        "Read the source again as it was written (Windows-1252, say), and save it as UTF-8.",
    ),
    "html": (
        "with HTML",
        "Line breaks are cleaned by themselves; the rest is read as words. Remove it.",
    ),
    "control": ("with characters that show nothing", "Remove them."),
    "short": ("of less than three words", "See whether they say what their label says."),
    "long": (
        f"of more than {LONG_FACTOR} times the median's words",
        "See whether each is one review.",
    ),
    "label_error": (
        "with a label that is probably wrong",
        "Read them, the first ones first: the list is a model's, and holds hard cases too.",
    ),
}
"""Kind of finding -> what its rows are, and what to do."""

UNEQUAL = 3
"""Times that the most frequent label has the rarest one's rows, from which it is worth a word."""

MOST_LABELS = 30
"""That are shown with their shares."""

EXCERPT = 70
"""Characters that are shown of a text."""


@dataclass(frozen=True)
class TokenLengths:
    """What an encoder's tokenizer makes of the texts.

    Attributes:
        model: the encoder.
        lengths: in tokens; None where there is no text.
        max_length: tokens that are read.
        cut: texts with more.
    """

    model: str
    lengths: Lengths | None
    max_length: int
    cut: int


def show_inspection(
    console: Console, inspection: Inspection, tokens: TokenLengths | None, most: int
) -> None:
    """Show what a file holds, and the first rows of each kind that deserve a look.

    Args:
        console: where to write.
        inspection: what was found.
        tokens: lengths in tokens, if they are known.
        most: rows to show of each kind.
    """
    grid = Table.grid(padding=(0, 1))
    for name, fact in _list_facts(inspection, tokens):
        grid.add_row(Text(name, "bold"), Text(clean(console, fact)))
    console.print(grid)
    for kind in KINDS:
        if inspection.count(kind):
            _show_kind(console, kind, inspection, most)
    if not inspection.findings:
        say(console, "Nothing was found that deserves a look.")


def _list_facts(inspection: Inspection, tokens: TokenLengths | None) -> Iterator[tuple[str, str]]:
    yield "Data", f"{inspection.source}; {as_count(inspection.rows)} rows"
    counts = inspection.label_counts
    if counts:
        total = sum(counts.values())
        shares = [f"{n} {as_count(c)} ({as_percent(c / total)})" for n, c in counts.items()]
        more = f" and {as_count(len(shares) - MOST_LABELS)} more" if shares[MOST_LABELS:] else ""
        yield "Labels", ", ".join(shares[:MOST_LABELS]) + more
        if max(counts.values()) >= UNEQUAL * min(counts.values()):
            yield (
                "",
                (
                    "The labels are unequal: see macro F1 rather than accuracy, and try "
                    "--class-weights balanced with --metric-for-best-model f1."
                ),
            )
    if inspection.words:
        yield "Words", _describe_lengths(inspection.words)
    if tokens and tokens.lengths:
        yield "Tokens", f"{_describe_lengths(tokens.lengths)} ({tokens.model})"
        yield (
            "",
            (
                f"{as_count(tokens.cut)} have more than {as_count(tokens.max_length)} and are cut "
                "(--max-length)."
            ),
        )


def _describe_lengths(lengths: Lengths) -> str:
    return (
        f"{as_count(lengths.shortest)} to {as_count(lengths.longest)}, median "
        f"{as_count(lengths.median)}, mean {as_count(round(lengths.mean))}, 95 % have at most "
        f"{as_count(lengths.long)}"
    )


def _show_kind(console: Console, kind: str, inspection: Inspection, most: int) -> None:
    title, advice = TITLES[kind]
    count = inspection.count(kind)
    console.print()
    rows = f"{as_count(count)} row{'s' * (count != 1)}"
    console.print(Text.assemble((f"{rows} {title}. ", "bold"), advice))
    shown = [finding for finding in inspection.findings if finding.kind == kind][:most]
    for finding in shown:
        console.print(Text(f"  {clean(console, describe_finding(finding))}"), soft_wrap=True)
    if count > len(shown) > 0:
        console.print(Text(f"  ... and {as_count(count - len(shown))} more"), style="dim")


def describe_finding(finding: Finding) -> str:
    """Return a row that deserves a look on one line."""
    parts = [finding.place]
    if finding.other:
        alike = "" if finding.score is None else f"{as_percent(finding.score)} of "
        parts.append(f"{alike}{finding.other}" if alike else f"as {finding.other}")
    elif finding.score is not None:
        parts.append(f"{as_percent(finding.score)} likely to be {finding.label}")
    if finding.detail:
        parts.append(finding.detail)
    text = " ".join(finding.text.split())
    excerpt = text if len(text) <= EXCERPT else text[:EXCERPT] + "..."
    return f"{', '.join(parts)}: {excerpt}" if excerpt else ", ".join(parts)
