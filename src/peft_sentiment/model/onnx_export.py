"""Write a merged model as an ONNX file, in float32 or in int8.

Shapes: B reviews, T tokens.
"""

import contextlib
import importlib.util
import logging
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import nn
from transformers import PreTrainedModel

from peft_sentiment.errors import ExportError, build_missing_error
from peft_sentiment.model.onnx_graph import (
    EXACT,
    FLOAT,
    INPUT,
    MASK,
    OPSET,
    OUTPUT,
    can_write_fused,
    write_fused_graph,
)

MOST_WEIGHTS = 500_000_000
"""A single ONNX file holds at most 2 GB, which is so many weights in float32."""

QUANTIZED = ("MatMul",)
"""Operations whose weights become int8."""


class Logits(nn.Module):
    """A model of `transformers` that takes ids and mask, and gives logits alone."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Return (B, C) logits for (B, T) ids."""
        logits: torch.Tensor = self.model(input_ids=input_ids, attention_mask=attention_mask).logits
        return logits


def require_exporting() -> None:
    """Check that what exporting to ONNX needs is installed.

    Raises:
        SettingsError: it is not; the message names the extra.
    """
    for module in ("onnx", "onnxruntime"):
        if importlib.util.find_spec(module) is None:
            raise build_missing_error("Exporting to ONNX needs", module, "onnx")


def write_onnx(model: PreTrainedModel, path: Path) -> None:
    """Write a merged model in float32, for any number of reviews and tokens.

    Args:
        model: in float32, on the CPU, in evaluation mode.
        path: of the file.

    Raises:
        ExportError: the architecture can't be exported, or has too many weights for one file.
    """
    _require_one_file(model)
    # Two reviews, one of them padded, so that nothing is taken for constant that is not.
    ids = torch.full((2, 16), int(model.config.pad_token_id or 0), dtype=torch.long)
    ids[:, :12] = 3
    mask = torch.ones_like(ids)
    mask[1, 12:] = 0
    axes = {0: "batch", 1: "tokens"}
    with _export_errors(model), _quiet_exporter(), torch.no_grad():
        torch.onnx.export(
            Logits(model).eval(), (ids, mask), str(path), dynamo=False, opset_version=OPSET,
            input_names=[INPUT, MASK], output_names=[OUTPUT],
            dynamic_axes={INPUT: axes, MASK: axes, OUTPUT: {0: "batch"}},
        )  # fmt: skip


def write_int8_onnx(
    model: PreTrainedModel, path: Path, reviews: Sequence[NDArray[Any]] = ()
) -> None:
    """Write a merged model in int8: weights by output channel, activations as they come.

    Encoders of the BERT family are written as fused operations, with the last layer and the head
    left in float32; others are quantized as `write_onnx` writes them, all but the head.

    Args:
        model: as in `write_onnx`.
        path: of the file.
        reviews: token ids of real ones, (T,) each, on which the channels are found that are too
            wide for int8; with none, none are looked for.

    Raises:
        ExportError: as in `write_onnx`.
    """
    import onnx

    _require_one_file(model)
    draft = path.with_suffix(".float32.onnx")
    if can_write_fused(model):
        onnx.save(write_fused_graph(model, reviews), str(draft))
    else:
        write_onnx(model, draft)
    with _export_errors(model), _quiet_exporter():
        _quantize(draft, path)
    draft.unlink()


def _quantize(source: Path, target: Path) -> None:
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    graph = onnx.load(str(source)).graph
    quantize_dynamic(
        source,
        target,
        op_types_to_quantize=list(QUANTIZED),
        weight_type=QuantType.QInt8,
        per_channel=True,
        nodes_to_exclude=[node.name for node in graph.node if node.name.startswith(EXACT)],
        extra_options={"DefaultTensorType": FLOAT},
    )


def _require_one_file(model: PreTrainedModel) -> None:
    weights = sum(weight.numel() for weight in model.parameters())
    if weights > MOST_WEIGHTS:
        raise ExportError(
            f"The model has {weights:,} weights, but one ONNX file holds at most "
            f"{MOST_WEIGHTS:,}. Export it with --to merged."
        )


@contextlib.contextmanager
def _export_errors(model: PreTrainedModel) -> Iterator[None]:
    """Turn what the exporters raise for an architecture into our error.

    They raise whatever the code of the model does when it is traced.
    """
    try:
        yield
    except Exception as error:
        first_line = str(error).strip().partition("\n")[0]
        raise ExportError(
            f"A {model.config.model_type} can't be exported to ONNX "
            f"({type(error).__name__}: {first_line}). Export it with --to merged."
        ) from error


@contextlib.contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Keep the exporters' advice to their own developers off the console."""
    level = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
