"""`--deterministic`: two runs agree bit for bit, whatever was measured of this machine."""

import json
from pathlib import Path

import pytest
import torch
from tiny_runs import TinyRun

from peft_sentiment.cli import main
from peft_sentiment.config import TrainingSettings
from peft_sentiment.evaluation.storage import load_predictions
from peft_sentiment.model import precision
from peft_sentiment.model.determinism import deterministic_algorithms
from peft_sentiment.model.precision import choose_precision


def read_outcome(run: TinyRun) -> dict[str, object]:
    """Return all that must be equal, which is all but times."""
    lines = (run.output / "steps.jsonl").read_text(encoding="utf-8").splitlines()
    _, predictions = load_predictions(run.output / "predictions" / "peft.parquet")
    return {
        "steps": [{**json.loads(line), "seconds": 0} for line in lines],
        "weights": (run.adapter / "adapter_model.safetensors").read_bytes(),
        "probabilities": predictions.probabilities.tobytes(),
    }


def test_two_runs_agree_bit_for_bit(
    tiny_run: TinyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        pytest.fail("something was measured")

    monkeypatch.setattr(precision, "load_measurement", refuse)
    outcomes = []
    for name in ("one", "two"):
        run = TinyRun(tmp_path / name, tiny_run.base, tiny_run.reviews)
        arguments = [item for item in run.arguments if item != "--no-bf16"]
        assert main([*arguments, "--deterministic", "--baselines", "none"]) == 0
        outcomes.append(read_outcome(run))
    assert len(outcomes[0]["steps"]) > 5  # type: ignore[arg-type]
    assert outcomes[0] == outcomes[1]
    other = TinyRun(tmp_path / "other", tiny_run.base, tiny_run.reviews)
    asked = [*other.arguments, "--deterministic", "--baselines", "none", "--seed", "7"]
    assert main(asked) == 0
    assert read_outcome(other)["weights"] != outcomes[0]["weights"]


def test_nothing_is_chosen_by_speed() -> None:
    chosen = choose_precision(torch.device("cpu"), TrainingSettings(deterministic=True))
    assert (chosen.dtype, chosen.choose_form(256)) == (torch.float32, "fused")
    low = choose_precision(torch.device("cpu"), TrainingSettings(deterministic=True, bf16=True))
    assert low.dtype == torch.bfloat16


def test_torch_is_told_for_the_time_of_a_block() -> None:
    with deterministic_algorithms(False):
        assert not torch.are_deterministic_algorithms_enabled()
    with deterministic_algorithms(True):
        assert torch.are_deterministic_algorithms_enabled()
    assert not torch.are_deterministic_algorithms_enabled()
