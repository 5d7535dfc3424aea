"""Streamed reviews are those that would be held in memory, and no part has a text of another."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet
from tiny_models import build_tiny_tokenizer

from peft_sentiment.config import DataSettings
from peft_sentiment.data.batching import tokenize_reviews
from peft_sentiment.data.checks import fingerprint_texts
from peft_sentiment.data.sources import load_reviews
from peft_sentiment.data.streaming import StreamedSplits, list_files, load_streamed
from peft_sentiment.data.token_files import open_tokens
from peft_sentiment.errors import BadRowError, DataError, SettingsError
from peft_sentiment.records.reviews import Reviews, Splits

LABELS = ("negative", "positive")


def write_parquet(path: Path, texts: Sequence[str | None], labels: Sequence[str | None]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pa.table({"text": list(texts), "label": list(labels)}), path)
    return path


@pytest.fixture
def folder(tiny_reviews: Reviews, tmp_path: Path) -> Path:
    """The tiny reviews in three Parquet files, one of them in a folder below."""
    parts = {"a.parquet": range(80), "b.parquet": range(80, 110), "c/d.parquet": range(110, 200)}
    for name, places in parts.items():
        part = tiny_reviews.take(places)
        write_parquet(tmp_path / "reviews" / name, part.texts, part.labels)
    return tmp_path / "reviews"


def stream(root: Path, seed: int = 0, **settings: object) -> StreamedSplits:
    values = {"streaming": True, "validation_size": 20, "test_size": 40, **settings}
    told: list[str] = []
    return load_streamed(DataSettings(**values), seed, root / "cache", told.append)  # type: ignore[arg-type]


def list_parts(splits: Splits) -> list[set[str]]:
    return [set(part.texts) for part in (splits.train, splits.validation, splits.test)]


def pair(reviews: Reviews) -> list[tuple[str, str]]:
    return list(zip(reviews.texts, reviews.labels, strict=True))


def test_every_review_is_in_one_part_with_its_label(
    folder: Path, tiny_reviews: Reviews, tmp_path: Path
) -> None:
    splits = stream(tmp_path, train_file=str(folder)).splits
    assert [len(p) for p in (splits.train, splits.validation, splits.test)] == [140, 20, 40]
    found = [*pair(splits.train), *pair(splits.validation), *pair(splits.test)]
    assert sorted(found) == sorted(pair(tiny_reviews))
    assert splits.label_names == LABELS
    assert splits.train.labels.count("positive") == list(splits.train.labels).count("positive")
    assert (fingerprint_texts(splits.train.texts) == fingerprint_texts([*splits.train.texts])).all()


def test_the_split_depends_on_texts_and_seed_but_not_on_files_or_order(
    folder: Path, tiny_reviews: Reviews, tmp_path: Path
) -> None:
    order = np.random.default_rng(0).permutation(200)
    shuffled = tiny_reviews.take(order)
    other = write_parquet(tmp_path / "one.parquet", shuffled.texts, shuffled.labels)
    parts = list_parts(stream(tmp_path, train_file=str(folder)).splits)
    assert list_parts(stream(tmp_path, train_file=str(other)).splits) == parts
    assert list_parts(stream(tmp_path, seed=1, train_file=str(folder)).splits) != parts


def test_equal_texts_come_once_and_contradicted_ones_never(tmp_path: Path) -> None:
    texts = [f"film {n}" for n in range(30)]
    labels = [LABELS[n % 2] for n in range(30)]
    path = write_parquet(
        tmp_path / "a.parquet",
        [*texts, "film 1", "film 2", "film 2"],
        [*labels, LABELS[1], LABELS[1], LABELS[0]],
    )
    streamed = stream(tmp_path, train_file=str(path), validation_size=4, test_size=8).splits
    held = load_reviews(DataSettings(train_file=(str(path),)))
    everything = set().union(*list_parts(streamed))
    assert everything == set(held.train.texts) == set(texts) - {"film 2"}
    assert streamed.duplicates_removed == held.duplicates_removed == 4
    assert len(streamed.train) == 29 - 12


def test_a_number_of_training_reviews_is_drawn_from_all_files(folder: Path, tmp_path: Path) -> None:
    whole = stream(tmp_path, train_file=str(folder)).splits
    few = stream(tmp_path, train_file=str(folder), train_size=30).splits
    assert len(few.train) == 30
    assert set(few.train.texts) < set(whole.train.texts)
    assert few.test.texts == whole.test.texts
    with pytest.raises(DataError, match="there are 200 reviews"):
        stream(tmp_path, train_file=str(folder), train_size=190)


def test_files_of_their_own_may_share_no_text(
    folder: Path, tiny_reviews: Reviews, tmp_path: Path
) -> None:
    tested = write_parquet(tmp_path / "test.parquet", ["A new film.", "An old film."], LABELS)
    found = stream(tmp_path, train_file=str(folder), test_file=str(tested), test_size="full").splits
    assert sorted(found.test.texts) == ["A new film.", "An old film."]
    assert len(found.train) == 180
    shared = write_parquet(tmp_path / "shared.parquet", tiny_reviews.texts[90:92], LABELS)
    words = r"shared.parquet shares 2 texts with .*row 1 is .*b.parquet, row 11"
    with pytest.raises(DataError, match=words):
        stream(tmp_path, train_file=str(folder), test_file=str(shared))


def test_an_unknown_label_of_a_test_file_is_named(folder: Path, tmp_path: Path) -> None:
    tested = write_parquet(tmp_path / "test.parquet", ["New.", "Old.", "So."], [*LABELS, "mixed"])
    with pytest.raises(BadRowError, match=r"test\.parquet, row 3: label 'mixed'"):
        stream(tmp_path, train_file=str(folder), test_file=str(tested), test_size=2)


@pytest.mark.parametrize("label_names", [None, LABELS])
def test_reviews_of_one_label_are_refused_whether_labels_are_named_or_not(
    tiny_reviews: Reviews, tmp_path: Path, label_names: tuple[str, ...] | None
) -> None:
    path = write_parquet(tmp_path / "all.parquet", tiny_reviews.texts, ["positive"] * 200)
    with pytest.raises(DataError, match=r"two labels or more, but there is only positive"):
        stream(tmp_path, train_file=str(path), label_names=label_names)


def test_a_broken_row_is_named_or_left_out(
    folder: Path, tiny_reviews: Reviews, tmp_path: Path
) -> None:
    write_parquet(folder / "e.parquet", ["Fine.", None, " "], [LABELS[0], LABELS[0], None])
    place = f"{folder / 'e.parquet'}, row 2: the text is None"
    with pytest.raises(BadRowError, match=f"{place}.*--skip-bad-rows leaves"):
        stream(tmp_path, train_file=str(folder))
    found = stream(tmp_path, train_file=str(folder), skip_bad_rows=True).splits
    assert [row.place[-5:] for row in found.skipped] == ["row 2", "row 3"]
    assert len(found.train) == 141
    # What is on disk by now does not hide the row from who wants to be told.
    with pytest.raises(BadRowError, match=place):
        stream(tmp_path, train_file=str(folder))


def test_a_file_whose_column_names_are_no_text_is_told(folder: Path, tmp_path: Path) -> None:
    kept = Path(__file__).parent.parent / "corpus" / "readers" / "column-not-utf8.parquet"
    shutil.copy(kept, folder / "z.parquet")
    with pytest.raises(DataError, match=r"z\.parquet: the file can't be read"):
        stream(tmp_path, train_file=(str(folder),))


def test_files_are_read_again_when_one_changes(folder: Path, tmp_path: Path) -> None:
    first, again = (stream(tmp_path, train_file=str(folder)) for _ in range(2))
    assert (first.pool.folder.is_new, again.pool.folder.is_new) == (True, False)
    assert pair(first.splits.train) == pair(again.splits.train)
    write_parquet(folder / "b.parquet", ["Another film."], [LABELS[0]])
    changed = stream(tmp_path, train_file=str(folder))
    assert changed.pool.folder.is_new
    assert "Another film." in set().union(*list_parts(changed.splits))


def test_token_ids_on_disk_are_those_in_memory(folder: Path, tmp_path: Path) -> None:
    tokenizer, told = build_tiny_tokenizer(), list[str]()
    settings = DataSettings(train_file=(str(folder),), streaming=True, max_length=24)
    streamed = load_streamed(settings, 0, tmp_path, told.append)
    states = []
    for _ in range(2):
        tokens, made = open_tokens(tmp_path, streamed, tokenizer, settings, told.append)
        states.append(made.is_new)
        held = tokenize_reviews(list(streamed.splits.train.texts), tokenizer, 24, "head+tail")
        assert len(tokens) == len(held)
        assert all(map(np.array_equal, tokens.reviews.token_ids, held.token_ids))
        assert (tokens.reviews.lengths == held.lengths).all()
        assert (tokens.reviews.is_cut == held.is_cut).all()
        assert tokens.reviews.special_tokens == held.special_tokens
        assert tokens.labels == list(streamed.splits.train.labels)
    assert states == [True, False]
    longer = DataSettings(train_file=(str(folder),), streaming=True, max_length=25)
    assert open_tokens(tmp_path, streamed, tokenizer, longer, told.append)[1].is_new
    assert any(words.startswith("Tokenizing") for words in told)


def test_weights_of_files_reach_their_rows(folder: Path, tmp_path: Path) -> None:
    files = (str(folder / "a.parquet"), str(folder / "[bc]*" / "*"), str(folder / "b.parquet"))
    settings = DataSettings(
        train_file=files, train_file_weights=(1.0, 0.5, 0.25), streaming=True, validation_size=0
    )
    streamed = load_streamed(settings, 0, tmp_path, lambda _: None)
    tokens, _ = open_tokens(tmp_path, streamed, build_tiny_tokenizer(), settings, lambda _: None)
    a = set(load_reviews(DataSettings(train_file=(files[0],))).train.texts)
    b = set(load_reviews(DataSettings(train_file=(files[2],))).train.texts)
    expected = [1.0 if t in a else 0.25 if t in b else 0.5 for t in streamed.splits.train.texts]
    assert tokens.weights is not None
    assert tokens.weights.tolist() == expected


def test_folders_and_globs_name_files_in_order(folder: Path, tmp_path: Path) -> None:
    assert [path.name for path in list_files(str(folder))] == [
        "a.parquet",
        "b.parquet",
        "d.parquet",
    ]
    assert [path.name for path in list_files(f"{folder}/[ab].*")] == ["a.parquet", "b.parquet"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no Parquet files in this folder"):
        list_files(str(tmp_path / "empty"))
    with pytest.raises(DataError, match="no file fits this pattern"):
        list_files(str(tmp_path / "*.parquet"))
    with pytest.raises(DataError, match="no such file"):
        stream(tmp_path, train_file=str(tmp_path / "missing.parquet"))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"group_column": "film"}, "--group-column must see all reviews"),
        ({"stratify": True}, "--stratify"),
        ({"unlabelled": "b.txt"}, "--unlabelled"),
        ({"near_duplicates": "drop"}, "--near-duplicates drop"),
        ({"shuffle_buffer_size": 0}, "shuffle_buffer_size is 0"),
        ({"train_file": None}, "fit in memory"),
    ],
)
def test_what_does_not_go_with_streaming_is_refused(
    settings: dict[str, object], words: str
) -> None:
    values = {"streaming": True, "train_file": "a.parquet", **settings}
    with pytest.raises(SettingsError, match=words):
        DataSettings(**values)  # type: ignore[arg-type]


def test_commands_that_hold_reviews_in_memory_refuse_to_stream() -> None:
    with pytest.raises(SettingsError, match=r"run and train.*--test-file"):
        load_reviews(DataSettings(streaming=True, train_file=("a.parquet",)))
