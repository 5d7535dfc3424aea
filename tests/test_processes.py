"""What a launcher has set up is found, and what can't be done is refused."""

import os

import pytest

from peft_sentiment.errors import SettingsError
from peft_sentiment.launchers import is_launched, is_restarted
from peft_sentiment.processes import Processes, get_processes, joined_processes


@pytest.fixture(autouse=True)
def no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WORLD_SIZE", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "TORCHELASTIC_RUN_ID"):
        monkeypatch.delenv(name, raising=False)


def test_a_command_without_a_launcher_works_alone() -> None:
    with joined_processes("cpu") as processes:
        assert processes == get_processes() == Processes()
        assert processes.agree(lambda: 7) == 7
        assert not processes.any(False)
        assert processes.any(True)


@pytest.mark.parametrize(("size", "launched"), [("1", False), ("2", True), ("", False)])
def test_several_processes_are_told_from_one(
    size: str, launched: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", size)
    assert is_launched() is launched


@pytest.mark.parametrize(("restarts", "restarted"), [("0", False), ("1", True), ("2", True)])
def test_a_restart_by_torchrun_is_told_from_the_first_start(
    restarts: str, restarted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", restarts)
    assert not is_restarted()  # Nothing is known of torchrun yet.
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    assert is_restarted() is restarted


FSDP_VERSION = ("ACCELERATE_USE_FSDP", "FSDP_VERSION", "--fsdp_version 2")
ZERO_STAGE = ("ACCELERATE_USE_DEEPSPEED", "ACCELERATE_DEEPSPEED_ZERO_STAGE", "--zero_stage 3")


@pytest.mark.parametrize(
    ("names", "value"),
    [
        *((FSDP_VERSION, value) for value in ("1", None)),
        *((ZERO_STAGE, value) for value in ("0", "2", None)),
    ],
)
def test_what_cannot_divide_frozen_weights_alone_is_refused(
    names: tuple[str, str, str], value: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, variable, advice = names
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv(asked, "true")
    monkeypatch.delenv(variable, raising=False)
    if value is not None:
        monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError, match=advice), joined_processes("cpu"):
        pass


def test_a_file_of_deepspeed_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    monkeypatch.setenv("ACCELERATE_DEEPSPEED_CONFIG_FILE", "nowhere/zero.json")
    with pytest.raises(SettingsError, match="nowhere"), joined_processes("cpu"):
        pass


def test_deepspeed_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with (
        pytest.raises(SettingsError, match=r"peft-sentiment\[deepspeed\]"),
        joined_processes("cpu"),
    ):
        pass


@pytest.mark.parametrize("name", ["FSDP", "DEEPSPEED"])
def test_one_process_alone_divides_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"ACCELERATE_USE_{name}", "true")
    with joined_processes("cpu") as processes:
        assert not processes.sharding
        assert f"ACCELERATE_USE_{name}" not in os.environ
    assert os.environ[f"ACCELERATE_USE_{name}"] == "true"


def test_megatron_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("ACCELERATE_USE_MEGATRON_LM", "true")
    with pytest.raises(SettingsError, match="Launch without it"), joined_processes("cpu"):
        pass
