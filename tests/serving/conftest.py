"""The adapters that the tests of the service share."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient
from tiny_service import TinyAdapters, build_service, running, train_tiny_adapters

from peft_sentiment.records.reviews import Reviews


@pytest.fixture(scope="session")
def tiny_adapters(
    tmp_path_factory: pytest.TempPathFactory, tiny_distilbert: Path, tiny_reviews: Reviews
) -> TinyAdapters:
    """Three adapters on the tiny DistilBERT; stars has five classes."""
    root = tmp_path_factory.mktemp("adapters")
    return train_tiny_adapters(tiny_distilbert, tiny_reviews, root)


@pytest.fixture(scope="module")
def client(tiny_adapters: TinyAdapters) -> Iterator[TestClient]:
    """What asks a service of all three."""
    with running(build_service(tiny_adapters.folders)) as client:
        yield client
