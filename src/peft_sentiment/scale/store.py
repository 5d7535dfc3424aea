"""What a job leaves in its folder: a file per finished part, and what it takes to go on.

    labels/
      job.json                     what the job is; another one is refused the folder
      part-000000.parquet          key, label, confidence and a probability per label
      faults/part-000000.jsonl     broken rows of that part: file, row, key, fault

A part stands under its name once it is whole: on disks it is written aside and renamed, and an
object store shows an object once all of it has come.
"""

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from fsspec.core import url_to_fs
from numpy.typing import NDArray
from pyarrow import parquet

from peft_sentiment.errors import OutputError
from peft_sentiment.scale.plan import Part
from peft_sentiment.scale.records import Record

JOB_FILE, FAULTS_FOLDER = "job.json", "faults"
SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Labels:
    """What the model says of some records.

    Attributes:
        keys: (N,), of the records.
        labels: (N,).
        probabilities: (N, C).
    """

    keys: list[str]
    labels: list[str]
    probabilities: NDArray[np.float32]


@dataclass(frozen=True)
class Store:
    """The folder of a job, on a disk or in an object store.

    Attributes:
        folder: path or address.
    """

    folder: str

    def open_job(self, job: dict[str, Any]) -> set[str]:
        """Begin a job or go on with it; return the names of the parts that are finished.

        Raises:
            OutputError: the folder holds another job, something else, or can't be written.
        """
        try:
            system, root = url_to_fs(self.folder)
            system.makedirs(root, exist_ok=True)
            names = {str(path).rpartition("/")[2] for path in system.ls(root, detail=False)}
            if JOB_FILE in names:
                self._require_same(json.loads(system.cat_file(f"{root}/{JOB_FILE}")), job)
            elif names:
                raise OutputError(
                    f"{self.folder}: there are files in it, but no job that could be gone on with. "
                    "Name an empty or new folder with --output."
                )
            else:
                self._write(JOB_FILE, json.dumps(job, indent=1).encode())
        except OSError as error:
            raise OutputError(f"{self.folder}: can't be written to ({error}).") from error
        return {name for name in names if name.startswith("part-") and name.endswith(".parquet")}

    def has(self, part: Part) -> bool:
        """Tell whether a part is finished."""
        system, root = url_to_fs(self.folder)
        return bool(system.exists(f"{root}/{part.name}"))

    def save(self, part: Part, label_names: Sequence[str], labels: Labels,
             broken: Sequence[Record]) -> None:  # fmt: skip
        """Write a part, its broken records first."""
        if broken:
            lines = (json.dumps({"file": part.file, "row": record.number, "key": record.key,
                                 "fault": record.fault}) for record in broken)  # fmt: skip
            name = f"{FAULTS_FOLDER}/{part.name.replace('.parquet', '.jsonl')}"
            self._write(name, "".join(f"{line}\n" for line in lines).encode())
        columns = {f"probability_{name}": labels.probabilities[:, place]
                   for place, name in enumerate(label_names)}  # fmt: skip
        table = pa.table({
            "key": pa.array(labels.keys, pa.string()),
            "label": pa.array(labels.labels, pa.string()),
            "confidence": pa.array(labels.probabilities.max(1, initial=0), pa.float32()),
            **columns,
        })  # fmt: skip
        buffer = io.BytesIO()
        parquet.write_table(table, buffer)
        self._write(part.name, buffer.getvalue())

    def _write(self, name: str, content: bytes) -> None:
        system, root = url_to_fs(self.folder)
        path = f"{root}/{name}"
        system.makedirs(path.rpartition("/")[0], exist_ok=True)
        if "file" not in system.protocol:
            system.pipe_file(path, content)
            return
        draft = f"{path.rpartition('/')[0]}/.{path.rpartition('/')[2]}.draft"
        system.pipe_file(draft, content)
        system.mv(draft, path)

    def _require_same(self, found: dict[str, Any], job: dict[str, Any]) -> None:
        if found == job:
            return
        changed = [name for name in job if found.get(name) != job[name]]
        raise OutputError(
            f"{self.folder}: it holds another job: {', '.join(changed) or 'its version'} differ. "
            "Give the same files, adapter and settings to go on with it, or name another folder "
            "with --output."
        )


def describe_job(sha256: str, adapter: str, pattern: str, parts: Sequence[Part]) -> dict[str, Any]:
    """Return what tells one job from another.

    Args:
        sha256: of files, adapter and settings.
        adapter: folder of the adapter.
        pattern: that names the files.
        parts: of the job.
    """
    return {
        "schema_version": SCHEMA_VERSION,
        "files": pattern,
        "adapter": adapter,
        "rows": sum(part.rows for part in parts),
        "parts": len(parts),
        "sha256": sha256,
    }
