"""What this machine does fast: matrix products in each dtype, and attention in each form.

The measurement takes about a second and is kept per machine, torch and shape of model, so that a
run computes today what it computed yesterday.
"""

import contextlib
import functools
import hashlib
import json
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import linear

from peft_sentiment.errors import OutputError
from peft_sentiment.files import write_text
from peft_sentiment.model.attention import (
    AttentionForm,
    attend,
    group_by_length,
    pull_attention,
)
from peft_sentiment.model.packaged import get_cache_folder
from peft_sentiment.model.streams import one_thread
from peft_sentiment.model.workspace import Workspace

METHOD = 2
"""Of measuring; raise it when another measurement is to replace those that were kept."""

PROBE_TOKENS = 2048
PROBE_LENGTHS = (32, 64, 128, 256, 512)
"""Tokens of a review at which the forms of attention are timed."""

FORMS: tuple[AttentionForm, ...] = ("products", "fused")

Timings = dict[str, dict[str, dict[AttentionForm, float]]]
"""dtype -> tokens of a review -> form of attention -> seconds on one thread."""


@dataclass(frozen=True)
class EncoderShape:
    """What the speed of an encoder depends on; by default that of the packaged one.

    Attributes:
        width: of the hidden states.
        inner: width of the feed-forward part.
        heads: of the attention.
    """

    width: int = 384
    inner: int = 1536
    heads: int = 12


@dataclass(frozen=True)
class AttentionForms:
    """Tokens of a review -> form of attention, where reviews lie end to end.

    Attributes:
        scoring: where no gradient is to follow.
        training: where one is.
    """

    scoring: Mapping[int, AttentionForm] = field(default_factory=dict)
    training: Mapping[int, AttentionForm] = field(default_factory=dict)

    def describe(self) -> str:
        """Return the forms in words."""
        return f"{_describe(self.scoring)} to score and {_describe(self.training)} to train"

    def choose_for_scoring(self, length: int) -> AttentionForm:
        """Return the form for a review of so many tokens that is only scored."""
        return _find_nearest(self.scoring, length)

    def choose_for_training(self, length: int) -> AttentionForm:
        """Return the form for a review of so many tokens that is trained on."""
        return _find_nearest(self.training, length)


def _find_nearest(forms: Mapping[int, AttentionForm], length: int) -> AttentionForm:
    if not forms:
        return "fused"
    return forms[min(forms, key=lambda n: abs(n - length))]


def _describe(forms: Mapping[int, AttentionForm]) -> str:
    lengths: dict[AttentionForm, list[str]] = {}
    for length, form in sorted(forms.items()):
        lengths.setdefault(form, []).append(str(length))
    if len(lengths) < 2:
        return next(iter(lengths), "fused")
    return ", ".join(f"{form} near {' '.join(n)} tokens" for form, n in lengths.items())


@dataclass(frozen=True)
class Measurement:
    """What was timed on this machine.

    Attributes:
        matmul_rates: dtype -> operations a second of all threads (multiply and add count as two).
        scoring_seconds: of attention.
        training_seconds: of attention and its gradient.
    """

    matmul_rates: dict[str, float]
    scoring_seconds: Timings
    training_seconds: Timings

    @property
    def speed_up(self) -> float:
        """Rate of bfloat16 over that of float32."""
        return self.matmul_rates["bfloat16"] / self.matmul_rates["float32"]

    def choose_forms(self, dtype: str) -> AttentionForms:
        """Return the faster forms at each length that was measured."""
        return AttentionForms(
            *(
                {
                    int(length): min(FORMS, key=lambda form: seconds[form])
                    for length, seconds in timings[dtype].items()
                }
                for timings in (self.scoring_seconds, self.training_seconds)
            )
        )


def get_encoder_shape(config: Any) -> EncoderShape:  # noqa: ANN401 - any model's config
    """Return what an encoder's speed depends on; what its config does not say is as usual."""
    width = int(getattr(config, "hidden_size", 0) or EncoderShape.width)
    inner = getattr(config, "hidden_dim", None) or getattr(config, "intermediate_size", None)
    heads = int(getattr(config, "num_attention_heads", 0) or 0)
    has_heads = heads > 0 and width % heads == 0
    return EncoderShape(width, int(inner or 4 * width), heads if has_heads else 1)


