"""Label texts with an exported ONNX model; needs numpy, tokenizers and onnxruntime, no torch.

Each review is computed alone and on one thread, several at once: nothing is padded, and what is
said of a review does not depend on those beside it.

Shapes: N reviews, T tokens, C labels.
"""

import os
import time
import typing
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from peft_sentiment.config import Truncation
from peft_sentiment.data.batching import TokenizedReviews, tokenize_reviews
from peft_sentiment.data.windows import divide_reviews
from peft_sentiment.errors import ExportError, SettingsError, build_missing_error
from peft_sentiment.evaluation.probabilities import compute_probabilities
from peft_sentiment.evaluation.temperature import rescale
from peft_sentiment.inference.arguments import require_texts
from peft_sentiment.model.exported_files import (
    ONNX_FILE,
    ONNX_FORMS,
    REMEDY,
    TOKENIZER_FILE,
    load_export_record,
    read_verified,
)
from peft_sentiment.model.tokenizer_files import EncodingTokenizer
from peft_sentiment.records import Predictions
from peft_sentiment.records.calibration import Calibration
from peft_sentiment.records.export import ExportRecord

if typing.TYPE_CHECKING:
    from onnxruntime import InferenceSession

INPUT, MASK, OUTPUT = "input_ids", "attention_mask", "logits"

MOST_THREADS = 16
"""Reviews computed at once by default, at most; each waits for Python only shortly."""


