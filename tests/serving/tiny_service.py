"""Three tiny adapters on one encoder, and services made of them."""

import dataclasses
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from starlette.testclient import TestClient

from peft_sentiment.config import ServiceSettings
from peft_sentiment.inference.classifier import SentimentClassifier
from peft_sentiment.records.reviews import Reviews
from peft_sentiment.serving.adapters import AdapterRegistry
from peft_sentiment.serving.api import build_app
from peft_sentiment.serving.keys import ApiKeys
from peft_sentiment.serving.server import Server, build_config
from peft_sentiment.serving.service import Service, load_adapters

OVERRIDES = {"training": {"bf16": False}}
STARS = ("five", "four", "one", "three", "two")


@dataclasses.dataclass(frozen=True)
class TinyAdapters:
    """Where the adapters are.

    Attributes:
        root: folder of all of them: plain, wide and stars, the last one with five classes.
    """

    root: Path

    @property
    def folders(self) -> dict[str, str]:
        return {name: str(self.root / name) for name in ("plain", "wide", "stars")}


def train_tiny_adapters(base: Path, reviews: Reviews, root: Path) -> TinyAdapters:
    """Train an adapter in query and value, one in all linear layers, and one with five classes."""
    texts, labels = list(reviews.texts[:40]), list(reviews.labels[:40])
    stars = [STARS[place % 5] for place in range(40)]
    every = ("q_lin", "k_lin", "v_lin", "out_lin", "lin1", "lin2")
    for name, own_labels, settings in (
        ("plain", labels, {"seed": 1, "window_length": 12}),
        ("wide", labels, {"seed": 2, "target_modules": every}),
        ("stars", stars, {"seed": 3}),
    ):
        classifier = SentimentClassifier(
            model_name_or_path=str(base), max_length=48, r=4, num_train_epochs=2,
            learning_rate=2e-2, per_device_train_batch_size=8, bf16=False, **settings,
        )  # fmt: skip
        classifier.fit(texts, own_labels).save(root / name)
    return TinyAdapters(root)


def build_service(
    adapters: Mapping[str, str],
    root: Path | None = None,
    keys: tuple[str, ...] = (),
    **settings: Any,  # noqa: ANN401 - each setting has its own type
) -> Service:
    """Return a service of these adapters, not started yet."""
    chosen = ServiceSettings(**settings)
    registry = AdapterRegistry(OVERRIDES, None if root is None else str(root), chosen.max_adapters)
    load_adapters(registry, adapters)
    return Service(chosen, registry, ApiKeys(keys))


@contextmanager
def running(service: Service) -> Iterator[TestClient]:
    """Run a service in this process, and give what asks it."""
    with TestClient(build_app(service), base_url="http://127.0.0.1") as client:
        yield client


@contextmanager
def listening(service: Service) -> Iterator[str]:
    """Run a service in a thread, as its own process would, and give its address."""
    server = Server(build_config(service), service)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.handle_exit(signal.SIGTERM, None)
        thread.join(timeout=20)
        assert not thread.is_alive()
