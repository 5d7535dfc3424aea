"""Files that nobody meant to be read, and what reading them may lead to: a result or our error.

A case is one file: of reviews, or in the place of one in the folder of an adapter. Cases are drawn
by hypothesis, and kept ones replayed from `corpus/`.
"""

import functools
import io
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from hypothesis import strategies as st
from pyarrow import parquet
from tiny_runs import TinyRun, leave_sums_out

from peft_sentiment.config import DataSettings
from peft_sentiment.data.bad_rows import BadRows
from peft_sentiment.data.files import TABLES, TEXTS
from peft_sentiment.data.sources import iterate_text_rows, load_reviews
from peft_sentiment.errors import PeftSentimentError
from peft_sentiment.inference.classifier import SentimentClassifier
from peft_sentiment.inference.loading import load_labeller

CORPUS = Path(__file__).parent / "corpus"

PIECES = (
    b"text,label\n", b"text\tlabel\n", b",", b"\t", b'"', b'""', b"\n", b"\r", b"\r\n", b"\0",
    b"\xef\xbb\xbf", b"\xff", b"\xc3", b" ", b"a", b"positive", b"0", b"1.0", b"0.5", b"nan",
    "é\u2028\u202e\U0001f600".encode(), b"\\", b"\\ud83d", b'{"text": "a", "label": "b"}\n', b"{",
    b"}", b"[", b"]", b":", b'"text"', b'"label"', b"null", b"true", b"1e999", b"9" * 400,
    b"[" * 2000, b"<br />",
)  # fmt: skip
"""What files are put together from, beside any bytes."""


@dataclass(frozen=True)
class Case:
    """A file that something is read from.

    Attributes:
        name: of the file; for readers its ending says how it is read.
        content: its bytes.
        adapter: the adapter in which it takes a file's place; None for a file of reviews.
    """

    name: str
    content: bytes
    adapter: str | None = None


class UnexpectedEndError(Exception):
    """Reading ended in something else than a result or an error that says where."""


def draw_json() -> st.SearchStrategy[Any]:
    """Return any JSON value, numbers out of all range included."""
    plain = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
    grown = [0, 1, -1, 2**31, 2**63, 10**30, 1e308, "", "../x", "/etc/passwd", [], {}]
    return st.recursive(
        plain | st.sampled_from(grown),
        lambda inner: (
            st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
        ),
        max_leaves=8,
    )


def draw_text_file() -> st.SearchStrategy[bytes]:
    """Return bytes: any, of the pieces of text files, or lines of JSON."""
    record = st.fixed_dictionaries({"text": draw_json(), "label": draw_json()}) | draw_json()
    lines = st.lists(record, max_size=6).map(
        lambda values: "\n".join(map(json.dumps, values)).encode()
    )
    rows = st.lists(st.sampled_from(PIECES) | st.binary(max_size=6), max_size=30).map(b"".join)
    headed = st.tuples(st.sampled_from(PIECES[:2]), rows).map(b"".join)
    return st.binary(max_size=400) | rows | headed | lines


def draw_parquet() -> st.SearchStrategy[bytes]:
    """Return Parquet files of columns of all kinds."""
    kinds = (
        st.lists(st.text(max_size=8) | st.none(), min_size=3, max_size=3),
        st.lists(st.integers(-(2**40), 2**40) | st.none(), min_size=3, max_size=3),
        st.lists(st.floats() | st.none(), min_size=3, max_size=3),
        st.lists(st.booleans() | st.none(), min_size=3, max_size=3),
        st.lists(st.binary(max_size=4) | st.none(), min_size=3, max_size=3),
        st.lists(st.dates() | st.none(), min_size=3, max_size=3),
        st.lists(st.lists(st.integers(0, 9), max_size=2), min_size=3, max_size=3),
    )
    column = st.one_of(*kinds)
    names = st.sampled_from(["text", "label", "x"])
    tables = st.dictionaries(names, column, max_size=3)
    raw = st.lists(st.binary(max_size=4), min_size=3, max_size=3).map(_write_raw_strings)
    return tables.map(_write_table) | raw


def _write_table(columns: Mapping[str, list[Any]]) -> bytes:
    return _write(pa.table({name: pa.array(values) for name, values in columns.items()}))


def _write_raw_strings(values: list[bytes]) -> bytes:
    """Write bytes as strings, which a table may claim that they are."""
    text = pa.Array.from_buffers(pa.string(), len(values), pa.array(values, pa.binary()).buffers())
    return _write(pa.table({"text": text, "label": ["a", "b", "a"]}))


def _write(table: pa.Table) -> bytes:
    file = io.BytesIO()
    parquet.write_table(table, file)
    return file.getvalue()


@st.composite
def change_bytes(draw: st.DrawFn, contents: st.SearchStrategy[bytes]) -> bytes:
    """Return a file with some of its bytes replaced, removed, doubled or its end cut off."""
    content = bytearray(draw(contents))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, max(len(content) - 1, 0)))
        length = draw(st.integers(0, 16))
        match draw(st.sampled_from(["flip", "replace", "remove", "double", "cut"])):
            case "flip" if content:
                content[start] ^= 1 << draw(st.integers(0, 7))
            case "replace":
                piece = draw(st.sampled_from(PIECES) | st.binary(max_size=length))
                content[start : start + len(piece)] = piece
            case "remove":
                del content[start : start + length]
            case "double":
                content[start:start] = content[start : start + length]
            case "cut":
                del content[start:]
    return bytes(content)


