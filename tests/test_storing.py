"""A run that could not be stored is refused before time is spent on it."""

from pathlib import Path
from typing import Any

import pytest
from tiny_runs import TinyRun

from peft_sentiment.config import Settings, load_settings
from peft_sentiment.errors import OutputError, SettingsError
from peft_sentiment.storing import require_outputs


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    places = {"output_dir": str(tmp_path / "output"), "adapter_dir": str(tmp_path / "adapter")}
    return load_settings(overrides={"output": {**places, "overwrite_adapter_dir": False}})


def test_two_folders_that_are_not_there_yet_are_taken(settings: Settings) -> None:
    require_outputs(settings)


def test_an_adapter_is_replaced_only_where_that_is_allowed(
    settings: Settings, tiny_run: TinyRun
) -> None:
    tables: dict[str, dict[str, Any]] = {"output": {"adapter_dir": str(tiny_run.adapter)}}
    with pytest.raises(OutputError, match=r"there is an adapter already.*--overwrite-adapter-dir"):
        require_outputs(settings.updated(tables, "test"))
    tables["output"]["overwrite_adapter_dir"] = True
    require_outputs(settings.updated(tables, "test"))


def test_results_inside_the_adapter_are_refused(settings: Settings) -> None:
    inside = str(Path(settings.output.adapter_dir) / "results")
    with pytest.raises(OutputError, match="would replace the results"):
        require_outputs(settings.updated({"output": {"output_dir": inside}}, "test"))


def test_a_threshold_without_validation_reviews_is_refused(settings: Settings) -> None:
    tables = {"evaluation": {"min_precision": 0.9}, "data": {"validation_size": 0}}
    with pytest.raises(SettingsError, match="validation_size is 0"):
        require_outputs(settings.updated(tables, "test"))
