"""A threshold leaves undecided what the model is least sure of, and keeps its word."""

import dataclasses

import numpy as np
import pytest
from drawn_predictions import build_predictions, draw_overconfident

from peft_sentiment.config import EvaluationSettings
from peft_sentiment.errors import SettingsError
from peft_sentiment.evaluation.decisions import UNDECIDED, decide_labels, mark_decided
from peft_sentiment.evaluation.temperature import rescale
from peft_sentiment.evaluation.thresholds import (
    POINTS,
    build_calibration,
    choose_threshold,
    measure_calibration,
    measure_threshold,
)

LABELS, VALIDATION = draw_overconfident(1000, 2)
CALIBRATION = build_calibration(LABELS, VALIDATION)


def test_the_first_point_decides_everything_and_each_next_one_less() -> None:
    shares = [point.undecided_share for point in CALIBRATION.points]
    assert (shares[0], CALIBRATION.points[0].confidence) == (0, 0)
    assert shares == sorted(set(shares))
    assert len(shares) == POINTS
    assert CALIBRATION.points[0].precision == np.mean(np.equal(VALIDATION.labels, LABELS))


@pytest.mark.parametrize("share", [0, 0.07, 0.25, 0.605, 0.95])
def test_the_wanted_share_is_left_undecided_on_reviews_of_the_same_kind(share: float) -> None:
    chosen = choose_threshold(CALIBRATION, EvaluationSettings(undecided_share=share))
    _, others = draw_overconfident(20_000, 2, seed=9)
    assert 1 - mark_decided(others, chosen).mean() == pytest.approx(share, abs=0.04)


def test_a_share_of_0_decides_all() -> None:
    chosen = choose_threshold(CALIBRATION, EvaluationSettings(undecided_share=0))
    assert mark_decided(VALIDATION, chosen).all()


@pytest.mark.parametrize("precision", [0.85, 0.9, 0.95])
def test_the_wanted_precision_holds_on_other_reviews(precision: float) -> None:
    chosen = choose_threshold(CALIBRATION, EvaluationSettings(min_precision=precision))
    labels, others = draw_overconfident(20_000, 2, seed=9)
    record = measure_threshold(labels, others, chosen, 0.95)
    assert record is not None
    assert record.precision is not None
    assert record.precision >= precision
    assert 0 < record.undecided_share < 0.9


def test_the_lowest_threshold_with_the_precision_is_taken() -> None:
    chosen = choose_threshold(CALIBRATION, EvaluationSettings(min_precision=0.9))
    below = [p for p in CALIBRATION.points if p.confidence < (chosen.threshold or 0)]
    assert below
    assert all(point.precision_low < 0.9 for point in below)


def test_a_precision_that_validation_can_not_vouch_for_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"1000 validation reviews can vouch for 0\.9\d\d"):
        choose_threshold(CALIBRATION, EvaluationSettings(min_precision=0.9999))


def test_nothing_asked_for_changes_nothing() -> None:
    assert choose_threshold(CALIBRATION, EvaluationSettings()) == CALIBRATION
    kept = dataclasses.replace(CALIBRATION, threshold=0.8)
    assert choose_threshold(kept, EvaluationSettings()) == kept


def test_decisions_are_the_same_at_any_temperature_of_the_predictions() -> None:
    chosen = dataclasses.replace(CALIBRATION, threshold=0.8)
    assert 0 < mark_decided(VALIDATION, chosen).mean() < 1
    calibrated = rescale(VALIDATION, CALIBRATION.temperature)
    assert decide_labels(VALIDATION, chosen) == decide_labels(calibrated, chosen)


def test_the_undecided_are_called_so_and_the_others_by_their_label() -> None:
    calibration = dataclasses.replace(CALIBRATION, temperature=1.0, threshold=0.8)
    predictions = build_predictions([[0.1, 0.9], [0.4, 0.6], [0.85, 0.15]])
    assert decide_labels(predictions, calibration) == ["positive", UNDECIDED, "negative"]
    assert decide_labels(predictions, None) == predictions.labels


def test_a_threshold_above_every_confidence_has_no_precision() -> None:
    calibration = dataclasses.replace(CALIBRATION, temperature=1.0, threshold=0.99)
    record = measure_threshold(["positive"], build_predictions([[0.1, 0.9]]), calibration, 0.95)
    assert record is not None
    assert (record.decided, record.undecided_share, record.precision) == (0, 1.0, None)


def test_the_record_holds_both_sides_of_the_temperature() -> None:
    rng = np.random.default_rng(0)
    calibrated = rescale(VALIDATION, CALIBRATION.temperature)
    records = [
        measure_calibration(LABELS, model, CALIBRATION, EvaluationSettings(), rng)
        for model in (VALIDATION, calibrated)
    ]
    for record in records:
        assert record is not None
        assert record.threshold is None
        assert record.after.expected_calibration_error < record.before.expected_calibration_error
        assert record.after.log_loss < record.before.log_loss
        assert record.after.brier_score < record.before.brier_score
    assert measure_calibration(LABELS, VALIDATION, None, EvaluationSettings(), rng) is None
