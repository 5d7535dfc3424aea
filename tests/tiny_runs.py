"""Runs of the command line that take a second, and what they leave behind; torch-free."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class TinyRun:
    """A run on tiny reviews, in a folder of its own.

    Attributes:
        home: folder of everything that the run writes.
        base: folder of the encoder.
        reviews: CSV file of the reviews.
    """

    home: Path
    base: Path
    reviews: Path

    @property
    def output(self) -> Path:
        return self.home / "output"

    @property
    def adapter(self) -> Path:
        return self.home / "adapter"

    @property
    def settings(self) -> list[str]:
        """Flags of a run on 60 training, 20 validation and 40 test reviews, data aside."""
        flags = {
            "--model-name-or-path": self.base,
            "--max-length": 64,
            "--window-length": 16,
            "--train-size": 60,
            "--validation-size": 20,
            "--test-size": 40,
            "--num-train-epochs": 1,
            "--learning-rate": 0.01,
            "--per-device-train-batch-size": 8,
            "--crop-length": 0,
            "--weight-averaging": 0,
            "--output-dir": self.output,
            "--adapter-dir": self.adapter,
        }
        return ["--no-bf16", *(str(part) for flag in flags.items() for part in flag)]

    @property
    def arguments(self) -> list[str]:
        """The whole command line; a flag added at its end replaces one in it."""
        return ["run", "--train-file", str(self.reviews), *self.settings]

    def copy(self, home: Path) -> "TinyRun":
        """Copy what the run has written; base and reviews stay where they are."""
        shutil.copytree(self.home, home)
        return TinyRun(home, self.base, self.reviews)

    def read_files(self) -> dict[str, bytes]:
        """Return every file that the run has written, by its place."""
        folders = (self.output, self.adapter)
        files = [file for folder in folders for file in folder.rglob("*") if file.is_file()]
        return {str(file.relative_to(self.home)): file.read_bytes() for file in files}


def leave_sums_out(adapter: Path) -> Path:
    """Make the metadata of an adapter what older versions wrote, so that what it holds may change.

    A stranger can write right sums for wrong files, too.
    """
    path = adapter / "peft_sentiment.json"
    values = json.loads(path.read_text(encoding="utf-8"))
    del values["files"], values["sha256"]
    path.write_text(json.dumps(values), encoding="utf-8")
    return adapter


def read_folder(folder: Path) -> dict[str, bytes]:
    """Return every file of a folder by its place."""
    files = [file for file in folder.rglob("*") if file.is_file()]
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}
