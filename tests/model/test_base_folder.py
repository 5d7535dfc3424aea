"""A base is found where it is, and what is no base is told from one."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_training import load_tiny_encoder

from peft_sentiment.errors import ModelError
from peft_sentiment.model.base_folder import find_model_folder


def test_a_pickle_is_refused(own_distilbert: Path) -> None:
    weights = load_file(own_distilbert / "model.safetensors")
    torch.save(weights, own_distilbert / "pytorch_model.bin")
    (own_distilbert / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="pickle"):
        load_tiny_encoder(own_distilbert)


@pytest.mark.parametrize(
    ("file", "missing"), [("config.json", "config.json"), ("model.safetensors", "model weights")]
)
def test_a_folder_that_lacks_a_file_is_refused(
    own_distilbert: Path, file: str, missing: str
) -> None:
    (own_distilbert / file).unlink()
    with pytest.raises(ModelError, match=f"lacks {missing}"):
        load_tiny_encoder(own_distilbert)


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("packaged/nothing", "packaged/distilbert-minilm-l6"),
        ("./nothing", "no such model folder"),
        ("a/b/c", "no such model folder"),
    ],
)
def test_a_model_that_is_nowhere_is_told_without_asking_the_hub(
    name: str, match: str, no_network: list[str]
) -> None:
    with pytest.raises(ModelError, match=match):
        find_model_folder(name, None)
    assert no_network == []


def test_an_adapter_folder_is_told_from_a_model(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(ModelError, match="It is an adapter"):
        find_model_folder(str(tmp_path), None)
