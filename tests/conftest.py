"""Fixtures for all tests: tiny encoders and reviews, caches of their own, a hub, no network."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest
from hub.client import HubClient
from hub.guard.loopback_only import refuse_other_hosts
from hub.loopback import LoopbackHub
from tiny_reviews import build_tiny_reviews, write_reviews_csv
from tiny_runs import TinyRun

from peft_sentiment.cli import main
from peft_sentiment.records.reviews import Reviews

# How long an example takes depends on what else the machine does.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")

CACHE_FOLDER = pytest.StashKey[str]()


def pytest_configure(config: pytest.Config) -> None:
    """Give the session caches of its own, before anything is imported that reads their names."""
    folder = tempfile.mkdtemp(prefix="peft-sentiment-tests-")
    config.stash[CACHE_FOLDER] = folder
    os.environ["HF_HOME"] = os.path.join(folder, "huggingface")
    os.environ["PEFT_SENTIMENT_CACHE"] = os.path.join(folder, "peft-sentiment")
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    # On weights this small, threads that wait for each other take ten times as long as one alone.
    os.environ["OMP_NUM_THREADS"] = "1"


def pytest_unconfigure(config: pytest.Config) -> None:
    shutil.rmtree(config.stash[CACHE_FOLDER], ignore_errors=True)


@pytest.fixture(scope="session")
def tiny_tokenizer_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a saved lower-casing WordPiece tokenizer with a few hundred pieces."""
    from tiny_models import build_tiny_tokenizer

    folder = tmp_path_factory.mktemp("tiny") / "tokenizer"
    build_tiny_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_distilbert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a saved DistilBERT of width 32 with two layers, and no classification head."""
    return _build_encoder("distilbert", tmp_path_factory)


@pytest.fixture
def own_distilbert(tiny_distilbert: Path, tmp_path: Path) -> Path:
    """A copy of the tiny DistilBERT for one test to damage."""
    return Path(shutil.copytree(tiny_distilbert, tmp_path / "distilbert"))


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as a BERT."""
    return _build_encoder("bert", tmp_path_factory)


def _build_encoder(model_type: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tiny_models import build_tiny_encoder

    return build_tiny_encoder(model_type, tmp_path_factory.mktemp("tiny") / model_type)


@pytest.fixture(scope="session")
def build_tiny_encoder() -> Callable[[str, Path], Path]:
    """`build_tiny_encoder(model_type, folder)` saves a tiny encoder of a type in MODEL_TYPES."""
    from tiny_models import build_tiny_encoder

    return build_tiny_encoder


@pytest.fixture(scope="session")
def tiny_reviews() -> Reviews:
    """200 unlike reviews of 2 to 18 sentences, negative and positive in turn."""
    return build_tiny_reviews()


@pytest.fixture
def reviews_csv(tiny_reviews: Reviews, tmp_path: Path) -> Path:
    """The tiny reviews as a CSV file with the columns text and label."""
    return write_reviews_csv(tmp_path / "reviews.csv", tiny_reviews)


@pytest.fixture(scope="session")
def finished_tiny_run(
    tmp_path_factory: pytest.TempPathFactory, tiny_distilbert: Path, tiny_reviews: Reviews
) -> TinyRun:
    """A finished run of the command line on 60 training, 20 validation and 40 test reviews."""
    home = tmp_path_factory.mktemp("run")
    run = TinyRun(home, tiny_distilbert, write_reviews_csv(home / "reviews.csv", tiny_reviews))
    assert main(run.arguments) == 0
    return run


@pytest.fixture
def tiny_run(finished_tiny_run: TinyRun, tmp_path: Path) -> TinyRun:
    """A copy of the finished run for one test to work on."""
    return finished_tiny_run.copy(tmp_path / "run")


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Refuse every host but loopback, as a machine without a network does; list those refused.

    Libraries may swallow a refusal, so a test that means "nothing is asked for" asserts that the
    list is empty.
    """
    refused: list[str] = []
    refuse_other_hosts(refused.append, monkeypatch.setattr)
    return refused


@pytest.fixture(scope="session")
def hub_repositories(
    tmp_path_factory: pytest.TempPathFactory, tiny_distilbert: Path, tiny_reviews: Reviews
) -> Path:
    """Folder with the repositories distilbert-base-uncased and stanfordnlp/imdb, both tiny."""
    from hub.repositories import build_repositories

    folder = tmp_path_factory.mktemp("tiny") / "hub"
    return build_repositories(folder, tiny_distilbert, tiny_reviews)


@pytest.fixture
def hub(hub_repositories: Path) -> Iterator[LoopbackHub]:
    """A running hub with these repositories."""
    with LoopbackHub(hub_repositories) as hub:
        yield hub


@pytest.fixture
def hub_client(hub: LoopbackHub, tmp_path: Path) -> HubClient:
    """Runs programs that know this hub, have caches of their own, and reach loopback only."""
    return HubClient(hub.endpoint, tmp_path / "client")
