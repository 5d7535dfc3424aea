"""Which words of a review spoke for its label."""

from dataclasses import dataclass


@dataclass(frozen=True)
class WordScore:
    """What one word did.

    Attributes:
        start: place of its first character in the text.
        end: place after its last one.
        score: what it adds to the label's log-odds, or takes from them where it is below 0; None
            where the word was cut out and not read.
    """

    start: int
    end: int
    score: float | None


@dataclass(frozen=True)
class Explanation:
    """One review's label, word by word.

    The scores add up to `log_odds - baseline_log_odds`, to within `gap`.

    Attributes:
        label: the label that is explained, the most probable one.
        confidence: its probability.
        log_odds: of the label against all others, before the temperature.
        baseline_log_odds: the same, of the review with every word masked.
        gap: what the scores miss of that difference, as a share of it.
        words: all words of the text, in its order.
    """

    text: str
    label: str
    confidence: float
    log_odds: float
    baseline_log_odds: float
    gap: float
    words: tuple[WordScore, ...]

    @property
    def strongest(self) -> list[WordScore]:
        """The words that were read, from what speaks most for the label to what does against it."""
        read = [word for word in self.words if word.score is not None]
        return sorted(read, key=lambda word: -(word.score or 0.0))


@dataclass(frozen=True)
class ExplanationsRecord:
    """The contents of explanations.json."""

    explanations: tuple[Explanation, ...]


@dataclass(frozen=True)
class Faithfulness:
    """Whether the words that are said to matter do: what happens without them.

    Attributes:
        reviews: reviews tried.
        removed: words taken out of each.
        flipped_by_strongest: reviews whose label changes without the words that spoke most for it.
        flipped_by_random: reviews whose label changes without as many words drawn by chance.
        drop_by_strongest: mean fall of the label's log-odds without the strongest words.
        drop_by_random: the same without random ones.
        mean_gap: mean completeness gap, as a share.
        largest_gap: the largest one.
        steps: steps of the integration.
    """

    reviews: int
    removed: int
    flipped_by_strongest: int
    flipped_by_random: int
    drop_by_strongest: float
    drop_by_random: float
    mean_gap: float
    largest_gap: float
    steps: int
