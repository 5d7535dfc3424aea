"""Texts that are nearly the same: copied with a few words changed, added or left out.

Two texts are as alike as the share of their runs of words that both have (Jaccard's index, 1901).
The search misses none: it looks at the rarest runs of each text only, of which two texts that are
alike enough must share one. Source of that bound: S. Chaudhuri, V. Ganti and R. Kaushik, "A
primitive operator for similarity joins in data cleaning", ICDE 2006.

Shapes: N texts, R runs of words of all of them together.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RUN_LENGTH = 3
"""Words of a run. A changed word changes three of them: 5 % of a review of 60 words."""

_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class NearDuplicates:
    """For each text an earlier one that is nearly the same, if there is any.

    Attributes:
        partner: (N,), place of the earlier text, or -1.
        similarity: (N,), how alike they are, from 0 to 1; 0 without a partner.
    """

    partner: NDArray[np.int64]
    similarity: NDArray[np.float64]

    def find_places(self) -> NDArray[np.int64]:
        """Return the places of the texts that have a partner."""
        return np.flatnonzero(self.partner >= 0)


def find_near_duplicates(
    texts: Sequence[str], similarity: float, parts: Sequence[int] | None = None
) -> NearDuplicates:
    """Find for each text the first earlier one that is at least this much alike.

    Case and punctuation do not count; a text without a word is like no other.

    Args:
        texts: N texts.
        similarity: above 0, at most 1.
        parts: (N,), the part in which each text stands, if only texts of other parts are meant.
    """
    runs = [_list_runs(numbers) for numbers in _number_words(texts)]
    found = NearDuplicates(np.full(len(runs), -1), np.zeros(len(runs)))
    for place, candidates in _iterate_candidates(_choose_rare_runs(runs, similarity)):
        for candidate in candidates:
            if parts is not None and parts[candidate] == parts[place]:
                continue
            alike = _compute_similarity(runs[place], runs[candidate], similarity)
            if alike >= similarity:
                found.partner[place], found.similarity[place] = candidate, alike
                break
    return found


def _number_words(texts: Sequence[str]) -> Iterator[NDArray[np.int64]]:
    """Yield the words of each text as numbers from 1."""
    known: dict[str, int] = {}
    for text in texts:
        words = _WORD.findall(text.casefold())
        yield np.array([known.setdefault(word, len(known) + 1) for word in words], np.int64)


def _list_runs(numbers: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Return a number for each run of words, sorted, each once; a short text is one run.

    With fewer than two million words in all, no two runs have one number; beyond that two in
    2**64 may.
    """
    if not len(numbers):
        return np.zeros(0, np.uint64)
    words = np.pad(numbers, (0, max(0, RUN_LENGTH - len(numbers)))).astype(np.uint64)
    count = len(words) - RUN_LENGTH + 1
    runs = np.zeros(count, np.uint64)
    for offset in range(RUN_LENGTH):
        runs = (runs << np.uint64(21)) ^ (runs >> np.uint64(43)) ^ words[offset : offset + count]
    return np.unique(runs)


def _choose_rare_runs(
    runs: Sequence[NDArray[np.uint64]], similarity: float
) -> list[NDArray[np.uint64]]:
    """Return the runs of each text of which any text that is alike enough has one too.

    Of n runs, a text that is alike has at least similarity * n; so it can't miss all of the
    n - similarity * n + 1 that are the rarest. Of these, runs that no other text has find nothing.
    """
    sizes = np.fromiter(map(len, runs), np.int64, len(runs))
    if not sizes.sum():
        return [np.zeros(0, np.uint64)] * len(runs)
    every = np.concatenate(runs)  # (R,)
    _, inverse, counts = np.unique(every, return_inverse=True, return_counts=True)
    chosen, ends = [], np.cumsum(sizes)
    needed = sizes - np.ceil(similarity * sizes - 1e-9).astype(np.int64) + 1
    for of_text, end, size, need in zip(runs, ends, sizes, needed, strict=True):
        frequency = counts[inverse[end - size : end]]
        shared = np.flatnonzero(frequency > 1)
        left = max(0, need - (size - len(shared)))
        order = np.argsort(frequency[shared], kind="stable") if left else shared[:0]
        chosen.append(of_text[shared[order[:left]]])
    return chosen


def _iterate_candidates(
    rare_runs: Sequence[NDArray[np.uint64]],
) -> Iterator[tuple[int, list[int]]]:
    """Yield each text that shares a rare run with earlier ones, and the places of these."""
    seen: dict[int, list[int]] = {}
    for place, of_text in enumerate(rare_runs):
        candidates: set[int] = set()
        for run in of_text.tolist():
            earlier = seen.setdefault(run, [])
            candidates.update(earlier)
            earlier.append(place)
        if candidates:
            yield place, sorted(candidates)


def _compute_similarity(one: NDArray[np.uint64], other: NDArray[np.uint64], needed: float) -> float:
    """Return Jaccard's index, or 0 where the sizes alone forbid what is needed."""
    if min(len(one), len(other)) < needed * max(len(one), len(other)):
        return 0.0
    shared = len(np.intersect1d(one, other, assume_unique=True))
    return shared / (len(one) + len(other) - shared)
