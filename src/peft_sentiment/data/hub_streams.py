"""A data set of the model hub whose files are read one after the other, without a copy of its own.

`datasets` does the reading. The commit is asked for first, so that what is read belongs together.
"""

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from peft_sentiment.config import DataSettings
from peft_sentiment.data.bad_rows import BadRows
from peft_sentiment.data.columns import require_column
from peft_sentiment.data.hub import (
    SECONDS_TO_ANSWER,
    SPLITS,
    answers,
    failures_told,
    load_data_set,
    name_number,
    rename_labels,
    require_repository_name,
    require_train,
    without_side_requests,
)

_BATCH = 1000


@dataclass(frozen=True)
class HubSplit:
    """A split of a data set on the hub whose rows come as they are read.

    Attributes:
        name: as messages name it.
        read: yields the number of each row, its text and its label.
        bytes: about what its texts take, where the data set says so; else 0.
    """

    name: str
    read: Callable[[BadRows], Iterator[tuple[int, object, object]]]
    bytes: int


@dataclass(frozen=True)
class HubStream:
    """A data set on the hub that is not copied as a whole.

    Attributes:
        commit: of the data set.
        splits: train, validation and test, as far as the data set has them.
        label_names: the labels in the data set's own order, where it names them.
    """

    commit: str
    splits: dict[str, HubSplit]
    label_names: tuple[str, ...] | None


def stream_hub_splits(settings: DataSettings) -> HubStream:
    """Find a data set on the hub, whose files are read one after the other as rows are taken.

    Raises:
        DataError, HubError: as in `load_hub_rows`; the hub must be reachable.
    """
    import huggingface_hub as hub

    require_repository_name(settings.dataset_name)
    is_reachable = answers(settings)
    with failures_told(settings, is_reachable=is_reachable):
        if not is_reachable:
            raise ConnectionError
        info = hub.HfApi().dataset_info(
            settings.dataset_name,
            revision=settings.dataset_revision,
            timeout=SECONDS_TO_ANSWER,
        )
    fixed = dataclasses.replace(
        settings, dataset_name=info.id, dataset_revision=str(info.sha), streaming=False
    )
    loaded = load_data_set(fixed, streaming=True)
    require_train(settings, loaded)
    names = [name for name in SPLITS if name in loaded]
    features = loaded["train"].features
    label = None if features is None else features.get(settings.label_column)
    own = getattr(label, "names", None)
    splits = {name: _describe_split(settings, name, loaded[name]) for name in names}
    return HubStream(str(info.sha), splits, None if own is None else rename_labels(own))


def _describe_split(settings: DataSettings, name: str, split: Any) -> HubSplit:  # noqa: ANN401 - datasets has no types
    source = f"{settings.dataset_name}, split {name}"
    for column in (settings.text_column, settings.label_column):
        if split.column_names is not None:
            require_column(column, split.column_names, source)

    def read(_: BadRows) -> Iterator[tuple[int, object, object]]:
        features = split.features
        own = None if features is None else getattr(features[settings.label_column], "names", None)
        rows = _iterate_split(settings, split)
        for number, (text, label) in enumerate(rows, start=1):
            named = label
            if own is not None and label is not None:
                named = name_number(label, rename_labels(own), f"{source}, row {number}")
            yield number, text, named

    known = getattr(split.info.splits, "get", lambda _: None)(name)
    return HubSplit(source, read, int(known.num_bytes or 0) if known else 0)


def _iterate_split(settings: DataSettings, split: Any) -> Iterator[tuple[object, Any]]:  # noqa: ANN401 - datasets has no types
    columns = (settings.text_column, settings.label_column)
    with without_side_requests(), failures_told(settings):
        for batch in split.select_columns(list(columns)).iter(_BATCH):
            yield from zip(*(batch[column] for column in columns), strict=True)
