"""Words for pairs of models that were compared on the same reviews; for terminal and page."""

from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.text import Text

from peft_sentiment.records import PairComparison
from peft_sentiment.reporting.numbers import as_count, as_p_value, as_points, as_signed_points
from peft_sentiment.reporting.terminal import build_table, clean, say
from peft_sentiment.reporting.titles import name_model


def show_pairs(console: Console, pairs: Sequence[PairComparison], confidence_level: float) -> None:
    """Show every pair of models on a line, and what these reviews can and can't tell."""
    if len(pairs) > 1:
        level = f"{100 * confidence_level:g} %"
        table = build_table("Pair", "Points", f"{level} interval", "Fixed", "Broken", "p (Holm)")
        for pair in pairs:
            low, high = pair.accuracy_interval
            table.add_row(
                Text(clean(console, name_pair(pair))),
                as_signed_points(pair.accuracy),
                f"{as_signed_points(low)} to {as_signed_points(high)}",
                as_count(pair.fixed),
                as_count(pair.broken),
                as_p_value(pair.adjusted_p_value).removeprefix("p ").removeprefix("= "),
                style="" if is_shown(pair, confidence_level) else "dim",
            )
        console.print(table)
    for sentence in describe_pairs(pairs, confidence_level):
        say(console, sentence)


def name_pair(pair: PairComparison) -> str:
    """Return what is compared with what, such as "PEFT against Base"."""
    return f"{name_model(pair.second)} against {name_model(pair.first)}"


def is_shown(pair: PairComparison, confidence_level: float) -> bool:
    """Tell whether the difference stands after the correction for the other pairs."""
    return pair.adjusted_p_value < 1 - confidence_level


def describe_pairs(pairs: Sequence[PairComparison], confidence_level: float) -> Iterator[str]:
    """Yield sentences on what these reviews show, and on what they could not have shown."""
    if len(pairs) > 1:
        yield (
            f"The p-values are exact McNemar tests, corrected by Holm for {len(pairs)} pairs: the "
            f"chance of even one false alarm among them is at most "
            f"{100 * (1 - confidence_level):.3g} %."
        )
    for pair in _choose_described(pairs):
        if not is_shown(pair, confidence_level):
            yield (
                f"{name_pair(pair)}: no difference is shown, which is not to say they are equal. "
                f"{describe_detectable(pair)}"
            )
        elif len(pairs) == 1:
            yield describe_detectable(pair)


def _choose_described(pairs: Sequence[PairComparison]) -> Sequence[PairComparison]:
    """Return the pairs with the adapted model, whose maker asks about them; else all."""
    with_peft = [pair for pair in pairs if "peft" in (pair.first, pair.second)]
    return with_peft or pairs


def describe_detectable(pair: PairComparison) -> str:
    """Return how large a difference must be for these reviews to show it."""
    if pair.detectable is None:
        return "There are too few test reviews to tell any two models apart."
    return (
        f"With these test reviews, a true difference of {as_points(pair.detectable)} points "
        "would be found four times in five; a smaller one would mostly go unseen."
    )
