"""The command line in a process that torchrun has started, of which one is killed in a step."""

import os
import signal
import sys

import numpy as np
from numpy.typing import NDArray

from peft_sentiment.cli import main
from peft_sentiment.training.exchange import SharedGradients

DYING_RANK, DYING_STEP = 1, 6

compute = SharedGradients.compute


def compute_or_die(source: SharedGradients, chosen: NDArray[np.int64], step: int) -> float:
    is_first_start = os.environ["TORCHELASTIC_RESTART_COUNT"] == "0"
    if is_first_start and source.processes.rank == DYING_RANK and step == DYING_STEP:
        os.kill(os.getpid(), signal.SIGKILL)
    return compute(source, chosen, step)


if __name__ == "__main__":
    SharedGradients.compute = compute_or_die  # type: ignore[method-assign]
    sys.exit(main())
