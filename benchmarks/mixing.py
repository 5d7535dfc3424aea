"""Texts for three adapters in one batch, against a batch for each.

    python benchmarks/mixing.py DIR DIR DIR

Prints the processor time of one thread, so that what else the machine does counts little.
"""

import sys
import time
from collections.abc import Callable

from peft_sentiment.cli import set_up_libraries

set_up_libraries()

import numpy as np  # noqa: E402 - the libraries are set up before they are loaded
import torch  # noqa: E402

from peft_sentiment import SentimentClassifier  # noqa: E402
from peft_sentiment.model.mixed import Share, score_mixed  # noqa: E402
from peft_sentiment.model.packed import PackedModel  # noqa: E402
from peft_sentiment.model.shared import SharedEncoder  # noqa: E402
from peft_sentiment.model.workspace import Workspace  # noqa: E402

CASES = ((20, 1), (20, 4), (20, 12), (60, 1), (60, 4), (256, 1), (256, 2))
"""Tokens of a text, and texts of each adapter."""

ROUNDS = 15


def load_packed(folders: list[str]) -> list[PackedModel]:
    """Load adapters over one encoder."""
    encoder, packed = SharedEncoder(), []
    for folder in folders:
        classifier = SentimentClassifier.load(folder)
        model, precision = classifier.model_, classifier.precision_
        encoder.share(model)
        packed.append(
            encoder.build_packed_model(model, precision.dtype, precision.choose_scoring_form)
        )
    return packed


def measure(call: Callable[[], object]) -> float:
    """Return the processor time of a call, in milliseconds."""
    start = time.thread_time()
    call()
    return 1000 * (time.thread_time() - start)


def main() -> None:
    """Print a line for each case: the medians of both ways in turn."""
    packed, workspace = load_packed(sys.argv[1:]), Workspace()
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    for length, count in CASES:
        shares: list[Share] = [
            (model, [rng.integers(1000, 20000, length, dtype=np.int32) for _ in range(count)])
            for model in packed
        ]
        pairs = [
            (
                measure(lambda shares=shares: score_mixed(shares, workspace)),
                measure(lambda shares=shares: [score_mixed([s], workspace) for s in shares]),
            )
            for _ in range(ROUNDS)
        ]
        mixed, apart = np.median(pairs[2:], axis=0)
        print(f"{count} x {length} tokens each: mixed {mixed:.1f} ms, apart {apart:.1f} ms, "
              f"{apart / mixed:.2f} x")  # fmt: skip


if __name__ == "__main__":
    main()
