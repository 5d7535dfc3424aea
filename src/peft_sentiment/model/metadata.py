"""What a saved adapter's folder holds besides peft's own files; read without torch."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peft_sentiment.config.requirements import SHORTEST_PART
from peft_sentiment.errors import AdapterError
from peft_sentiment.files import compute_sha256, require_small_config
from peft_sentiment.records.calibration import Calibration
from peft_sentiment.records.conversion import build_record, require_types

METADATA_FILE = "peft_sentiment.json"
EXPORT_FILE = "peft_sentiment_export.json"
"""What an exported model has in its place."""

FORMAT_VERSION = 1
WEIGHTS_FILE, PICKLE_FILE = "adapter_model.safetensors", "adapter_model.bin"
ADAPTER_FILES = ("adapter_config.json", WEIGHTS_FILE, METADATA_FILE)
COMPANION_FILES = ("companion.json", "companion.safetensors")
"""What speaks beside the adapter, if anything: its words, and its numbers."""

PROBE = "A naïve Film, 10/10! 悪い [SEP]"
"""Text that tokenizers of one vocabulary and unlike rules cut up differently."""

CARD_FILE = "README.md"
SEEN_FILE = "seen_reviews.safetensors"
"""Fingerprints of the reviews that the adapter was trained and validated on, where known."""

REMOVABLE_FILES = (SEEN_FILE, *COMPANION_FILES)
"""What an adapter was saved with, and does without."""


@dataclass(frozen=True)
class AdapterMetadata:
    """What is needed to score text and does not stand in peft's own file.

    Attributes:
        base_name: the base as it was asked for when training.
        base_revision: its revision, of a model on the hub.
        base_sha256: fingerprint of the base's weights.
        head_seed: seed of the untrained head, so that the base can be compared with again.
        label_names: label of each logit.
        label_type: `str`, or `int` where the labels were whole numbers.
        max_length: tokens read of a review.
        truncation: which part of a longer review they are.
        window_length: tokens that are scored at once; 0 for all.
        trained_with: settings of the run that trained it, section -> name -> value.
        method: how it was trained; a name that --method takes.
        calibration: what validation says of its probabilities, where there was one.
        files: sha256 of each other file of the folder, the card aside; None in older ones.
        sha256: of all the above; None in older ones.
    """

    format_version: int
    base_name: str
    base_revision: str | None
    base_sha256: str
    head_seed: int
    label_names: tuple[str, ...]
    label_type: str
    max_length: int
    truncation: str
    versions: dict[str, str]
    trained_with: dict[str, dict[str, Any]] | None
    method: str = "lora"
    window_length: int = 0
    calibration: Calibration | None = None
    files: dict[str, str] | None = None
    sha256: str | None = None


def load_metadata(folder: Path) -> AdapterMetadata:
    """Read what a saved adapter needs besides peft's own files, and check that none has changed.

    Raises:
        AdapterError: the folder lacks a file, the metadata is not readable, or a file is another
            one than was saved.
    """
    missing = [name for name in ADAPTER_FILES if not (folder / name).is_file()]
    if not folder.is_dir():
        raise AdapterError(
            f"{folder}: no such adapter folder. Train one with: peft-sentiment run, "
            "or name the folder that a training has written."
        )
    if WEIGHTS_FILE in missing and (folder / PICKLE_FILE).is_file():
        raise AdapterError(
            f"{folder}: {PICKLE_FILE} is a pickle, which can run code and is not read. Convert it "
            "where you trust it: load it with peft's PeftModel.from_pretrained and write it with "
            f"save_pretrained, which makes {WEIGHTS_FILE} of it."
        )
    if METADATA_FILE in missing and (folder / EXPORT_FILE).is_file():
        raise AdapterError(
            f"{folder}: this is an exported model, which labels texts alone. Name the adapter that "
            "it was made from."
        )
    if missing:
        raise AdapterError(
            f"{folder}: the adapter is not whole; it lacks {', '.join(missing)}. "
            "Copy the folder again with all its files, or train the adapter again."
        )
    try:
        require_small_config(folder / METADATA_FILE)
        values = json.loads((folder / METADATA_FILE).read_text(encoding="utf-8"))
        values.setdefault("method", "lora")  # adapters of before there were others
        if values["format_version"] != FORMAT_VERSION:
            raise ValueError(f"format {values['format_version']}, needed is {FORMAT_VERSION}")
        metadata: AdapterMetadata = build_record(AdapterMetadata, values)
        _require_sense(metadata)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise AdapterError(
            f"{folder / METADATA_FILE}: not readable ({type(error).__name__}: {error}). "
            "Copy the folder again, or train the adapter again."
        ) from error
    _require_unchanged(folder, metadata, values)
    return metadata


def render_metadata(values: Mapping[str, Any], files: Mapping[str, str]) -> str:
    """Return the text of METADATA_FILE.

    Args:
        values: of all fields but the two sums.
        files: sha256 of each other file of the folder.
    """
    whole = {**values, "files": dict(files)}
    whole["sha256"] = _compute_own_sum(whole)
    return json.dumps(whole, indent=2, ensure_ascii=False) + "\n"


def list_sums(folder: Path) -> dict[str, str]:
    """Return the sha256 of each file of an adapter's folder; metadata and card are left out."""
    paths = sorted(path for path in folder.iterdir() if path.is_file())
    return {path.name: compute_sha256(path) for path in paths if is_summed(path.name)}


