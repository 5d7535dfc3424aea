"""Imports only point down, and what answers at once does not wait for torch."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import peft_sentiment

PACKAGE = "peft_sentiment"
FOLDER = Path(peft_sentiment.__file__).parent

LAYERS = (
    ("errors",),
    ("launchers",),
    ("config", "records", "files", "interruptions", "processes"),
    ("data", "model"),
    ("evaluation",),
    ("training",),
    ("inference",),
    (PACKAGE,),
    ("reporting",),
    ("serving", "scale", "streamed"),
    ("insight", "foundation"),
    ("unfinished", "skipping", "self_training"),
    ("storing",),
    ("pipeline",),
    ("labelling", "checking"),
    ("saved_runs", "diagnosis", "experiments", "verification", "publishing", "exporting"),
    ("commands",),
    ("cli",),
)
"""Parts of the package from the bottom up. Those of one layer know nothing of each other."""

RANKS = {part: rank for rank, layer in enumerate(LAYERS) for part in layer}

TORCH_FREE_MODULES = (
    "checking",
    "cli",
    "commands",
    "commands.serve",
    "config",
    "records",
    "errors",
    "files",
    "interruptions",
    "launchers",
    "processes",
    "data.batching",
    "data.files",
    "data.inspection",
    "data.sources",
    "data.split",
    "data.streaming",
    "data.token_files",
    "evaluation.label_errors",
    "evaluation.method_comparison",
    "evaluation.metrics",
    "experiments.cells",
    "experiments.methods",
    "evaluation.comparison",
    "evaluation.pairs",
    "evaluation.calibration",
    "evaluation.thresholds",
    "evaluation.mistakes",
    "evaluation.faithfulness",
    "evaluation.storage",
    "reporting.calibration",
    "model.metadata",
    "model.tokenizer_files",
    "reporting.explanation",
    "reporting.mistakes",
    "reporting.console",
    "reporting.data_report",
    "reporting.experiment_pictures",
    "reporting.experiments",
    "reporting.pairs",
    "reporting.reference",
    "training.search",
    "training.search_ranges",
    "reporting.unfinished",
    "training.identity",
    "inference.onnx",
    "model.exported_files",
    "records.export",
    "reporting.export",
)
HEAVY_LIBRARIES = ("torch", "transformers", "peft", "datasets", "accelerate")

FILES = sorted(FOLDER.rglob("*.py"))


def find_part(file: Path) -> str:
    """Return the part a file belongs to: its first folder or, on top, its own name."""
    part = file.relative_to(FOLDER).with_suffix("").parts[0]
    return PACKAGE if part == "__init__" else part


def list_imported_parts(source: str) -> Iterator[str]:
    """Yield the parts of the package that a source imports, anywhere in it."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                modules = [alias.name for alias in names]
            case ast.ImportFrom(module=str(module), names=names, level=0):
                modules = [f"{module}.{alias.name}" for alias in names]
            case ast.ImportFrom(level=level) if level > 0:
                raise AssertionError(f"relative import in line {node.lineno}")
            case _:
                continue
        for module in modules:
            root, _, rest = module.partition(".")
            if root == PACKAGE:
                name = rest.partition(".")[0]
                yield name if name in RANKS else PACKAGE


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(FOLDER)))
def test_every_file_has_a_layer(file: Path) -> None:
    assert find_part(file) in RANKS


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(FOLDER)))
def test_imports_only_point_down(file: Path) -> None:
    part = find_part(file)
    imported = set(list_imported_parts(file.read_text(encoding="utf-8"))) - {part}
    if part == PACKAGE:
        assert imported == {"inference"}
    assert [name for name in imported if RANKS[name] >= RANKS[part]] == []


def test_an_import_is_found_wherever_it_stands() -> None:
    source = """
import peft_sentiment.pipeline as p
from peft_sentiment import __version__, cli
def f():
    from peft_sentiment.data.files import read_rows
    import torch
"""
    assert sorted(list_imported_parts(source)) == ["cli", "data", PACKAGE, "pipeline"]


def list_loaded(code: str) -> set[str]:
    """Return the heavy libraries that a fresh Python has loaded after some code."""
    code += f"\nimport sys; print('LOADED', *(m for m in {HEAVY_LIBRARIES} if m in sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    return set(done.stdout.rpartition("LOADED")[2].split())


def test_modules_of_words_and_numbers_leave_torch_unloaded() -> None:
    imports = "\n".join(f"import {PACKAGE}.{module}" for module in TORCH_FREE_MODULES)
    assert list_loaded(imports) == set()


def test_a_module_that_needs_torch_is_seen_to_load_it() -> None:
    assert "torch" in list_loaded(f"import {PACKAGE}.model.precision")


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["run", "--dry-run"]])
def test_help_and_dry_run_answer_without_loading_torch(arguments: list[str]) -> None:
    code = f"""
from peft_sentiment.cli import main
try:
    main({arguments})
except SystemExit as end:
    assert end.code == 0
"""
    assert list_loaded(code) == set()
