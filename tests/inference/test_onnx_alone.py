"""A program that has only numpy, tokenizers and ONNX Runtime labels a review within a second."""

import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest
from tiny_runs import TinyRun

from peft_sentiment.cli import main

ROOT = Path(__file__).parents[2]
SECONDS = 1.0

PROGRAM = """
import sys
from peft_sentiment.inference.onnx import OnnxClassifier
classifier = OnnxClassifier.load(sys.argv[1])
print(*classifier.predict(["A film to fall asleep to."]))
"""
MEASURE = """
import resource, subprocess, sys
def read_seconds():
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
seconds = []
for _ in range(5):
    start = read_seconds()
    done = subprocess.run(sys.argv[1:], capture_output=True, text=True, check=True)
    seconds.append(read_seconds() - start)
print(min(seconds), done.stdout.strip())
"""
"""Seconds of the processor from start to end, which do not depend on what else the machine does."""


def run(*command: str | Path) -> str:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def lean_python(tmp_path: Path) -> Path:
    """The Python of a new environment with what the ONNX form needs, and nothing more."""
    venv.create(tmp_path / "lean", with_pip=True)
    python = tmp_path / "lean" / "bin" / "python"
    install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    source = tmp_path / "source"
    shutil.copytree(ROOT / "src", source / "src", ignore=shutil.ignore_patterns("*.egg-info"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    needed = ["numpy", "onnxruntime", "tokenizers"]
    constraints = ["-c", ROOT / "constraints.txt"]
    for arguments in ([*constraints, *needed], ["--no-deps", source]):
        command = list(map(str, [*install, *arguments]))
        done = subprocess.run(command, capture_output=True, text=True, timeout=600)
        if done.returncode:
            pytest.skip(f"the package index can't be reached: {done.stderr.strip()[-300:]}")
    return python


def test_without_torch_an_export_labels_a_review_within_a_second(
    lean_python: Path, finished_tiny_run: TinyRun, tmp_path: Path
) -> None:
    export = tmp_path / "export"
    arguments = ["export", str(finished_tiny_run.adapter), "--to", "onnx-int8", "--check-size", "5"]
    arguments += ["--most-flips", "100", "--most-loss", "100", "--most-difference", "9"]
    assert main([*arguments, "--output", str(export)]) == 0
    found = run(lean_python, "-c", "import importlib.util as u; print(*map(u.find_spec, "
                "('torch', 'transformers', 'peft', 'sklearn')))")  # fmt: skip
    assert found.split() == ["None"] * 4
    answer = run(sys.executable, "-c", MEASURE, lean_python, "-c", PROGRAM, export).split()
    assert answer[1] in ("negative", "positive")
    assert float(answer[0]) < SECONDS
