"""The whole pipeline on a model and data of a hub, and on packaged ones without any network."""

import json
import sys
from pathlib import Path

from hub.client import HubClient
from hub.loopback import LoopbackHub

COMMAND = [sys.executable, "-m", "peft_sentiment.cli", "run"]
SMALL = ["--train-size", "64", "--validation-size", "16", "--test-size", "40"]
TINY_PRESET = ["--preset", "distilbert-imdb", "--max-length", "128", "--num-train-epochs", "1"]


def _read_results(folder: Path) -> dict[str, dict[str, object]]:
    results: dict[str, dict[str, object]] = json.loads((folder / "results.json").read_text())
    return results


def test_the_hub_preset_runs_from_the_hub_and_later_from_the_cache(
    hub: LoopbackHub, hub_client: HubClient
) -> None:
    command = [*COMMAND, *TINY_PRESET, *SMALL]
    first = hub_client.run([*command, "--output-dir", "online", "--adapter-dir", "first"])
    asked = [path for _, path in hub.requests]
    hub.stop()
    hub_client.run([*command, "--output-dir", "offline", "--adapter-dir", "second"])

    online, offline = (_read_results(hub_client.home / name) for name in ("online", "offline"))
    assert "Part 4 of 4" in first.stdout
    assert online["models"]["peft"] is not None
    assert _without_rates(online["models"]) == _without_rates(offline["models"])
    assert any("stanfordnlp/imdb" in path for path in asked)
    assert any(path.endswith("model.safetensors") for path in asked)
    assert not any(path.endswith(".bin") for path in asked)
    assert hub_client.list_refused_hosts() == []


def _without_rates(models: dict[str, object]) -> dict[str, object]:
    """Scores by model, without the one figure that depends on the machine's mood."""
    copied: dict[str, dict[str, object]] = json.loads(json.dumps(models))
    return {
        name: {key: value for key, value in scores.items() if key != "reviews_per_second"}
        for name, scores in copied.items()
    }


def test_the_default_run_asks_the_network_for_nothing(
    hub: LoopbackHub, hub_client: HubClient
) -> None:
    sizes = ["--train-size", "32", "--validation-size", "8", "--test-size", "16"]
    done = hub_client.run([*COMMAND, *sizes, "--num-train-epochs", "1", "--max-length", "64"])
    assert "packaged/distilbert-minilm-l6" in done.stdout
    assert _read_results(hub_client.home / "peft_model_output")["status"] == "finished"
    assert hub_client.list_refused_hosts() == []
    assert hub.requests == []
