"""The loopback hub, as the real clients of the Hugging Face Hub see it."""

import json
import socket
import time
import urllib.request
from pathlib import Path

import pytest
from hub.client import HubClient
from hub.loopback import LoopbackHub
from hub.repositories import DISTILBERT, IMDB
from huggingface_hub import HfApi
from huggingface_hub.errors import (
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

LEGACY_DISTILBERT = "distilbert-base-uncased"

SNAPSHOT = """
from pathlib import Path
from huggingface_hub import snapshot_download
folder = snapshot_download("distilbert-base-uncased", allow_patterns=["*.json", "*.safetensors"])
print(*sorted(path.name for path in Path(folder).iterdir()))
"""

LOAD_MODEL = """
from transformers import AutoModelForSequenceClassification, AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained("distilbert-base-uncased")
model = AutoModelForSequenceClassification.from_pretrained("distilbert-base-uncased")
logits = model(**tokenizer("", return_tensors="pt")).logits
print(tokenizer.tokenize("A wonderful film!"), logits.shape)
"""

DESCRIBE_IMDB = """
print({name: len(part) for name, part in parts.items()})
print(parts["train"].features["label"].names, set(parts["unsupervised"]["label"]))
"""
IMDB_DESCRIPTION = "{'train': 120, 'test': 40, 'unsupervised': 40}\n['neg', 'pos'] {-1}\n"

LOAD_IMDB = f"""
from datasets import load_dataset
parts = load_dataset("stanfordnlp/imdb")
{DESCRIBE_IMDB}
"""

LOAD_IMDB_SNAPSHOT = f"""
from datasets import load_dataset
from huggingface_hub import snapshot_download
parts = load_dataset(snapshot_download("stanfordnlp/imdb", repo_type="dataset"))
{DESCRIBE_IMDB}
"""

SKIP_WAITING = """
import time
waits = []
time.sleep = waits.append
"""


@pytest.fixture
def api(hub: LoopbackHub) -> HfApi:
    return HfApi(endpoint=hub.endpoint, token=False)


def test_a_snapshot_holds_what_was_asked_for_and_outlives_the_hub(
    hub: LoopbackHub, hub_client: HubClient
) -> None:
    names = "config.json model.safetensors tokenizer.json tokenizer_config.json\n"
    assert hub_client.run_python(SNAPSHOT).stdout == names
    assert not any(request.path.endswith((".bin", ".md")) for request in hub.requests)

    hub.stop()
    start = time.monotonic()
    assert hub_client.run_python(SNAPSHOT).stdout == names
    assert time.monotonic() - start < 10
    assert hub_client.list_refused_hosts() == []


def test_encoder_and_tokenizer_load_under_the_legacy_name(
    hub: LoopbackHub, hub_client: HubClient
) -> None:
    written = hub_client.run_python(LOAD_MODEL).stdout
    assert written == "['a', 'wonderful', 'film', '!'] torch.Size([1, 2])\n"
    assert any(request.path.startswith(f"/{DISTILBERT}/resolve/") for request in hub.requests)
    assert hub_client.list_refused_hosts() == []


def test_a_data_set_loads_by_name_and_again_from_the_cache(
    hub: LoopbackHub, hub_client: HubClient
) -> None:
    assert hub_client.run_python(LOAD_IMDB).stdout == IMDB_DESCRIPTION

    hub.stop()
    # `datasets` takes its cache only after five retries, with waits of 23 seconds in all.
    assert hub_client.run_python(SKIP_WAITING + LOAD_IMDB).stdout == IMDB_DESCRIPTION
    # It counts the download at one host and asks another for statistics; it needs neither.
    assert set(hub_client.list_refused_hosts()) <= {"s3.amazonaws.com", "datasets-server.127.0.0.1"}


def test_a_data_set_snapshot_loads_without_hub_other_hosts_and_waiting(
    hub: LoopbackHub, hub_client: HubClient
) -> None:
    assert hub_client.run_python(LOAD_IMDB_SNAPSHOT).stdout == IMDB_DESCRIPTION

    hub.stop()
    again = hub_client.run_python(SKIP_WAITING + LOAD_IMDB_SNAPSHOT + "print(sum(waits))")
    assert again.stdout == IMDB_DESCRIPTION + "0\n"
    assert hub_client.list_refused_hosts() == []


def test_a_missing_data_set_is_told_at_once(hub: LoopbackHub, hub_client: HubClient) -> None:
    code = "from datasets import load_dataset\nload_dataset('nobody/nothing')"
    failed = hub_client.run_python(code, check=False)
    assert "DatasetNotFoundError: Dataset 'nobody/nothing' doesn't exist" in failed.stderr
    assert len(hub.requests) == 1


def test_missing_repositories_revisions_and_files_are_told_apart(
    api: HfApi, tmp_path: Path
) -> None:
    with pytest.raises(RepositoryNotFoundError):
        api.snapshot_download("nobody/nothing", cache_dir=tmp_path)
    with pytest.raises(RepositoryNotFoundError):
        api.snapshot_download(DISTILBERT, repo_type="dataset", cache_dir=tmp_path)
    with pytest.raises(RevisionNotFoundError):
        api.snapshot_download(DISTILBERT, revision="v9", cache_dir=tmp_path)
    with pytest.raises(RemoteEntryNotFoundError):
        api.hf_hub_download(DISTILBERT, "nothing.json", cache_dir=tmp_path)


def test_a_download_equals_the_stored_file(
    api: HfApi, hub_repositories: Path, tmp_path: Path
) -> None:
    stored = hub_repositories / "models" / DISTILBERT
    for name in ("config.json", "model.safetensors"):
        downloaded = api.hf_hub_download(LEGACY_DISTILBERT, name, cache_dir=tmp_path)
        assert Path(downloaded).read_bytes() == (stored / name).read_bytes()


def test_a_listing_tells_paths_sizes_and_hashes(api: HfApi, hub_repositories: Path) -> None:
    stored = hub_repositories / "datasets" / IMDB
    listed = {
        entry.path: entry for entry in api.list_repo_tree(IMDB, repo_type="dataset", recursive=True)
    }
    parts = [f"plain_text/{part}-00000-of-00001.parquet" for part in ("train", "test")]
    assert listed.keys() == {
        *parts,
        "plain_text/unsupervised-00000-of-00001.parquet",
        "plain_text",
        "README.md",
    }
    assert listed[parts[0]].size == (stored / parts[0]).stat().st_size
    assert listed[parts[0]].lfs.size == listed[parts[0]].size
    assert listed["README.md"].lfs is None


def test_a_listing_of_one_level_and_of_paths(api: HfApi) -> None:
    top = api.list_repo_tree(IMDB, repo_type="dataset", expand=True)
    assert {entry.path: entry.last_commit.title for entry in top} == {
        "README.md": "First commit",
        "plain_text": "First commit",
    }
    asked = ["README.md", "plain_text", "nothing"]
    found = api.get_paths_info(IMDB, asked, repo_type="dataset")
    assert [entry.path for entry in found] == ["README.md", "plain_text"]


def test_the_commit_is_the_same_everywhere(api: HfApi) -> None:
    commit = api.model_info(DISTILBERT).sha
    assert api.model_info(LEGACY_DISTILBERT, revision=commit, files_metadata=True).sha == commit
    url = f"{api.endpoint}/{DISTILBERT}/resolve/main/config.json"
    assert api.get_hf_file_metadata(url=url).commit_hash == commit


def test_a_changed_file_is_a_new_commit(tmp_path: Path) -> None:
    folder = tmp_path / "models" / "someone" / "something"
    folder.mkdir(parents=True)
    commits = []
    with LoopbackHub(tmp_path) as hub:
        for text in ("one", "two"):
            (folder / "config.json").write_text(text, encoding="utf-8")
            commits.append(HfApi(endpoint=hub.endpoint).model_info("someone/something").sha)
    assert commits[0] != commits[1]


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("bytes=0-3", slice(0, 4)),
        ("bytes=5-", slice(5, None)),
        ("bytes=-4", slice(-4, None)),
        ("bytes=2-999999999", slice(2, None)),
    ],
)
def test_a_range_is_that_part_of_the_file(
    hub: LoopbackHub, hub_repositories: Path, asked: str, expected: slice
) -> None:
    whole = (hub_repositories / "models" / DISTILBERT / "config.json").read_bytes()
    url = f"{hub.endpoint}/{DISTILBERT}/resolve/main/config.json"
    with urllib.request.urlopen(urllib.request.Request(url, headers={"Range": asked})) as response:
        assert response.status == 206
        assert response.headers["Content-Range"].endswith(f"/{len(whole)}")
        assert response.read() == whole[expected]


