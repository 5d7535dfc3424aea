"""A training does not gather memory or files; the benchmark watches one of 20,000 steps."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

FILE = Path(__file__).parent.parent / "benchmarks" / "long_run.py"
STEPS = 400


@pytest.fixture(scope="module")
def long_run() -> ModuleType:
    spec = importlib.util.spec_from_file_location("long_run", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["long_run"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_memory_and_open_files_stay_as_they_are(long_run: ModuleType, tmp_path: Path) -> None:
    command = long_run.build_command(tmp_path, STEPS, logging_steps=25, save_steps=50)
    samples = list(long_run.watch(command))
    assert [sample.step for sample in samples][-1] == STEPS
    memory, files = long_run.measure_growth(samples, STEPS // 4)
    assert memory < long_run.MOST_GROWTH
    assert files <= 0


def test_growth_after_the_first_steps_is_seen(long_run: ModuleType) -> None:
    held = [(100, 50, 9), (200, 10, 5), (300, 40, 6), (400, 20, 5)]
    samples = [long_run.Sample(*values) for values in held]
    assert long_run.measure_growth(samples, 200) == (30, 1)