@dataclass
class OnnxClassifier:
    """A text classifier that is ready to label, and can't be trained.

    Attributes:
        record: what was kept beside the model.
        classes_: (C,), the labels; the columns of `predict_proba`.
        calibration_: what validation says of the probabilities; None where there was none, or
            where they are to stay as they are.
        threads: reviews computed at once.

    Example:
        >>> classifier = OnnxClassifier.load("saved_peft_model-onnx-int8")
        >>> classifier.predict(["A film to fall asleep to."])
    """

    record: ExportRecord
    tokenizer: EncodingTokenizer
    session: "InferenceSession"
    classes_: NDArray[Any]
    calibration_: Calibration | None
    threads: int

    @classmethod
    def load(
        cls, folder: str | Path, *, threads: int | None = None, calibrate: bool = True
    ) -> Self:
        """Read an export to ONNX.

        Args:
            folder: written by `peft-sentiment export DIR --to onnx` or `onnx-int8`.
            threads: reviews computed at once; by default the cores this process may use.
            calibrate: whether probabilities are calibrated, where validation says how.

        Raises:
            ExportError: the folder is no such export, or a file is missing, damaged or changed.
            SettingsError: ONNX Runtime is not installed, or `threads` is less than 1.
        """
        folder = Path(folder)
        if threads is not None and threads < 1:
            raise SettingsError(f"threads is {threads}, but must be at least 1.")
        record = load_export_record(folder)
        if record.form not in ONNX_FORMS:
            raise ExportError(
                f"{folder}: the export is {record.form}, not ONNX. Load it with "
                "SentimentClassifier.load, or export the adapter with --to onnx-int8."
            )
        session = _build_session(folder, read_verified(folder, record, ONNX_FILE))
        _require_signature(folder, session, len(record.label_names))
        return cls(
            record,
            _build_tokenizer(folder, read_verified(folder, record, TOKENIZER_FILE)),
            session,
            np.asarray(record.label_names).astype(record.label_type),
            record.calibration if calibrate else None,
            threads or min(_count_cores(), MOST_THREADS),
        )

    @property
    def label_names(self) -> tuple[str, ...]:
        """The classes as texts."""
        return self.record.label_names

    def predict(self, texts: Sequence[str]) -> NDArray[Any]:
        """Return the (N,) most probable classes."""
        chosen: NDArray[Any] = self.classes_[self.predict_proba(texts).argmax(axis=1)]
        return chosen

    def predict_proba(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return (N, C) probabilities in the order of `classes_`."""
        return self.predict_reviews(texts).probabilities

    def predict_reviews(self, texts: Sequence[str]) -> Predictions:
        """Return calibrated probabilities with all that is known about how they came about.

        Raises:
            DataError: `texts` is not a sequence of str.
        """
        predictions = self.predict_uncalibrated(texts)
        if self.calibration_ is None:
            return predictions
        return rescale(predictions, self.calibration_.temperature)

    def predict_uncalibrated(self, texts: Sequence[str]) -> Predictions:
        """Return predictions at temperature 1; `texts` as in `predict_reviews`."""
        start = time.perf_counter()
        reviews = self.tokenize(texts)
        probabilities = compute_probabilities(self.compute_logits(reviews))
        seconds = time.perf_counter() - start
        return Predictions(
            self.label_names, probabilities, reviews.lengths, reviews.is_cut, seconds
        )

    def tokenize(self, texts: Sequence[str]) -> TokenizedReviews:
        """Return the token ids that the model reads of each text.

        Raises:
            DataError: `texts` is not a sequence of str.
        """
        truncation = typing.cast("Truncation", self.record.truncation)
        return tokenize_reviews(
            require_texts(texts),
            self.tokenizer,
            self.record.max_length,
            truncation,
            self.record.window_length,
        )

    def compute_logits(self, reviews: TokenizedReviews) -> NDArray[np.float32]:
        """Return (N, C) logits in the reviews' order."""
        windows = divide_reviews(reviews)
        logits = np.zeros((len(windows.reviews), len(self.label_names)), np.float32)
        # The longest first, so that no thread is left with a long one in the end.
        order = np.argsort(-windows.reviews.lengths, kind="stable").tolist()

        def score(place: int) -> None:
            logits[place] = self.compute_window(windows.reviews.token_ids[place])

        if self.threads == 1 or len(order) == 1:
            for place in order:
                score(place)
        else:
            with ThreadPoolExecutor(self.threads) as pool:
                for _ in pool.map(score, order):
                    pass
        return windows.combine(logits)

    def compute_window(self, token_ids: NDArray[np.int32]) -> NDArray[np.float32]:
        """Return (C,) logits of (T,) token ids, read at once; several threads may ask."""
        ids = token_ids.astype(np.int64)[None]  # (1, T)
        feed = {INPUT: ids, MASK: np.ones_like(ids)}
        names = [item.name for item in self.session.get_inputs()]
        (logits,) = self.session.run([OUTPUT], {name: feed[name] for name in names})
        first: NDArray[np.float32] = logits[0]
        return first


def require_onnxruntime() -> Any:  # noqa: ANN401 - the module
    """Return ONNX Runtime, which reports nothing home.

    Raises:
        SettingsError: it is not installed.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise build_missing_error("ONNX models need", "ONNX Runtime", "onnx") from error
    onnxruntime.disable_telemetry_events()
    return onnxruntime


def _build_session(folder: Path, model: bytes) -> "InferenceSession":
    onnxruntime = require_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4  # What is wrong is raised too.
    try:
        return typing.cast(
            "InferenceSession",
            onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"]),
        )
    except Exception as error:  # all that ONNX Runtime raises for a bad model
        first_line = str(error).strip().partition("\n")[0]
        raise ExportError(
            f"{folder / ONNX_FILE}: ONNX Runtime can't load it ({first_line}). {REMEDY}"
        ) from error


def _build_tokenizer(folder: Path, content: bytes) -> EncodingTokenizer:
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_str(content.decode("utf-8"))
    except Exception as error:  # all that `tokenizers` raises for a bad file
        raise ExportError(
            f"{folder / TOKENIZER_FILE}: not a tokenizer ({error}). {REMEDY}"
        ) from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return EncodingTokenizer(tokenizer)


def _require_signature(folder: Path, session: "InferenceSession", labels: int) -> None:
    """Check that a graph takes token ids, with or without a mask, and gives a logit per label."""
    inputs = {item.name: item.type for item in session.get_inputs()}
    outputs = {item.name: item.shape for item in session.get_outputs()}
    is_fed = inputs in ({INPUT: "tensor(int64)"}, dict.fromkeys((INPUT, MASK), "tensor(int64)"))
    if not is_fed or OUTPUT not in outputs or outputs[OUTPUT][-1:] != [labels]:
        raise ExportError(
            f"{folder / ONNX_FILE}: the graph takes {', '.join(inputs)} and gives "
            f"{', '.join(f'{name} {shape}' for name, shape in outputs.items())}, but must take "
            f"{INPUT} and give {OUTPUT} of {labels} labels. {REMEDY}"
        )


def _count_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
