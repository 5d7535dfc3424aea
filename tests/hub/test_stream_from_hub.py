"""A data set of the hub that is streamed: read file by file, and not kept as a whole."""

import json
import sys

from hub.client import HubClient
from hub.loopback import LoopbackHub

PROGRAM = """
import json, os, sys
from pathlib import Path
from peft_sentiment.config import DataSettings
from peft_sentiment.data.sources import load_reviews
from peft_sentiment.data.streaming import load_streamed

def collect(splits):
    return sorted(zip(splits.texts, splits.labels))

sizes = {"validation_size": 10, "test_size": "full"}
settings = DataSettings(dataset_name=sys.argv[1], streaming=True, **sizes)
streamed = load_streamed(settings, 0, Path("cache"), lambda words: None)
again = load_streamed(settings, 0, Path("cache"), lambda words: None)
splits = streamed.splits
kept = [str(path) for path in Path(os.environ["HF_HOME"]).rglob("*.parquet")]
held = load_reviews(DataSettings(dataset_name=sys.argv[1]))
print(json.dumps({
    "kept": kept,
    "held": [collect(held.train), collect(held.test)],
    "label_names": splits.label_names,
    "train": sorted(collect(splits.train) + collect(splits.validation)),
    "test": collect(splits.test),
    "is_new": [streamed.pool.folder.is_new, again.pool.folder.is_new],
    "names": [streamed.pool.place(0), splits.sha256],
}))
"""


def test_streamed_it_has_the_reviews_that_it_has_in_memory(
    hub: LoopbackHub, hub_client: HubClient
) -> None:
    done = hub_client.run([sys.executable, "-c", PROGRAM, "imdb"])
    assert any(request.path.endswith(".parquet") for request in hub.requests)
    found = json.loads(done.stdout)
    assert found["kept"] == []
    assert [found["train"], found["test"]] == found["held"]
    assert found["label_names"] == ["negative", "positive"]
    assert found["is_new"] == [True, False]
    place, commit = found["names"]
    assert place == "imdb, split train, row 1"
    assert len(commit) == 40
    assert hub_client.list_refused_hosts() == []


def test_without_the_hub_it_says_so(hub: LoopbackHub, hub_client: HubClient) -> None:
    hub.stop()
    done = hub_client.run([sys.executable, "-c", PROGRAM, "stanfordnlp/imdb"], check=False)
    assert done.returncode != 0
    assert "HubError: Data set 'stanfordnlp/imdb'" in done.stderr
    assert "can't be reached" in done.stderr
