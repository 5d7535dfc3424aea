"""Secrets of the environment reach nothing that is written or shown; nor do settings reach them."""

import os
from pathlib import Path

import pytest
from tiny_runs import TinyRun

from peft_sentiment import pipeline
from peft_sentiment.cli import main
from peft_sentiment.config import load_settings
from peft_sentiment.errors import SettingsError

SECRET = "hf_VerySecretIndeed0123456789"  # noqa: S105 - made up
NAMES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "WANDB_API_KEY", "MLFLOW_TRACKING_PASSWORD",
         "MLFLOW_TRACKING_TOKEN", "AWS_SECRET_ACCESS_KEY", "OPENAI_API_KEY")  # fmt: skip


@pytest.fixture(autouse=True)
def _secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.setenv(name, SECRET)


def find_secret(folder: Path) -> list[Path]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert len(files) > 10
    return [path for path in files if SECRET.encode() in path.read_bytes()]


def test_a_run_writes_and_shows_none(
    tiny_run: TinyRun, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # Checkpoints would be removed in the end.
    monkeypatch.setattr(pipeline, "remove_unfinished", lambda _: None)
    asked = [*tiny_run.arguments, "--save-steps", "4", "--report-to", "tensorboard"]
    assert main([*asked, "--baselines", "none"]) == 0
    assert list(tiny_run.output.glob("checkpoints/checkpoint-*"))
    assert find_secret(tiny_run.home) == []
    assert main(["doctor"]) == 0
    shown = capsys.readouterr()
    assert SECRET not in shown.out + shown.err
    (tiny_run.output / "leak.txt").write_text(f"x{SECRET}", encoding="utf-8")
    assert find_secret(tiny_run.home) == [tiny_run.output / "leak.txt"]


@pytest.mark.usefixtures("no_network")
def test_a_hub_that_fails_shows_none(tiny_run: TinyRun, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*tiny_run.arguments, "--model-name-or-path", "some/model"]) == 2
    shown = capsys.readouterr()
    assert "can't be reached" in shown.err
    assert SECRET not in shown.out + shown.err


@pytest.mark.parametrize(
    "value",
    ["$HF_TOKEN", "${HF_TOKEN}", "%HF_TOKEN%", "%(HF_TOKEN)s", "{HF_TOKEN}", "{{ HF_TOKEN }}",
     "$(cat /etc/passwd)", "`id`", "~/reviews.csv", "env:HF_TOKEN", "@/etc/passwd", "*.csv"],
)  # fmt: skip
def test_settings_files_expand_nothing(
    value: str, tiny_run: TinyRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "settings.toml"
    path.write_text(f"[data]\ntrain_file = '{value}'\ntext_column = '{value}'\n", encoding="utf-8")
    data = load_settings(config_file=str(path)).data
    assert (data.train_file, data.text_column) == ((value,), value)
    assert main(["run", *tiny_run.settings, "--config", str(path)]) == 2
    message = capsys.readouterr().err
    assert value in message
    assert SECRET not in message
    assert os.path.expanduser("~/reviews.csv") not in message


def test_settings_files_name_no_other_file(tmp_path: Path) -> None:
    other = tmp_path / "other.toml"
    other.write_text("[training]\nseed = 1\n", encoding="utf-8")
    path = tmp_path / "settings.toml"
    for key in ("include", "extends", "base", "config"):
        path.write_text(f"{key} = '{other}'\n", encoding="utf-8")
        with pytest.raises(SettingsError, match=key):
            load_settings(config_file=str(path))
