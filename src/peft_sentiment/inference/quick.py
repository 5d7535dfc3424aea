"""Label texts with a saved adapter soon after the start, where that can be done."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from peft_sentiment.config import Settings
from peft_sentiment.data.batching import tokenize_reviews
from peft_sentiment.data.windows import divide_reviews
from peft_sentiment.evaluation.packed_scoring import score_packed
from peft_sentiment.evaluation.probabilities import compute_probabilities
from peft_sentiment.evaluation.temperature import rescale
from peft_sentiment.inference.arguments import require_texts
from peft_sentiment.model.memory import memory_advice
from peft_sentiment.model.merged import load_merged_model
from peft_sentiment.model.packed import PackedModel
from peft_sentiment.model.precision import choose_precision, pick_device
from peft_sentiment.model.tokenizer_files import EncodingTokenizer
from peft_sentiment.records import Predictions
from peft_sentiment.records.calibration import Calibration


@dataclass
class QuickClassifier:
    """What `predict` needs of a `SentimentClassifier`: the same probabilities, seconds earlier.

    Attributes:
        calibration_: what validation says of the probabilities; None where there was none.
    """

    packed: PackedModel
    tokenizer: EncodingTokenizer
    label_names: tuple[str, ...]
    settings: Settings
    calibration_: Calibration | None

    @classmethod
    def load(cls, folder: Path, settings: Settings) -> Self | None:
        """Read a saved adapter, or return None where it takes a `SentimentClassifier`.

        Args:
            folder: of the adapter.
            settings: of model, scoring and calibration; the base must be the adapter's own.
        """
        device = pick_device(settings.model.device)
        model = load_merged_model(folder) if device.type == "cpu" else None
        if model is None:
            return None
        precision = choose_precision(device, settings.training, model.shape)
        metadata = model.metadata
        own = {
            "max_length": metadata.max_length,
            "truncation": metadata.truncation,
            "window_length": metadata.window_length,
        }
        return cls(
            model.pack(precision.dtype, precision.choose_scoring_form),
            EncodingTokenizer(model.tokenizer),
            metadata.label_names,
            settings.updated({"data": own}, str(folder)),
            metadata.calibration,
        )

    def predict_reviews(self, texts: Sequence[str]) -> Predictions:
        """Return calibrated probabilities, as `SentimentClassifier.predict_reviews` does.

        Raises:
            DataError: `texts` is not a sequence of str.
            DeviceMemoryError: memory ran out.
        """
        start, data = time.perf_counter(), self.settings.data
        with memory_advice(self.settings):
            reviews = tokenize_reviews(
                require_texts(texts),
                self.tokenizer,
                data.max_length,
                data.truncation,
                data.window_length,
            )
            windows = divide_reviews(reviews)
            batch_size = self.settings.training.per_device_eval_batch_size
            logits = np.zeros((len(windows.owners), len(self.label_names)), np.float32)
            for batch, of_batch in score_packed(self.packed, windows.reviews, batch_size):
                logits[batch] = of_batch
        predictions = Predictions(
            self.label_names,
            compute_probabilities(windows.combine(logits)),
            reviews.lengths,
            reviews.is_cut,
            time.perf_counter() - start,
        )
        if self.calibration_ is None or not self.settings.evaluation.calibrate:
            return predictions
        return rescale(predictions, self.calibration_.temperature)
