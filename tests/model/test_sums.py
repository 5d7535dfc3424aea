"""What an adapter is loaded from is what was saved, to the bit; its metadata has the sums."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_runs import TinyRun, leave_sums_out

from peft_sentiment.errors import AdapterError
from peft_sentiment.inference.classifier import SentimentClassifier
from peft_sentiment.inference.loading import load_labeller
from peft_sentiment.model.metadata import METADATA_FILE, load_metadata

FILES = ["adapter_config.json", "adapter_model.safetensors", "peft_sentiment.json",
         "seen_reviews.safetensors", "tokenizer.json", "tokenizer_config.json"]  # fmt: skip


def change_json(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    values = json.loads(path.read_text(encoding="utf-8"))
    change(values)
    path.write_text(json.dumps(values, indent=2, ensure_ascii=False), encoding="utf-8")


def test_every_file_but_the_card_has_a_sum(finished_tiny_run: TinyRun) -> None:
    metadata = load_metadata(finished_tiny_run.adapter)
    found = {path.name for path in finished_tiny_run.adapter.iterdir()}
    assert metadata.files is not None
    assert sorted({*metadata.files, METADATA_FILE}) == sorted(found - {"README.md"}) == FILES


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("place", [0.0, 0.31, 0.72, 1.0])
def test_a_flipped_bit_anywhere_is_refused_with_the_file_named(
    tiny_run: TinyRun, name: str, place: float
) -> None:
    path = tiny_run.adapter / name
    content = bytearray(path.read_bytes())
    # In metadata, a bit of a blank between two values changes nothing that is read.
    spot = min(int(place * len(content)), len(content) - 1)
    while chr(content[spot]).isspace():
        spot -= 1
    content[spot] ^= 1
    path.write_bytes(content)
    with pytest.raises(AdapterError, match=rf"{name}.*Copy the folder again"):
        SentimentClassifier.load(tiny_run.adapter)


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_ends_early_is_refused_with_the_file_named(
    tiny_run: TinyRun, name: str
) -> None:
    path = tiny_run.adapter / name
    path.write_bytes(path.read_bytes()[:-1].rstrip()[:-1])
    with pytest.raises(AdapterError, match=name):
        SentimentClassifier.load(tiny_run.adapter)


def test_another_alpha_is_refused_by_the_quick_form_too(tiny_run: TinyRun) -> None:
    path = tiny_run.adapter / "adapter_config.json"
    change_json(path, lambda values: values.update(lora_alpha=values["lora_alpha"] * 2))
    with pytest.raises(AdapterError, match=r"adapter_config\.json: the file is not the one"):
        load_labeller(tiny_run.adapter, {})


def test_other_label_names_are_refused(tiny_run: TinyRun) -> None:
    path = tiny_run.adapter / METADATA_FILE
    change_json(path, lambda values: values.update(label_names=["positive", "negative"]))
    with pytest.raises(AdapterError, match=r"peft_sentiment\.json: the file is not the one"):
        SentimentClassifier.load(tiny_run.adapter)


@pytest.mark.parametrize("name", ["files", "sha256"])
def test_metadata_that_has_lost_one_kind_of_sum_is_refused(tiny_run: TinyRun, name: str) -> None:
    change_json(tiny_run.adapter / METADATA_FILE, lambda values: values.pop(name))
    with pytest.raises(AdapterError, match=r"peft_sentiment\.json: the file is not the one"):
        SentimentClassifier.load(tiny_run.adapter)


def test_an_adapter_of_before_there_were_sums_is_loaded(tiny_run: TinyRun) -> None:
    expected = SentimentClassifier.load(tiny_run.adapter).predict_proba(["A film."])
    folder = leave_sums_out(tiny_run.adapter)
    assert load_metadata(folder).files is None
    assert (SentimentClassifier.load(folder).predict_proba(["A film."]) == expected).all()


def test_an_adapter_of_before_there_were_windows_scores_all_at_once(tiny_run: TinyRun) -> None:
    path = leave_sums_out(tiny_run.adapter) / "peft_sentiment.json"
    values = json.loads(path.read_text(encoding="utf-8"))
    assert values.pop("window_length") == 16
    path.write_text(json.dumps(values), encoding="utf-8")
    assert SentimentClassifier.load(tiny_run.adapter).get_params()["window_length"] == 0


def test_an_adapter_that_is_loaded_and_saved_has_sums_of_its_own(
    tiny_run: TinyRun, tmp_path: Path
) -> None:
    folder = tmp_path / "again"
    SentimentClassifier.load(leave_sums_out(tiny_run.adapter)).save(folder)
    assert load_metadata(folder).files is not None
    SentimentClassifier.load(folder)


def test_what_can_be_spared_may_be_removed_and_nothing_else(tiny_run: TinyRun) -> None:
    (tiny_run.adapter / "README.md").write_text("changed", encoding="utf-8")
    (tiny_run.adapter / "seen_reviews.safetensors").unlink()
    SentimentClassifier.load(tiny_run.adapter)
    (tiny_run.adapter / "tokenizer_config.json").unlink()
    with pytest.raises(AdapterError, match=r"lacks tokenizer_config\.json"):
        SentimentClassifier.load(tiny_run.adapter)


def test_a_name_among_the_sums_does_not_lead_out_of_the_folder(
    tiny_run: TinyRun, tmp_path: Path
) -> None:
    (tmp_path / "outside").write_text("x", encoding="utf-8")
    path = tiny_run.adapter / METADATA_FILE
    change_json(path, lambda values: values["files"].update({"../../outside": "0"}))
    with pytest.raises(AdapterError, match=r"lacks \.\./\.\./outside"):
        SentimentClassifier.load(tiny_run.adapter)
