"""What is sent is the adapter with its card, and nothing that the user has not meant to give."""

import json
import re
import sys
from pathlib import Path

import pytest
from hub.client import HubClient
from hub.upload_hub import receiving_hub
from huggingface_hub import ModelCard
from tiny_runs import TinyRun, leave_sums_out

from peft_sentiment.cli import main
from peft_sentiment.errors import AdapterError, HubError
from peft_sentiment.inference.classifier import SentimentClassifier
from peft_sentiment.model.metadata import COMPANION_FILES, load_metadata
from peft_sentiment.publishing import Parcel, pack_adapter
from peft_sentiment.records import load_results

SENT = [
    "README.md",
    "adapter_config.json",
    "adapter_model.safetensors",
    "peft_sentiment.json",
    "tokenizer.json",
    "tokenizer_config.json",
]


def pack(run: TinyRun, with_fingerprints: bool = False) -> Parcel:
    return pack_adapter(run.adapter, "owner/mine", with_fingerprints)


def test_a_run_leaves_a_card_that_the_hub_can_read(finished_tiny_run: TinyRun) -> None:
    card = ModelCard.load(finished_tiny_run.adapter / "README.md")
    scores = load_results(finished_tiny_run.output / "results.json").models["peft"]
    assert card.data.library_name == "peft"
    assert card.data.pipeline_tag == "text-classification"
    results = {one.metric_type: one.metric_value for one in card.data.eval_results}
    assert results["accuracy"] == pytest.approx(scores.accuracy, abs=1e-6)
    assert results["f1"] == pytest.approx(scores.f1, abs=1e-6)
    assert "0 = negative, 1 = positive" in card.content
    assert "more than 16 tokens is scored in windows" in card.content
    assert f"| PEFT | {100 * scores.accuracy:.1f} (" in card.content
    assert re.search(r"steps \([\d.]+ passes, learning rate [\d.e-]+ at most\)\.", card.content)
    for heading in ("Use", "Evaluation", "Training", "Limits", "Licences"):
        assert f"## {heading}\n" in card.content


def test_a_training_alone_leaves_a_card_without_scores(tiny_run: TinyRun) -> None:
    assert main(["train", *tiny_run.arguments[1:], "--num-train-epochs", "0.1"]) == 0
    card = ModelCard.load(tiny_run.adapter / "README.md")
    assert card.data.model_name
    assert card.data.eval_results is None


def test_a_base_or_data_file_on_this_machine_is_named_without_its_folder(
    finished_tiny_run: TinyRun,
) -> None:
    card = (finished_tiny_run.adapter / "README.md").read_text(encoding="utf-8")
    assert "base_model:" not in card
    assert str(finished_tiny_run.base.parent) not in card
    assert str(finished_tiny_run.reviews.parent) not in card


def test_bases_and_data_are_named_as_the_hub_knows_them(tiny_run: TinyRun) -> None:
    path = leave_sums_out(tiny_run.adapter) / "peft_sentiment.json"
    metadata = json.loads(path.read_text())
    metadata["base_name"] = "packaged/distilbert-minilm-l6"
    metadata["trained_with"]["data"] = {"dataset_name": "packaged/imdb"}
    path.write_text(json.dumps(metadata))
    (tiny_run.adapter / "README.md").unlink()
    pack(tiny_run)
    card = ModelCard.load(tiny_run.adapter / "README.md")
    assert card.data.base_model == "sentence-transformers/all-MiniLM-L6-v2"
    assert card.data.datasets == "stanfordnlp/imdb"
    assert "Apache-2.0" in card.content
    assert card.data.eval_results is None
    assert "peft-sentiment evaluate" in card.content


def test_an_adapter_with_a_card_can_still_be_replaced(tiny_run: TinyRun) -> None:
    assert main([*tiny_run.arguments, "--seed", "7"]) == 0
    assert (tiny_run.adapter / "README.md").is_file()


def test_fingerprints_of_the_reviews_go_only_if_they_are_asked_for(tiny_run: TinyRun) -> None:
    assert sorted(pack(tiny_run).files) == SENT
    assert "seen_reviews.safetensors" in pack(tiny_run, with_fingerprints=True).files


