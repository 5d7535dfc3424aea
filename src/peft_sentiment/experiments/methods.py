"""`methods`: train several methods on the same reviews with the same budget, and compare them."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from peft_sentiment.config import Settings
from peft_sentiment.errors import InterruptionError, SettingsError
from peft_sentiment.evaluation.method_comparison import (
    SCHEMA_VERSION,
    CellFailure,
    CellRecord,
    MethodsRecord,
    compare_methods,
)
from peft_sentiment.evaluation.storage import load_predictions
from peft_sentiment.experiments.cells import (
    LOG_FILE,
    PREDICTIONS_FILE,
    RESULTS_FILE,
    Cell,
    load_cell,
    load_failure,
    save_request,
)
from peft_sentiment.files import require_writable_folder, write_text
from peft_sentiment.records import render_json
from peft_sentiment.reporting.experiment_pictures import save_methods_picture
from peft_sentiment.reporting.experiments import (
    show_cell,
    show_cell_failure,
    show_methods,
    show_methods_start,
)

METHODS_FOLDER = "methods"
CELLS_FOLDER = "cells"
RECORD_FILE = "methods.json"
PICTURE = "methods"


def run_methods(settings: Settings, cells: Sequence[Cell], console: Console) -> MethodsRecord:
    """Compute the cells that are not finished yet, each in a process of its own; show and store.

    A cell that fails is named with its reason and does not stop the others.

    Args:
        settings: what all cells share; the figures lie in its output folder.
        cells: to compare.
        console: where to show it.

    Raises:
        OutputError: the output folder can't be written.
        SettingsError: no cell could be computed.
        InterruptionError: by Ctrl-C; what is finished is kept.
    """
    home = Path(settings.output.output_dir) / METHODS_FOLDER
    require_writable_folder(home / CELLS_FOLDER, "--output-dir")
    finished, failures = compute_cells(cells, home / CELLS_FOLDER, console)
    if not finished:
        raise SettingsError(
            f"None of the {len(cells)} cells could be computed; the first one, "
            f"{failures[0].name} with seed {failures[0].seed}, says: {failures[0].reason}"
        )
    level = settings.evaluation.confidence_level
    correct = {
        (record.name, record.seed): load_correct(cell.find_folder(home / CELLS_FOLDER))
        for cell, record in finished
    }
    records = tuple(record for _, record in finished)
    methods = compare_methods(records, correct, level)
    comparison = MethodsRecord(
        SCHEMA_VERSION, settings.as_tables(), level, methods, records, tuple(failures)
    )
    pictures = save_methods_picture(comparison, home / PICTURE)
    write_text(home / RECORD_FILE, render_json(comparison))
    show_methods(console, comparison, [home / RECORD_FILE, *pictures])
    return comparison


def compute_cells(
    cells: Sequence[Cell], home: Path, console: Console
) -> tuple[list[tuple[Cell, CellRecord]], list[CellFailure]]:
    """Compute what is not finished; return what is, and what failed.

    Raises:
        InterruptionError: by Ctrl-C.
    """
    finished: list[tuple[Cell, CellRecord]] = []
    failures: list[CellFailure] = []
    known = [is_finished(cell, home) for cell in cells]
    show_methods_start(console, len(cells), sum(known))
    try:
        with console.status("") as status:
            for number, cell in enumerate(cells, start=1):
                status.update(f"{cell.label}: {number} of {len(cells)}")
                result = compute_cell(cell, home, failures)
                if isinstance(result, CellFailure):
                    failures.append(result)
                    show_cell_failure(console, result)
                else:
                    finished.append((cell, result))
                    show_cell(console, result, is_known=known[number - 1])
    except KeyboardInterrupt:
        raise InterruptionError(
            f"Stopped; {len(finished)} of {len(cells)} cells are finished and kept in {home}. "
            "The same command goes on with the others."
        ) from None
    return finished, failures


def compute_cell(
    cell: Cell, home: Path, failures: Sequence[CellFailure]
) -> CellRecord | CellFailure:
    """Return the figures of a cell, computed in a process of its own if need be.

    What settings can't do they can't do with any seed: after one refusal, the other seeds are
    not tried.

    Raises:
        OutputError: the folder can't be written.
    """
    for failure in failures:
        if failure.name == cell.name and failure.kind == SettingsError.__name__:
            return CellFailure(cell.name, cell.seed, failure.kind, failure.reason)
    folder = cell.find_folder(home)
    if (known := load_cell(folder)) is not None:
        return known
    save_request(cell, folder)
    command = [sys.executable, "-m", "peft_sentiment.experiments.cell_process", str(folder)]
    with (folder / LOG_FILE).open("w", encoding="utf-8") as log:
        code = subprocess.run(  # noqa: S603 - this very Python
            command, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, check=False
        ).returncode
    return load_cell(folder) or load_failure(folder) or describe_crash(cell, folder, code)


def describe_crash(cell: Cell, folder: Path, code: int) -> CellFailure:
    """Say how a process has ended that could not say it itself."""
    how = f"its process was killed by signal {-code}" if code < 0 else f"exit code {code}"
    if code == -9:
        how += ", perhaps because memory ran out; try --max-tokens-per-batch 2048"
    return CellFailure(cell.name, cell.seed, "crash", f"{how}. See {folder / LOG_FILE}.")


def is_finished(cell: Cell, home: Path) -> bool:
    """Tell whether a cell's figures are there."""
    return (cell.find_folder(home) / RESULTS_FILE).is_file()


def load_correct(folder: Path) -> NDArray[np.bool_]:
    """Return (N,), whether a cell labels each test review right.

    Raises:
        OutputError: the predictions are gone or damaged.
    """
    reviews, predictions = load_predictions(folder / PREDICTIONS_FILE)
    return np.fromiter(map(str.__eq__, reviews.labels, predictions.labels), np.bool_)
