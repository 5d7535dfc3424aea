"""Records are JSON and back, without a loss and without numbers that JSON does not have."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_runs import TinyRun

from peft_sentiment.errors import OutputError
from peft_sentiment.files import write_text
from peft_sentiment.records import (
    SCHEMA_VERSION,
    DataRecord,
    Environment,
    Improvement,
    ParameterCounts,
    Predictions,
    Results,
    Scores,
    TrainingRecord,
    ValidationRecord,
    build_record,
    load_results,
    render_json,
)
from peft_sentiment.records.reviews import Reviews

SCORES = Scores(
    accuracy=0.1 + 0.2,
    f1=1 / 3,
    precision=0.5,
    recall=0.25,
    roc_auc=None,
    log_loss=5e-324,
    accuracy_interval=(0.25, 0.35),
    reviews_per_second=1e300,
    confusion=((1, 2), (3, 4)),
)
VALIDATION = ValidationRecord(4, 1.0, 0.5, 0.5, 0.7, True, 0.1)
RESULTS = Results(
    schema_version=SCHEMA_VERSION,
    status="finished",
    seconds=1.5,
    peak_rss_bytes=2**40,
    settings={
        "adapter": {"method_options": {"rank_pattern": {"q_lin": 4}}, "names": ["a", "b"]},
        "evaluation": {"confidence_level": 0.95},
    },
    environment=Environment({"torch": "2"}, "cpu", "float32", "measured", "fused", 2, None),
    data=DataRecord(
        name="Filme 🎬.csv",
        sha256=None,
        train=3,
        validation=0,
        test=2,
        duplicates_removed=1,
        label_names=("schlecht", "gut"),
        label_counts={"schlecht": 1, "gut": 2},
        max_length=64,
        truncation="head+tail",
        cut=1,
    ),
    parameters=ParameterCounts(10, 5, 15, 100, 15.0),
    training=TrainingRecord(1.0, 9, 9.0, 90.0, 3, 0.5, 2, False, (VALIDATION, VALIDATION)),
    models={"base": SCORES, "peft": dataclasses.replace(SCORES, roc_auc=0.75)},
    improvement=Improvement(0.1, 0.2, (-0.1, 0.3), 0.04, 7, 2),
)


def test_results_written_and_read_are_the_same_results(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    write_text(path, render_json(RESULTS))
    assert load_results(path) == RESULTS


def test_results_of_a_real_run_written_again_are_the_same_bytes(tiny_run: TinyRun) -> None:
    path = tiny_run.output / "results.json"
    assert render_json(load_results(path)) == path.read_text(encoding="utf-8")


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_number_that_json_does_not_have_becomes_null(number: float) -> None:
    record = dataclasses.replace(SCORES, log_loss=number, accuracy_interval=(0.0, number))
    values = json.loads(render_json(record), parse_constant=lambda name: pytest.fail(name))
    assert values["log_loss"] is None
    assert values["accuracy_interval"] == [0.0, None]


def test_names_stay_readable_in_json() -> None:
    assert "Filme 🎬.csv" in render_json(RESULTS)


numbers = st.floats(allow_nan=False, allow_infinity=False)


@given(
    accuracy=numbers,
    roc_auc=st.none() | numbers,
    interval=st.tuples(numbers, numbers),
    confusion=st.lists(st.lists(st.integers(0), min_size=2, max_size=2).map(tuple), max_size=3),
)
def test_any_scores_survive_json(
    accuracy: float,
    roc_auc: float | None,
    interval: tuple[float, float],
    confusion: list[tuple[int, ...]],
) -> None:
    scores = dataclasses.replace(
        SCORES,
        accuracy=accuracy,
        roc_auc=roc_auc,
        accuracy_interval=interval,
        confusion=tuple(confusion),
    )
    assert build_record(Scores, json.loads(render_json(scores))) == scores


def test_a_missing_file_is_an_unfinished_run(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"no finished run.*peft-sentiment run") as refused:
        load_results(tmp_path / "results.json")
    assert str(tmp_path / "results.json") in str(refused.value)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe"])
def test_a_damaged_file_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "results.json"
    path.write_bytes(content)
    with pytest.raises(OutputError, match=r"can't be read.*Run again") as refused:
        load_results(path)
    assert str(path) in str(refused.value)


def drop_models(values: dict[str, Any]) -> None:
    del values["models"]


def drop_the_adapted_model(values: dict[str, Any]) -> None:
    del values["models"]["peft"]


def drop_evaluation_settings(values: dict[str, Any]) -> None:
    del values["settings"]["evaluation"]


def break_models(values: dict[str, Any]) -> None:
    values["models"] = 3


def break_interval(values: dict[str, Any]) -> None:
    values["improvement"]["accuracy_interval"] = None


@pytest.mark.parametrize(
    "change",
    [
        drop_models,
        drop_the_adapted_model,
        drop_evaluation_settings,
        break_models,
        break_interval,
    ],
)
def test_results_of_another_form_are_refused(tmp_path: Path, change: Any) -> None:  # noqa: ANN401
    values = json.loads(render_json(RESULTS))
    change(values)
    path = tmp_path / "results.json"
    path.write_text(json.dumps(values), encoding="utf-8")
    with pytest.raises(OutputError, match=f"schema {SCHEMA_VERSION}"):
        load_results(path)


def test_results_of_a_later_version_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    newer = dataclasses.replace(RESULTS, schema_version=SCHEMA_VERSION + 1)
    path.write_text(render_json(newer), encoding="utf-8")
    with pytest.raises(OutputError, match=f"schema {SCHEMA_VERSION}"):
        load_results(path)


def test_taken_reviews_keep_their_labels_and_the_order_asked_for() -> None:
    reviews = Reviews(["a", "b", "c"], ["1", "2", "3"])
    assert reviews.take([2, 0]) == Reviews(["c", "a"], ["3", "1"])
    assert len(reviews.take([])) == 0


def test_the_label_of_a_review_is_the_most_probable_one() -> None:
    probabilities = np.array([[0.2, 0.8], [0.6, 0.4]], np.float32)
    lengths, cut = np.array([3, 4], np.int32), np.array([False, True])
    assert Predictions(("bad", "good"), probabilities, lengths, cut, 0.1).labels == ["good", "bad"]