def test_a_companion_goes_with_its_adapter(tiny_run: TinyRun) -> None:
    """Without it the adapter would say something else, with a calibration that is not its own."""
    leave_sums_out(tiny_run.adapter)
    for name in COMPANION_FILES:
        (tiny_run.adapter / name).write_text("{}")
    assert {*COMPANION_FILES} <= set(pack(tiny_run).files)


def test_whatever_else_lies_in_the_folder_stays_there(tiny_run: TinyRun) -> None:
    (tiny_run.adapter / "notes.txt").write_text("private")
    (tiny_run.adapter / "token").mkdir()
    assert sorted(pack(tiny_run).files) == SENT


def test_no_path_of_this_machine_is_sent(tiny_run: TinyRun) -> None:
    for content in pack(tiny_run).files.values():
        for place in (tiny_run.base.parent, tiny_run.reviews.parent, tiny_run.home.parent):
            assert str(place).encode() not in content


def test_a_dry_run_shows_what_would_go_and_asks_nobody(
    tiny_run: TinyRun, no_network: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["push", str(tiny_run.adapter), "owner/mine", "--dry-run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "To owner/mine would go:"
    assert [line.split()[-1] for line in lines[1:]] == SENT
    size = (tiny_run.adapter / "adapter_model.safetensors").stat().st_size
    assert re.search(rf" {size:,} bytes  adapter_model\.safetensors", "\n".join(lines))
    assert no_network == []


@pytest.mark.parametrize("name", ["", "a/b/c", "owner/..", "owner/na me"])
def test_a_name_that_is_no_repositorys_is_refused(tiny_run: TinyRun, name: str) -> None:
    with pytest.raises(HubError, match="owner/name"):
        pack_adapter(tiny_run.adapter, name, with_fingerprints=False)


def test_a_folder_without_an_adapter_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AdapterError):
        pack_adapter(tmp_path, "owner/mine", with_fingerprints=False)


def push(client: HubClient, run: TinyRun, *flags: str) -> tuple[int, str]:
    code = f"""
import os, sys
os.environ["HF_TOKEN"] = "hf_test"
from peft_sentiment.cli import main
sys.exit(main({["push", str(run.adapter), "owner/mine", *flags]!r}))
"""
    done = client.run([sys.executable, "-c", code], check=False)
    return done.returncode, done.stdout + done.stderr


def test_what_a_hub_receives_can_be_loaded(tiny_run: TinyRun, tmp_path: Path) -> None:
    with receiving_hub() as hub:
        client = HubClient(hub.endpoint, tmp_path / "client")
        code, shown = push(client, tiny_run, "--private")
    assert code == 0, shown
    assert f"{hub.endpoint}/owner/mine/commit/" in shown
    assert sorted(hub.files) == SENT
    assert hub.repositories[0]["visibility"] == "private"
    assert client.list_refused_hosts() == []
    folder = tmp_path / "received"
    folder.mkdir()
    for name, content in hub.files.items():
        (folder / name).write_bytes(content)
    texts = ["a good film", "a bad film"]
    sent, kept = (
        SentimentClassifier.load(place, model_name_or_path=str(tiny_run.base), bf16=False)
        for place in (folder, tiny_run.adapter)
    )
    assert (sent.predict_proba(texts) == kept.predict_proba(texts)).all()


def test_a_hub_that_refuses_is_named_with_what_to_do(tiny_run: TinyRun, tmp_path: Path) -> None:
    with receiving_hub() as hub:
        hub.refuses = True
        code, shown = push(HubClient(hub.endpoint, tmp_path / "client"), tiny_run)
    assert code == 2
    assert "owner/mine: the hub did not take the adapter" in shown
    assert "HF_TOKEN" in shown
    assert "Traceback" not in shown


def test_what_is_packed_has_the_sums_of_what_is_packed(tiny_run: TinyRun, tmp_path: Path) -> None:
    for name, content in pack(tiny_run).files.items():
        (tmp_path / name).write_bytes(content)
    files = load_metadata(tmp_path).files
    assert files is not None
    assert "seen_reviews.safetensors" not in files
    assert "adapter_model.safetensors" in files
