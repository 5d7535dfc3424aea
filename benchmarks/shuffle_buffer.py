"""Shows what a shuffle buffer does to rows that are sorted by label, as IMDB's are.

    python benchmarks/shuffle_buffer.py

For each size of the buffer: the share of the second label among the reviews of the first 100 steps,
the same for the run of 100 steps in which it is farthest from a half, and the share of all steps
that see one label only. Reviews are of lengths by chance; no model is trained.
"""

import argparse

import numpy as np

from peft_sentiment.data.shuffling import iterate_shuffled_steps

STEPS = 100
LENGTHS = (20, 257)


def measure(rows: int, reviews_per_step: int, buffer_size: int | None, seed: int) -> list[float]:
    """Return the three shares for one epoch over rows whose second half has the second label."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(*LENGTHS, rows).astype(np.int32)
    labels = np.arange(rows) >= rows // 2
    chosen = list(iterate_shuffled_steps(lengths, reviews_per_step, rng, buffer_size))
    of_step = np.array([labels[step].mean() for step in chosen])
    windows = np.convolve(of_step, np.full(STEPS, 1 / STEPS), "valid")
    farthest = windows[np.abs(windows - 0.5).argmax()]
    return [of_step[:STEPS].mean(), farthest, np.isin(of_step, (0.0, 1.0)).mean()]


def main() -> None:
    """Print a line for each size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--reviews-per-step", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    parsed = parser.parse_args()
    print("| buffer | first 100 steps | farthest 100 steps | steps of one label |")
    print("|---|---|---|---|")
    for size in (1, 1_000, 10_000, 50_000, None):
        first, farthest, single = measure(parsed.rows, parsed.reviews_per_step, size, parsed.seed)
        name = "full" if size is None else f"{size:,}"
        print(f"| {name} | {100 * first:.0f} % | {100 * farthest:.0f} % | {100 * single:.0f} % |")


if __name__ == "__main__":
    main()
