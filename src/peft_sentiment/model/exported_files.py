"""The folder of an exported model: what is in it, and whether it is what was exported.

Read without torch.
"""

import hashlib
import json
from pathlib import Path

from peft_sentiment.config.requirements import SHORTEST_PART
from peft_sentiment.errors import ExportError
from peft_sentiment.files import compute_sha256, require_small_config
from peft_sentiment.model.metadata import EXPORT_FILE
from peft_sentiment.records import build_record
from peft_sentiment.records.export import ExportRecord

RECORD_FILE = EXPORT_FILE
FORMAT_VERSION = 1
MERGED, ONNX, ONNX_INT8 = "merged", "onnx", "onnx-int8"
FORMS = (MERGED, ONNX, ONNX_INT8)
ONNX_FORMS = (ONNX, ONNX_INT8)
ONNX_FILE, TOKENIZER_FILE = "model.onnx", "tokenizer.json"
MERGED_FILE, CONFIG_FILE = "model.safetensors", "config.json"

FILES_NEEDED = {
    MERGED: (MERGED_FILE, CONFIG_FILE, TOKENIZER_FILE),
    ONNX: (ONNX_FILE, TOKENIZER_FILE),
    ONNX_INT8: (ONNX_FILE, TOKENIZER_FILE),
}
"""Form -> files without which it can't be read."""

REMEDY = "Copy the folder again with all its files, or export the adapter again."


def is_export(folder: Path) -> bool:
    """Tell whether a folder is that of an exported model."""
    return (folder / RECORD_FILE).is_file()


def load_export_record(folder: Path) -> ExportRecord:
    """Read what stands beside an exported model.

    Raises:
        ExportError: there is no export, or its record is damaged or of another version.
    """
    path = folder / RECORD_FILE
    if not path.is_file():
        raise ExportError(
            f"{folder}: no exported model; it lacks {RECORD_FILE}. "
            "Make one with: peft-sentiment export DIR --to onnx-int8."
        )
    try:
        require_small_config(path)
        values = json.loads(path.read_text(encoding="utf-8"))
        if values["format_version"] != FORMAT_VERSION:
            raise ValueError(f"format {values['format_version']}, needed is {FORMAT_VERSION}")
        record: ExportRecord = build_record(ExportRecord, values)
        _require_sound(record)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ExportError(
            f"{path}: not readable ({type(error).__name__}: {error}). {REMEDY}"
        ) from error
    return record


def _require_sound(record: ExportRecord) -> None:
    """Check that a record says what scoring takes for granted.

    Raises:
        ValueError: it does not.
    """
    if record.form not in FORMS:
        raise ValueError(f"the form is {record.form!r}, but must be one of {', '.join(FORMS)}")
    missing = [name for name in FILES_NEEDED[record.form] if name not in record.files]
    if missing:
        raise ValueError(f"there is no sha256 of {missing[0]}")
    for name in record.files:
        if Path(name).name != name:
            raise ValueError(f"{name!r} is no file of this folder")
    if len(record.label_names) < 2 or record.label_type not in ("str", "int"):
        raise ValueError(f"the labels are {record.label_names!r} of type {record.label_type!r}")
    if record.max_length < 1 or record.truncation not in ("head", "tail", "head+tail"):
        raise ValueError(f"reviews are cut at {record.max_length} tokens by {record.truncation!r}")
    if record.window_length != 0 and record.window_length < SHORTEST_PART:
        raise ValueError(f"reviews are divided into windows of {record.window_length} tokens")


def read_verified(folder: Path, record: ExportRecord, name: str) -> bytes:
    """Return a file's contents, which are known to be those that were exported.

    Raises:
        ExportError: the file is missing, or is another one.
    """
    try:
        content = (folder / name).read_bytes()
    except OSError as error:
        raise ExportError(f"{folder / name}: can't be read ({error.strerror}). {REMEDY}") from error
    _require_sha256(folder / name, hashlib.sha256(content).hexdigest(), record.files[name])
    return content


def require_verified(folder: Path, record: ExportRecord) -> None:
    """Check every file of an export.

    Raises:
        ExportError: a file is missing, or is another one.
    """
    for name, wanted in record.files.items():
        path = folder / name
        if not path.is_file():
            raise ExportError(f"{path}: no such file, but the export had one. {REMEDY}")
        _require_sha256(path, compute_sha256(path), wanted)


def _require_sha256(path: Path, found: str, wanted: str) -> None:
    if found != wanted:
        raise ExportError(
            f"{path}: damaged or changed since it was exported: its sha256 is {found[:12]}..., "
            f"but must be {wanted[:12]}... {REMEDY}"
        )
