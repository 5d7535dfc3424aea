"""A stranger's model or adapter gets no memory for what it claims, and no code to run."""

import json
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_runs import TinyRun, leave_sums_out

from peft_sentiment.config import ModelSettings
from peft_sentiment.errors import AdapterError, ModelError, PeftSentimentError
from peft_sentiment.inference.classifier import SentimentClassifier
from peft_sentiment.model.encoder import load_encoder


@pytest.fixture
def adapter(tiny_run: TinyRun) -> Path:
    return leave_sums_out(tiny_run.adapter)


@pytest.fixture
def base(tiny_distilbert: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "base"
    folder.mkdir()
    for file in tiny_distilbert.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    return folder


def change_json(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    values = json.loads(path.read_text(encoding="utf-8"))
    change(values)
    path.write_text(json.dumps(values), encoding="utf-8")


def load_base(folder: Path) -> None:
    load_encoder(ModelSettings(model_name_or_path=str(folder)), ("negative", "positive"), 0)


class Bomb:
    """What a pickle that is loaded runs."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return pytest.fail, ("a pickle was loaded",)


def test_an_adapter_of_a_pickle_is_refused_with_the_way_to_convert_it(adapter: Path) -> None:
    (adapter / "adapter_model.safetensors").unlink()
    (adapter / "adapter_model.bin").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(AdapterError, match=r"is a pickle.*not read.*save_pretrained"):
        SentimentClassifier.load(adapter)


def test_a_pickle_beside_the_weights_is_not_read(adapter: Path) -> None:
    (adapter / "adapter_model.bin").write_bytes(pickle.dumps(Bomb()))
    SentimentClassifier.load(adapter)


@pytest.mark.parametrize("length", [2**62, 2**40, 90_000_000])
def test_a_header_that_claims_more_than_the_file_holds_is_refused(
    adapter: Path, length: int
) -> None:
    path = adapter / "adapter_model.safetensors"
    path.write_bytes(struct.pack("<Q", length) + path.read_bytes()[8:])
    with pytest.raises(AdapterError, match="corrupt"):
        SentimentClassifier.load(adapter)


def test_a_weight_that_claims_terabytes_is_refused(adapter: Path) -> None:
    size = 2**42
    header = {"w": {"dtype": "F32", "shape": [size // 4], "data_offsets": [0, size]}}
    text = json.dumps(header).encode()
    path = adapter / "adapter_model.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text)
    with pytest.raises(AdapterError, match="corrupt"):
        SentimentClassifier.load(adapter)


@pytest.mark.parametrize("change", [{"r": 10**9}, {"rank_pattern": {"q_lin": 10**9}}])
def test_a_rank_that_no_weight_has_is_refused_before_room_is_made_for_it(
    adapter: Path, change: dict[str, Any]
) -> None:
    change_json(adapter / "adapter_config.json", lambda values: values.update(change))
    with pytest.raises(AdapterError, match="1,000,000,000, but no weight is larger"):
        SentimentClassifier.load(adapter)


@pytest.mark.parametrize("name", ["vocab_size", "dim", "hidden_dim", "max_position_embeddings"])
def test_a_base_that_claims_more_weights_than_it_has_is_refused(base: Path, name: str) -> None:
    change_json(base / "config.json", lambda values: values.update({name: 2**24}))
    with pytest.raises(ModelError, match=r"asks for [\d,]+ weights, but there are"):
        load_base(base)


def test_a_config_of_gigabytes_is_not_read(adapter: Path) -> None:
    with (adapter / "adapter_config.json").open("r+b") as file:
        file.truncate(2**32)  # takes no room on disk
    with pytest.raises(AdapterError, match=r"adapter_config.json has 4,294,967,296 bytes"):
        SentimentClassifier.load(adapter)


@pytest.mark.parametrize("name", ["../stolen.safetensors", "/etc/passwd"])
def test_an_index_that_leads_out_of_its_folder_is_refused(base: Path, name: str) -> None:
    index = {"metadata": {}, "weight_map": {"distilbert.embeddings.LayerNorm.weight": name}}
    (base / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    with pytest.raises(ModelError, match="no file of its folder"):
        load_base(base)


def test_nesting_without_end_is_refused(adapter: Path, base: Path) -> None:
    (adapter / "peft_sentiment.json").write_text("[" * 200_000, encoding="utf-8")
    with pytest.raises(AdapterError, match="not readable"):
        SentimentClassifier.load(adapter)
    (base / "config.json").write_text("[" * 200_000, encoding="utf-8")
    with pytest.raises(ModelError):
        load_base(base)


def test_a_setting_of_an_adapter_that_nobody_knows_is_refused(adapter: Path) -> None:
    # peft would go on with the default of the one that is meant, and label other reviews.
    def misspell(values: dict[str, Any]) -> None:
        values["lora_alphb"] = values.pop("lora_alpha")

    change_json(adapter / "adapter_config.json", misspell)
    with pytest.raises(AdapterError, match="lora_alphb"):
        SentimentClassifier.load(adapter)


FILES = ("adapter_config.json", "adapter_model.safetensors", "peft_sentiment.json")


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(name=st.sampled_from(FILES), place=st.floats(0, 1), new=st.binary(max_size=4))
def test_an_adapter_with_any_bytes_changed_loads_or_is_refused_by_us(
    adapter: Path, name: str, place: float, new: bytes
) -> None:
    path = adapter / name
    before = path.read_bytes()
    start = int(place * len(before))
    path.write_bytes(before[:start] + new + before[start + len(new) :])
    try:
        SentimentClassifier.load(adapter, bf16=False)
    except PeftSentimentError as error:
        assert str(adapter) in str(error) or "base" in str(error)  # noqa: PT017
    finally:
        path.write_bytes(before)
