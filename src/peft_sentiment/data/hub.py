"""A data set of the model hub, or of the cache where the hub can't be reached.

`datasets` does the loading and never runs code of a repository. What is added here: an answer
within seconds when there is no network, one message for each way to fail, and no other requests
than those for the data.
"""

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peft_sentiment.config import DataSettings
from peft_sentiment.data.columns import Rows, require_column, shorten
from peft_sentiment.errors import DataError, HubError, PeftSentimentError

SPLITS = ("train", "validation", "test")

_COMMIT = re.compile(r"[0-9a-f]{40}")
_PLAIN_NAMES = {"neg": "negative", "pos": "positive"}
SECONDS_TO_ANSWER = 5.0


@dataclass(frozen=True)
class HubRows:
    """Splits of a data set on the hub.

    Attributes:
        splits: train, validation and test, as far as the data set has them.
        label_names: the labels in the data set's own order, where it names them.
    """

    splits: dict[str, Rows]
    label_names: tuple[str, ...] | None


def load_hub_rows(settings: DataSettings) -> HubRows:
    """Load the text and label columns of a data set on the hub.

    Raises:
        DataError: the name is not one of a hub's, a column is missing, or a label is unknown.
        HubError: the hub can't be reached and the cache does not have the data set, or the hub
            does not give it.
    """
    require_repository_name(settings.dataset_name)
    loaded = load_data_set(settings)
    require_train(settings, loaded)
    splits = {name: _read_split(settings, name, loaded[name]) for name in SPLITS if name in loaded}
    names = getattr(loaded["train"].features[settings.label_column], "names", None)
    return HubRows(splits, None if names is None else rename_labels(names))


def require_train(settings: DataSettings, loaded: Any) -> None:  # noqa: ANN401 - datasets has no types
    """Check that a data set has a split to train on.

    Raises:
        DataError: it has none.
    """
    if "train" not in loaded:
        raise DataError(
            f"{settings.dataset_name}: there is no split named train (found: "
            f"{', '.join(loaded)}). Save its reviews as a file and give it with --train-file."
        )


def require_repository_name(name: str) -> None:
    """Check that a name can be one of a hub's data set.

    Raises:
        DataError: it can't.
    """
    from datasets.packaged_modules import _PACKAGED_DATASETS_MODULES
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    try:
        validate_repo_id(name)
        # `datasets` takes csv, text and the like for file formats and reads the working folder.
        is_valid = name not in _PACKAGED_DATASETS_MODULES
    except ValueError:
        is_valid = False
    if not is_valid:
        raise DataError(
            f"{name!r} is not the name of a data set on the hub, such as stanfordnlp/imdb. "
            "Give a file of reviews with --train-file."
        )


def load_data_set(settings: DataSettings, *, streaming: bool = False) -> Any:  # noqa: ANN401 - datasets has no types
    """Load all splits, from the cache where the hub does not answer.

    Args:
        settings: name the data set.
        streaming: whether to read its files as rows are taken, which needs the hub.

    Raises:
        HubError: it can't be loaded.
    """
    import datasets

    is_reachable = answers(settings)
    with (
        failures_told(settings, is_reachable=is_reachable),
        without_side_requests(),
        contextlib.nullcontext() if is_reachable else _offline(),
    ):
        name = _complete_name(settings.dataset_name) if is_reachable else settings.dataset_name
        loaded = datasets.load_dataset(
            # The prefix keeps a folder of the same name from being taken for the data set.
            f"hf://datasets/{name}",
            settings.dataset_config_name,
            revision=settings.dataset_revision,
            streaming=streaming,
        )
    if settings.dataset_revision is not None and not is_reachable:
        _require_revision(settings, settings.dataset_revision, loaded)
    return loaded


@contextlib.contextmanager
def failures_told(settings: DataSettings, *, is_reachable: bool | None = None) -> Iterator[None]:
    """Turn what the libraries of the hub raise into the one message for it.

    Args:
        settings: of the data.
        is_reachable: whether the hub answers; by default it is asked when something has failed.

    Raises:
        HubError: in the place of theirs.
    """
    import datasets
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]

    try:
        yield
    except (
        datasets.exceptions.DatasetsError,
        HTTPError,
        OSError,
        ValueError,
        RuntimeError,
    ) as error:
        if is_reachable is None:
            is_reachable = answers(settings)
        raise _explain(settings, error, is_reachable) from error


def answers(settings: DataSettings) -> bool:
    """Return whether the hub answers at all; its libraries would try for half a minute."""
    import huggingface_hub as hub
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]

    url = hub.hf_hub_url(
        settings.dataset_name, "README.md", repo_type="dataset", revision=settings.dataset_revision
    )
    try:
        return bool(hub.get_session().head(url, timeout=SECONDS_TO_ANSWER).status_code < 500)
    except (HTTPError, OSError):
        return False


def _complete_name(name: str) -> str:
    """Return a name with its owner: imdb is stanfordnlp/imdb, which `datasets` no longer knows."""
    import huggingface_hub as hub

    return name if "/" in name else hub.HfApi().dataset_info(name, timeout=SECONDS_TO_ANSWER).id


