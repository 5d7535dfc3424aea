"""Saved equals loaded, and what is there is whole."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from peft_sentiment.errors import OutputError
from peft_sentiment.evaluation.storage import load_predictions, save_predictions
from peft_sentiment.records import Predictions
from peft_sentiment.records.reviews import Reviews

LABELS = ("positive", "négatif 😀", "n/a")  # not in the alphabet's order
TEXTS = [
    "plain",
    "a\x00b",
    "😀 👩‍👩‍👧",
    "line\nbreak\r\ttab",
    "",
    "\u202eright to left",
    "\x1b[31m",
]


@pytest.fixture
def reviews() -> Reviews:
    return Reviews(TEXTS, [LABELS[i % 3] for i in range(len(TEXTS))])


@pytest.fixture
def predictions() -> Predictions:
    rng = np.random.default_rng(0)
    n = len(TEXTS)
    return Predictions(
        label_names=LABELS,
        probabilities=rng.dirichlet(np.ones(3), n).astype(np.float32),
        tokens=rng.integers(2, 256, n).astype(np.int32),
        is_cut=rng.random(n) < 0.5,
        seconds=0.1 + 0.2,
    )


def assert_equal(first: Predictions, second: Predictions) -> None:
    assert first.label_names == second.label_names
    assert first.seconds == second.seconds
    for name in ("probabilities", "tokens", "is_cut"):
        one, other = getattr(first, name), getattr(second, name)
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


def test_loaded_equals_saved_bit_for_bit(
    tmp_path: Path, reviews: Reviews, predictions: Predictions
) -> None:
    # A folder whose name looks like a partition must not become a column.
    path = tmp_path / "label=3" / "peft.parquet"
    save_predictions(path, reviews, predictions)
    loaded_reviews, loaded = load_predictions(path)
    assert loaded_reviews == reviews
    assert_equal(loaded, predictions)
    assert loaded.labels == predictions.labels


def test_no_reviews_round_trip(tmp_path: Path, predictions: Predictions) -> None:
    empty = Predictions(
        LABELS, predictions.probabilities[:0], predictions.tokens[:0], predictions.is_cut[:0], 1.0
    )
    save_predictions(tmp_path / "p.parquet", Reviews([], []), empty)
    reviews, loaded = load_predictions(tmp_path / "p.parquet")
    assert len(reviews) == 0
    assert_equal(loaded, empty)


def test_the_file_is_plain_parquet_in_the_order_of_the_data(
    tmp_path: Path, reviews: Reviews, predictions: Predictions
) -> None:
    path = tmp_path / "p.parquet"
    save_predictions(path, reviews, predictions)
    with parquet.ParquetFile(path) as file:
        table = file.read()
        assert file.metadata.row_group(0).column(0).compression == "ZSTD"
    assert table.column_names == [
        *("index", "text", "label", "predicted", "tokens", "is_cut"),
        *(f"probability_{name}" for name in LABELS),
    ]
    assert table["index"].to_pylist() == list(range(len(TEXTS)))
    assert table["predicted"].to_pylist() == predictions.labels
    assert table.schema.field("probability_positive").type == pa.float32()
    assert json.loads(table.schema.metadata[b"label_names"]) == list(LABELS)
    assert json.loads(table.schema.metadata[b"seconds"]) == predictions.seconds


def test_saving_again_replaces_the_file_and_leaves_nothing_beside_it(
    tmp_path: Path, reviews: Reviews, predictions: Predictions
) -> None:
    path = tmp_path / "p.parquet"
    path.write_bytes(b"something older")
    save_predictions(path, reviews, predictions)
    assert_equal(load_predictions(path)[1], predictions)
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_that_fails_keeps_the_old_file(
    tmp_path: Path, reviews: Reviews, predictions: Predictions, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "p.parquet"
    save_predictions(path, reviews, predictions)
    before = path.read_bytes()

    def fill_disk(_table: pa.Table, draft: Path, **_options: str) -> None:
        draft.write_bytes(before[:20])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(parquet, "write_table", fill_disk)
    with pytest.raises(OutputError, match="No space left"):
        save_predictions(path, reviews, predictions)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_place_that_is_a_file_is_named(
    tmp_path: Path, reviews: Reviews, predictions: Predictions
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="file"):
        save_predictions(tmp_path / "file" / "p.parquet", reviews, predictions)


def test_a_text_that_is_no_text_is_refused(tmp_path: Path, predictions: Predictions) -> None:
    broken = Reviews(["half a pair \ud83d", *TEXTS[1:]], [LABELS[0]] * len(TEXTS))
    with pytest.raises(OutputError, match=r"UTF-8.*half a pair"):
        save_predictions(tmp_path / "p.parquet", broken, predictions)
    assert not list(tmp_path.iterdir())


def test_as_many_reviews_as_predictions_are_needed(
    tmp_path: Path, reviews: Reviews, predictions: Predictions
) -> None:
    with pytest.raises(ValueError, match="reviews"):
        save_predictions(tmp_path / "p.parquet", reviews.take([0]), predictions)


def test_a_missing_file_says_how_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"no such file.*peft-sentiment run"):
        load_predictions(tmp_path / "p.parquet")


def test_a_damaged_file_is_refused(
    tmp_path: Path, reviews: Reviews, predictions: Predictions
) -> None:
    path = tmp_path / "p.parquet"
    save_predictions(path, reviews, predictions)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(OutputError, match="not predictions"):
        load_predictions(path)


def test_parquet_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "p.parquet"
    parquet.write_table(pa.table({"text": ["a"], "label": ["b"]}), path)
    with pytest.raises(OutputError, match="not predictions"):
        load_predictions(path)


def test_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "p.parquet").mkdir()
    with pytest.raises(OutputError, match="not predictions"):
        load_predictions(tmp_path / "p.parquet")