def is_summed(name: str) -> bool:
    """Return whether the metadata has the sha256 of a file."""
    return name not in (METADATA_FILE, CARD_FILE)


def _require_sense(metadata: AdapterMetadata) -> None:
    """Check what a stranger's metadata say, before anything is built of it.

    Raises:
        TypeError, ValueError: a value is not of its field's type, or out of range.
    """
    require_types(AdapterMetadata, metadata, METADATA_FILE)
    names, window = metadata.label_names, metadata.window_length
    checks = {
        "label_names": len(names) >= 2 and len(set(names)) == len(names),
        "label_type": metadata.label_type in ("str", "int"),
        "truncation": metadata.truncation in ("head", "tail", "head+tail"),
        "head_seed": 0 <= metadata.head_seed < 2**63,
        "max_length": SHORTEST_PART <= metadata.max_length < 2**31,
        "window_length": window == 0 or SHORTEST_PART <= window < 2**31,
    }
    for name, is_right in checks.items():
        if not is_right:
            raise ValueError(f"{name} is {str(getattr(metadata, name))[:60]}")
    if metadata.label_type == "int":
        [int(name) for name in names]


def _compute_own_sum(values: Mapping[str, Any]) -> str:
    rest = {name: value for name, value in values.items() if name != "sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def _require_unchanged(folder: Path, metadata: AdapterMetadata, values: Mapping[str, Any]) -> None:
    if metadata.files is None and metadata.sha256 is None:
        return  # of before there were sums
    sums = {METADATA_FILE: (_compute_own_sum(values), str(metadata.sha256))}
    for name, saved in (metadata.files or {}).items():
        # The metadata may be a stranger's: no name in it leads out of the folder.
        path = folder / Path(name).name
        if path.is_file():
            sums[path.name] = (compute_sha256(path), str(saved))
        elif name not in REMOVABLE_FILES:
            raise AdapterError(
                f"{folder}: the adapter is not whole; it lacks {name}. "
                "Copy the folder again with all its files, or train the adapter again."
            )
    for name, (found, saved) in sums.items():
        if found != saved:
            raise AdapterError(
                f"{folder / name}: the file is not the one that was saved: its sha256 is "
                f"{found[:12]}, but was {saved[:12]}. Copy the folder again, or train the adapter "
                "again."
            )