@contextlib.contextmanager
def without_side_requests() -> Iterator[None]:
    """Ask for the data alone: no telemetry, no download counts, no viewer; and no bars."""
    import datasets
    from huggingface_hub import constants
    from huggingface_hub.utils import disable_progress_bars  # type: ignore[attr-defined]

    with (
        _replaced(constants, "HF_HUB_DISABLE_TELEMETRY", True),
        _replaced(datasets.config, "HF_UPDATE_DOWNLOAD_COUNTS", False),
        _replaced(datasets.config, "USE_PARQUET_EXPORT", False),
        disable_progress_bars(),
        _without_datasets_bars(),
    ):
        yield


@contextlib.contextmanager
def _without_datasets_bars() -> Iterator[None]:
    import datasets

    if datasets.are_progress_bars_disabled():
        yield
        return
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        datasets.enable_progress_bars()


@contextlib.contextmanager
def _offline() -> Iterator[None]:
    """Let `datasets` and `huggingface_hub` use their caches only."""
    import datasets
    from huggingface_hub import constants

    with (
        _replaced(constants, "HF_HUB_OFFLINE", True),
        _replaced(datasets.config, "HF_HUB_OFFLINE", True),
    ):
        yield


@contextlib.contextmanager
def _replaced(owner: Any, name: str, value: object) -> Iterator[None]:  # noqa: ANN401 - any module
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


def _explain(settings: DataSettings, error: Exception, is_reachable: bool) -> PeftSentimentError:
    """Return the one message for a data set that can't be loaded: what, where, why, what to do."""
    from huggingface_hub import constants

    what = f"Data set {settings.dataset_name!r}"
    if settings.dataset_config_name is not None:
        what += f", configuration {settings.dataset_config_name!r}"
    if settings.dataset_revision is not None:
        what += f", revision {settings.dataset_revision!r}"
    if not is_reachable:
        is_off = constants.HF_HUB_OFFLINE
        fault = "is switched off by HF_HUB_OFFLINE" if is_off else "can't be reached"
        return HubError(
            f"{what}: the hub at {constants.ENDPOINT} {fault}, and this is not in the cache. "
            "Check the network and the whole name, such as stanfordnlp/imdb; name a mirror in the "
            "environment variable HF_ENDPOINT; or give a file of reviews with --train-file."
        )
    reason = " ".join(str(error).split())
    return HubError(
        f"{what}: the hub at {constants.ENDPOINT} does not give it ({shorten(reason, 200)}). "
        f"{_advise(reason)}"
    )


def _advise(reason: str) -> str:
    """Return what to do about a failure; `datasets` tells them apart by their words only."""
    advice = {
        "is a gated dataset": "Accept its terms on its page, then log in with: hf auth login.",
        "Revision": "Check --dataset-revision.",
        "Config": "Choose one with --dataset-config-name.",
        "scripts": "It comes as code, which is never run: give a file with --train-file.",
    }
    for word, sentence in advice.items():
        if word in reason:
            return sentence
    return "Check the name, or give a file of reviews with --train-file."


def _require_revision(settings: DataSettings, revision: str, loaded: Any) -> None:  # noqa: ANN401 - datasets has no types
    """Check that the revision is right, which `datasets` does not when it uses its cache."""
    cached = Path(next(iter(loaded.values())).cache_files[0]["filename"]).parent.name
    wanted = revision if _COMMIT.fullmatch(revision) else _find_cached_commit(settings)
    if wanted != cached:
        raise HubError(
            f"Data set {settings.dataset_name!r}, revision {revision!r}: the hub can't be reached, "
            f"and the cache holds another revision, {cached}. Check the network, or take what is "
            "cached by leaving --dataset-revision out."
        )


def _find_cached_commit(settings: DataSettings) -> str | None:
    """Return the commit that a branch or tag stood for when the hub was last asked."""
    import huggingface_hub as hub

    readme = hub.try_to_load_from_cache(
        settings.dataset_name,
        "README.md",
        repo_type="dataset",
        revision=settings.dataset_revision,
    )
    return Path(readme).parent.name if isinstance(readme, str) else None


def _read_split(settings: DataSettings, name: str, split: Any) -> Rows:  # noqa: ANN401 - datasets has no types
    source = f"{settings.dataset_name}, split {name}"
    wanted = (settings.text_column, settings.label_column)
    for column in wanted:
        require_column(column, split.column_names, source)
    columns = {column: split[column][:] for column in wanted}
    rows = Rows(source, "row", range(1, len(split) + 1), columns)
    names = getattr(split.features[settings.label_column], "names", None)
    if names is not None:
        columns[settings.label_column] = _list_names(
            rows, settings.label_column, rename_labels(names)
        )
    return rows


def _list_names(rows: Rows, label_column: str, names: tuple[str, ...]) -> list[str | None]:
    """Return the name of each numbered label, None where it is missing."""
    numbers = rows.columns[label_column]
    return [
        None if number is None else name_number(number, names, rows.place(index))
        for index, number in enumerate(numbers)
    ]


def name_number(number: int, names: tuple[str, ...], place: str) -> str:
    """Return the name of a numbered label.

    Raises:
        DataError: the number stands for none.
    """
    if not 0 <= number < len(names):
        raise DataError(
            f"{place}: label {number} stands for a review without a label. "
            "Scores need labels: use a data set whose train, validation and test splits have "
            "them, or files of reviews with --train-file and --test-file."
        )
    return names[number]


def rename_labels(names: list[str]) -> tuple[str, ...]:
    """Return a data set's label names, with neg and pos written out."""
    is_plain = set(names) == set(_PLAIN_NAMES)
    return tuple(_PLAIN_NAMES[name] for name in names) if is_plain else tuple(names)
