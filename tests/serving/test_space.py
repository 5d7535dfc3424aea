"""What the docs put into a Space of the hub runs, and shows the page."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
import urllib.request
from pathlib import Path

import pytest
from free_port import find_free_port
from tiny_runs import TinyRun

ROOT = Path(__file__).parents[2]


def read_block(language: str) -> str:
    """Return the code block of a language in the passage on Spaces."""
    page = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")
    passage = page.split("## As a Space of the hub\n")[1].split("\n## ")[0]
    (block,) = re.findall(rf"```{language}\n(.*?)```", passage, flags=re.DOTALL)
    return str(block)


def test_the_app_of_the_docs_shows_the_page(finished_tiny_run: TinyRun, tmp_path: Path) -> None:
    pytest.importorskip("gradio")
    shutil.copytree(finished_tiny_run.adapter, tmp_path / "saved_peft_model")
    (tmp_path / "app.py").write_text(read_block("python"), encoding="utf-8")
    port = find_free_port()
    environment = {**os.environ, "GRADIO_SERVER_PORT": str(port)}
    command = [sys.executable, str(tmp_path / "app.py")]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, cwd=tmp_path, env=environment
    ) as process:
        try:
            assert process.stdout is not None
            said = process.stdout.readline()
            assert f"http://127.0.0.1:{port}/" in said, said
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=60) as answer:
                assert "PEFT Sentiment" in answer.read().decode()
        finally:
            process.terminate()


def test_the_space_asks_for_the_gradio_that_is_pinned() -> None:
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    (version,) = re.findall(r"sdk_version: (.+)", read_block("yaml"))
    assert f"gradio=={version}" in pins
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    wanted = re.findall(r"peft-sentiment\[(.+?)\]", read_block("text"))[0].split(",")
    assert set(wanted) <= set(extras["project"]["optional-dependencies"])
