"""Every pair of method and architecture holds; an adapter that does not is never passed over."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
import verify_matrix
from rich.console import Console
from tiny_models import PADDING
from tiny_reviews import build_tiny_reviews
from tiny_runs import TinyRun
from tiny_training import load_tiny_encoder

import peft_sentiment.verification
from peft_sentiment.cli import main
from peft_sentiment.errors import AdapterError
from peft_sentiment.evaluation.fresh_process import Answer, Job, load_elsewhere
from peft_sentiment.evaluation.verification import Check, check_frozen_weights, compare_logits
from peft_sentiment.reporting.verification import Cell, render_matrix
from peft_sentiment.verification import verify_adapter

QUICK_CELLS: list[Cell] = [
    (method, model_type)
    for model_type in ("bert", "modernbert", "gpt2")
    for method in ("ia3", "hra", "ln_tuning", "prefix_tuning", "prompt_tuning", "full")
]
"""Of each kind of method one; `make verify-matrix` takes them all."""

REFUSED: list[Cell] = [
    ("hra", "gpt2"),
    ("prompt_tuning", "gpt2"),
    ("prefix_tuning", "modernbert"),
]


@pytest.fixture(scope="module")
def checks(tmp_path_factory: pytest.TempPathFactory) -> dict[Cell, list[Check]]:
    """All cells, loaded by one other process."""
    return verify_matrix.verify_cells(QUICK_CELLS, tmp_path_factory.mktemp("cells"))


@pytest.mark.parametrize("cell", QUICK_CELLS, ids="-".join)
def test_a_method_on_an_architecture_passes_or_is_refused_with_a_reason(
    checks: dict[Cell, list[Check]], cell: Cell
) -> None:
    found = checks[cell]
    assert [check for check in found if check.status == "fail"] == []
    assert all(check.reason for check in found if check.status == "refused")
    if cell in REFUSED:
        assert [check.name for check in found] == ["training"]
        return
    passed = {check.name for check in found if check.status == "pass"}
    assert passed >= {"new process", "plain peft", "frozen weights", "adapter off"}
    assert ("merged" in passed) is not cell[0].endswith(("prefix_tuning", "prompt_tuning"))


def test_the_matrix_shows_every_cell_and_every_reason(checks: dict[Cell, list[Check]]) -> None:
    text = render_matrix({**checks, ("ia3", "bert"): [Check("merged", "fail", reason="worn out")]})
    assert "| method | bert | modernbert | gpt2 |" in text
    assert "| ia3 | FAIL | pass" in text
    assert "- fail, merged: worn out (ia3 on bert)" in text
    assert "| hra | pass" in text
    assert "- refused, training: peft has it for torch's linear layers only" in text


def test_logits_that_differ_by_more_than_rounding_fail_and_flips_are_counted() -> None:
    logits = np.array([[1.0, 0.0], [0.2, 0.1]], np.float32)
    assert compare_logits("x", logits + np.float32(1e-6), logits).status == "pass"
    other = compare_logits("x", np.array([[1.0, 0.0], [0.1, 0.2]], np.float32), logits)
    assert (other.status, other.flips) == ("fail", 1)
    assert other.largest_difference == pytest.approx(0.1)
    assert compare_logits("x", logits * np.float32("nan"), logits).status == "fail"


def test_a_frozen_weight_that_has_moved_is_seen(tiny_distilbert: Path) -> None:
    train = verify_matrix.draw_reviews()
    _, model = verify_matrix.train_cell("lora", tiny_distilbert, train)
    base = load_tiny_encoder(tiny_distilbert, verify_matrix.HEAD_SEED).model
    assert check_frozen_weights(model, base).status == "pass"
    with torch.no_grad():
        base.distilbert.transformer.layer[0].attention.q_lin.weight[0, 0] += 1e-6
    assert check_frozen_weights(model, base).status == "fail"


def test_what_another_process_can_not_load_is_told(tiny_distilbert: Path, tmp_path: Path) -> None:
    reviews = verify_matrix.draw_reviews().reviews
    job = Job(str(tmp_path / "nothing"), str(tiny_distilbert), PADDING)
    (answer,) = load_elsewhere([job], reviews)
    assert "no such adapter folder" in str(answer.ours)
    assert "no such adapter folder" in str(answer.plain)


def test_verify_passes_a_saved_adapter(
    tiny_run: TinyRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "reviews.txt"
    file.write_text("\n".join(build_tiny_reviews().texts[:12]))
    assert main(["verify", str(tiny_run.adapter), "--file", str(file)]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in ("new process", "plain peft", "merged", "adapter off"))
    assert "fail" not in shown


def test_verify_refuses_an_adapter_that_another_process_reads_otherwise(
    tiny_run: TinyRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer_wrongly(jobs: list[Job], reviews: object) -> list[Answer]:
        (answer,) = load_elsewhere(jobs, reviews)  # type: ignore[arg-type]
        return [dataclasses.replace(answer, plain=-np.asarray(answer.plain))]

    monkeypatch.setattr(peft_sentiment.verification, "load_elsewhere", answer_wrongly)
    texts = build_tiny_reviews().texts[:4]
    with pytest.raises(AdapterError, match=r"1 of 7 checks have failed: plain peft"):
        verify_adapter(tiny_run.adapter, texts, {}, Console(quiet=True))