def load_measurement(device: torch.device, shape: EncoderShape) -> Measurement:
    """Return what was measured here before, or measure it and keep it.

    A file that is damaged, or that can't be written, costs the time to measure again.
    """
    path = get_cache_folder() / f"speed-{_fingerprint_machine(device, shape)}.json"
    known = _read_measurement(path)
    if known is not None:
        return known
    measured = measure(device, shape)
    with contextlib.suppress(OutputError):
        write_text(path, json.dumps(asdict(measured), indent=2) + "\n")
    return measured


def _read_measurement(path: Path) -> Measurement | None:
    try:
        known = Measurement(**json.loads(path.read_text(encoding="utf-8")))
        known.choose_forms("bfloat16"), known.choose_forms("float32")
        return known if known.speed_up > 0 else None
    except (OSError, ValueError, TypeError, KeyError, AttributeError, ZeroDivisionError):
        return None


def _fingerprint_machine(device: torch.device, shape: EncoderShape) -> str:
    """Return a short name for all that the speed depends on."""
    processor: dict[str, Any] = {"machine": platform.machine(), "name": platform.processor()}
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        kinds = ("model name", "flags", "Features")
        processor["kind"] = sorted({line for line in lines if line.startswith(kinds)})
    except OSError:
        pass  # not Linux
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    parts = (
        processor,
        name,
        torch.get_num_threads(),
        torch.__version__,
        METHOD,
        asdict(shape),
    )
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def measure(device: torch.device, shape: EncoderShape) -> Measurement:
    """Time matrix products and, on a CPU, attention at the model's own shapes."""
    dtypes = (torch.float32, torch.bfloat16)
    names = [str(dtype).removeprefix("torch.") for dtype in dtypes]
    rates = {n: _measure_matmul(device, d, shape) for n, d in zip(names, dtypes, strict=True)}
    if device.type != "cpu":
        nothing: Timings = {name: {} for name in names}
        return Measurement(rates, nothing, nothing)
    with one_thread(), torch.no_grad():
        scoring, training = (
            {n: _measure_forms(d, shape, trains) for n, d in zip(names, dtypes, strict=True)}
            for trains in (False, True)
        )
    return Measurement(rates, scoring, training)


def _measure_forms(
    dtype: torch.dtype, shape: EncoderShape, trains: bool
) -> dict[str, dict[AttentionForm, float]]:
    return {
        str(length): {
            form: _measure_attention(length, dtype, form, shape, trains) for form in FORMS
        }
        for length in PROBE_LENGTHS
    }


def _measure_matmul(device: torch.device, dtype: torch.dtype, shape: EncoderShape) -> float:
    x = torch.ones(PROBE_TOKENS, shape.width, dtype=dtype, device=device)
    weight = torch.ones(shape.inner, shape.width, dtype=dtype, device=device)
    seconds = _time_best(functools.partial(linear, x, weight), device, tries=6)
    return 2 * PROBE_TOKENS * shape.width * shape.inner / seconds


def _measure_attention(
    length: int, dtype: torch.dtype, form: AttentionForm, shape: EncoderShape, trains: bool
) -> float:
    generator, workspace = torch.Generator().manual_seed(0), Workspace()
    q, k, v, gradient = (
        torch.randn(length, shape.width, generator=generator).to(dtype) for _ in range(4)
    )
    groups = group_by_length((length,), lambda _: form)

    def call() -> None:
        workspace.release()
        _, kept = attend(q, k, v, groups, shape.heads, lambda _: form, workspace, keep=trains)
        if trains:
            pull_attention(gradient, kept, groups, shape.heads, workspace)

    return _time_best(call, torch.device("cpu"), tries=3)


def _time_best(call: Callable[[], object], device: torch.device, tries: int) -> float:
    """Return the shortest of several timings, in seconds: noise only ever adds."""
    call()
    seconds = []
    for _ in range(tries):
        start = time.perf_counter()
        call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - start)
    return min(seconds)
