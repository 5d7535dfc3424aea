"""Cells of a comparison: a name, the settings that it stands for, and a seed; torch-free.

A cell has a folder, named by a fingerprint of all that its figures depend on. Its results.json
comes last, so that its presence means that the cell is finished.
"""

import hashlib
import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import tomli_w

from peft_sentiment.config import Settings
from peft_sentiment.errors import OutputError
from peft_sentiment.evaluation.method_comparison import (
    SCHEMA_VERSION,
    CellFailure,
    CellRecord,
)
from peft_sentiment.experiments.variants import Overrides, require_alone
from peft_sentiment.files import compute_sha256, write_text
from peft_sentiment.records import build_record, render_json

REQUEST_FILE = "cell.toml"
RESULTS_FILE = "results.json"
FAILURE_FILE = "failure.json"
PREDICTIONS_FILE = "predictions.parquet"
LOG_FILE = "log.txt"

UNIMPORTANT = {
    "evaluation": ("confidence_level", "bootstrap_samples", "baselines"),
    "training": ("logging_steps", "report_to"),
}
"""Settings, by section, that no figure of a cell depends on; nor does any of the output."""


@dataclass(frozen=True)
class Cell:
    """One training of a comparison.

    Attributes:
        name: of the method, or of other settings.
        settings: with the seed of the training.
        split_seed: of the reviews, the same for all cells.
        key: fingerprint of all that its figures depend on.
    """

    name: str
    settings: Settings
    split_seed: int
    key: str

    @property
    def seed(self) -> int:
        """Of head, adapter, order and dropout."""
        return self.settings.training.seed

    @property
    def label(self) -> str:
        """Its name for people."""
        return f"{self.name}, seed {self.seed}"

    def find_folder(self, home: Path) -> Path:
        """Return the cell's folder below that of the comparison."""
        return home / f"{self.name}-seed{self.seed}-{self.key[:12]}"


def build_cells(settings: Settings, variants: Mapping[str, Overrides], seeds: int) -> list[Cell]:
    """Return the cells of a comparison: all variants with the first seed, then with the next one.

    Args:
        settings: what all share; the seeds count up from theirs.
        variants: name -> what differs.
        seeds: of each variant.

    Raises:
        SettingsError: a variant's settings are unknown or malformed.
        OutputError: a data file can't be read.
    """
    first = settings.training.seed
    changed = {name: settings.varied(v, f"variant {name}") for name, v in variants.items()}
    for name, of_variant in changed.items():
        require_alone(of_variant, f"variant {name}")
    digests = compute_data_digests(settings)
    return [
        build_cell(name, of_variant.updated({"training": {"seed": seed}}, name), first, digests)
        for seed in range(first, first + seeds)
        for name, of_variant in changed.items()
    ]


def build_cell(name: str, settings: Settings, split_seed: int, digests: Mapping[str, str]) -> Cell:
    """Return a cell with its fingerprint; `digests` are of its data files, by setting."""
    tables = settings.as_tables()
    del tables["output"]
    for section, unimportant in UNIMPORTANT.items():
        for item in unimportant:
            tables[section].pop(item, None)
    parts = [SCHEMA_VERSION, tables, split_seed, dict(digests)]
    text = json.dumps(parts, sort_keys=True)
    return Cell(name, settings, split_seed, hashlib.sha256(text.encode()).hexdigest())


def compute_data_digests(settings: Settings) -> dict[str, str]:
    """Return the sha256 of each data file: another file of the same name makes other cells.

    Raises:
        OutputError: a file can't be read.
    """
    data = settings.data
    files = {
        "train_file": data.train_file or (),
        "validation_file": (data.validation_file,) if data.validation_file else (),
        "test_file": (data.test_file,) if data.test_file else (),
    }
    try:
        return {n: compute_sha256(*map(Path, paths)) for n, paths in files.items() if paths}
    except OSError as error:
        raise OutputError(
            f"{error.filename}: the file can't be read ({error.strerror}). Correct its name."
        ) from error


def save_request(cell: Cell, folder: Path) -> None:
    """Write down what the process of a cell is to do, and forget an earlier failure.

    Raises:
        OutputError: the folder can't be written.
    """
    values = {"name": cell.name, "split_seed": cell.split_seed, "key": cell.key}
    write_text(
        folder / REQUEST_FILE, tomli_w.dumps({**values, "settings": cell.settings.as_tables()})
    )
    (folder / FAILURE_FILE).unlink(missing_ok=True)


def load_request(folder: Path) -> Cell:
    """Read what `save_request` has written."""
    path = folder / REQUEST_FILE
    values = tomllib.loads(path.read_text(encoding="utf-8"))
    settings = Settings().updated(values["settings"], str(path))
    return Cell(values["name"], settings, values["split_seed"], values["key"])


def save_cell(record: CellRecord, folder: Path) -> None:
    """Write the figures of a finished cell, as the last of its files."""
    write_text(folder / RESULTS_FILE, render_json(record))


def load_cell(folder: Path) -> CellRecord | None:
    """Read the figures of a cell, or None where it is not finished.

    Raises:
        OutputError: the file is not what this version writes.
    """
    path = folder / RESULTS_FILE
    if not path.is_file():
        return None
    try:
        record: CellRecord = build_record(CellRecord, json.loads(path.read_text(encoding="utf-8")))
    except (OSError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise OutputError(
            f"{path}: not the results of this version ({error!r}). Remove the folder, and compare "
            "again."
        ) from error
    return record


def save_failure(failure: CellFailure, folder: Path) -> None:
    """Write down why a cell has no figures."""
    write_text(folder / FAILURE_FILE, render_json(failure))


def load_failure(folder: Path) -> CellFailure | None:
    """Read why a cell has no figures, or None where it did not say."""
    path = folder / FAILURE_FILE
    if not path.is_file():
        return None
    failure: CellFailure = build_record(CellFailure, json.loads(path.read_text(encoding="utf-8")))
    return failure