def test_a_head_response_counts_the_body_and_leaves_it_out(
    hub: LoopbackHub, hub_repositories: Path
) -> None:
    size = (hub_repositories / "models" / DISTILBERT / "model.safetensors").stat().st_size
    url = f"{hub.endpoint}/{DISTILBERT}/resolve/main/model.safetensors"
    with urllib.request.urlopen(urllib.request.Request(url, method="HEAD")) as response:
        assert response.headers["Content-Length"] == response.headers["X-Linked-Size"] == str(size)
        assert response.headers["ETag"] == response.headers["X-Linked-Etag"]
        assert response.read() == b""


def test_requests_are_recorded_in_order(hub: LoopbackHub, api: HfApi) -> None:
    api.model_info(DISTILBERT)
    api.get_paths_info(DISTILBERT, ["config.json"])
    assert hub.requests == [
        ("GET", f"/api/models/{DISTILBERT}"),
        ("POST", f"/api/models/{DISTILBERT}/paths-info/main"),
    ]


def test_without_network_loopback_answers_and_other_hosts_are_refused(
    no_network: list[str], hub: LoopbackHub
) -> None:
    with urllib.request.urlopen(f"{hub.endpoint}/api/models/{DISTILBERT}") as response:
        assert json.load(response)["id"] == DISTILBERT
    assert no_network == []

    with pytest.raises(socket.gaierror):
        socket.create_connection(("example.org", 443), timeout=1)
    with socket.socket() as other, pytest.raises(OSError, match="Network is unreachable"):
        other.connect(("192.0.2.1", 443))
    with socket.socket() as other, pytest.raises(OSError, match="Network is unreachable"):
        other.connect_ex(("192.0.2.1", 443))
    assert no_network == ["example.org", "192.0.2.1", "192.0.2.1"]