@st.composite
def change_json_value(draw: st.DrawFn, path: Path) -> bytes:
    """Return a JSON file with one value replaced by another, or removed."""
    whole = json.loads(path.read_text(encoding="utf-8"))
    place, steps = whole, draw(st.integers(1, 4))
    for _ in range(steps):
        keys = list(place) if isinstance(place, dict) else range(len(place))
        if not keys:
            break
        key = draw(st.sampled_from(list(keys)))
        inner = place[key]
        if isinstance(inner, dict | list) and inner and draw(st.booleans()):
            place = inner
            continue
        if draw(st.booleans()):
            place[key] = draw(draw_json())
        else:
            del place[key]
        break
    return json.dumps(whole).encode()


def draw_reader_cases() -> st.SearchStrategy[Case]:
    """Return files of reviews of every ending."""
    endings = sorted(TEXTS)
    table = draw_parquet() | change_bytes(draw_parquet())
    kept = st.sampled_from(list_kept("readers")).map(Path.read_bytes)
    contents = draw_text_file() | change_bytes(kept)
    named = st.builds(Case, st.sampled_from([f"a{ending}" for ending in endings]), contents)
    return named | st.builds(Case, st.just("a.parquet"), table)


def draw_adapter_cases(adapters: Mapping[str, Path]) -> st.SearchStrategy[Case]:
    """Return files in the places of those of adapters."""
    options = []
    for adapter, folder in adapters.items():
        for path in sorted(folder.iterdir()):
            if path.name == "README.md":
                continue
            changed = change_bytes(st.just(path).map(Path.read_bytes)) | st.binary(max_size=200)
            if path.suffix == ".json":
                changed = change_json_value(path) | changed
            options.append(st.builds(Case, st.just(path.name), changed, st.just(adapter)))
    return st.one_of(options)


def list_kept(kind: str) -> list[Path]:
    """Return the kept cases: files of reviews, or of an adapter, each in a folder of its own."""
    return sorted(path for path in (CORPUS / kind).rglob("*") if path.is_file())


def iterate_kept() -> Iterator[Case]:
    """Yield the kept cases."""
    for path in list_kept("readers"):
        yield Case(path.name, path.read_bytes())
    for path in list_kept("adapter"):
        yield Case(path.name, path.read_bytes(), path.parent.name.partition("-")[0])


def build_adapters(run: TinyRun, folder: Path, with_companion: Path) -> dict[str, Path]:
    """Copy adapters to be changed: without sums, with them, and with a companion."""
    found = {"plain": run.adapter, "summed": run.adapter, "companion": with_companion}
    copies = {name: Path(shutil.copytree(of, folder / name)) for name, of in found.items()}
    for name in ("plain", "companion"):
        leave_sums_out(copies[name])
    return copies


def try_case(case: Case, folder: Path, adapters: Mapping[str, Path]) -> bool:
    """Read a case every way it can be read; tell whether any went through.

    Args:
        case: to be read.
        folder: to write it to.
        adapters: whose files it may replace, for the time of this call.

    Raises:
        UnexpectedEndError: it ended in a traceback, or in a message without the file's place.
    """
    if case.adapter is None:
        path = folder / case.name
        path.write_bytes(case.content)
        ends = [_end_well(path, read, case) for read in list_readings(path)]
        return any(ends)
    path = adapters[case.adapter] / case.name
    before = path.read_bytes() if path.is_file() else None
    path.write_bytes(case.content)
    try:
        return _end_well(path.parent, lambda: _load(path.parent, case), case)
    finally:
        path.unlink() if before is None else path.write_bytes(before)


def _load(folder: Path, case: Case) -> None:
    if case.adapter == "companion":
        SentimentClassifier.load(folder, bf16=False).predict_reviews(["A film."])
    else:
        load_labeller(folder, {"training": {"bf16": False}}).predict_reviews(["A film."])


def list_readings(path: Path) -> list[Callable[[], object]]:
    """Return the ways in which a file of reviews is read."""
    readings: list[Callable[[], object]] = [
        lambda: list(iterate_text_rows(path, DataSettings())),
        lambda: list(iterate_text_rows(path, DataSettings(), BadRows(are_skipped=True))),
    ]
    if path.suffix in TABLES:
        for skip in (False, True):
            settings = DataSettings(train_file=str(path), skip_bad_rows=skip)
            readings.append(functools.partial(load_reviews, settings))
    return readings


def _end_well(path: Path, read: Callable[[], object], case: Case) -> bool:
    try:
        read()
    except PeftSentimentError as error:
        if str(path) not in str(error):
            raise UnexpectedEndError(f"{case.name}: no place in {str(error)!r}") from error
        return False
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a panic of Rust's is no Exception
        raise UnexpectedEndError(f"{case.name}: {type(error).__name__}: {error}") from error
    return True
