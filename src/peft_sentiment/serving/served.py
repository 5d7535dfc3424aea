"""What the service computes with: adapters on the shared encoder, and exported models."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from peft_sentiment.data.batching import TokenizedReviews, tokenize_reviews
from peft_sentiment.evaluation.prediction import iterate_padded_logits
from peft_sentiment.evaluation.probabilities import compute_probabilities
from peft_sentiment.inference.classifier import SentimentClassifier
from peft_sentiment.inference.onnx import OnnxClassifier
from peft_sentiment.inference.scoring import require_explainable
from peft_sentiment.model.packed import PackedModel
from peft_sentiment.model.packing import pack_reviews
from peft_sentiment.model.readers import can_score_packed
from peft_sentiment.model.shared import SharedEncoder, copy_modules
from peft_sentiment.model.workspace import Workspace
from peft_sentiment.records import Predictions
from peft_sentiment.records.calibration import Calibration
from peft_sentiment.records.explanation import Explanation


class Servable(ABC):
    """A loaded classifier as the service needs it, whatever computes its logits.

    Attributes:
        mixable: its fast form, where its reviews can be computed together with others'.
    """

    mixable: PackedModel | None = None

    def __init__(self, classifier: SentimentClassifier) -> None:
        self._classifier = classifier

    @property
    def label_names(self) -> tuple[str, ...]:
        """The labels, in the order of the logits."""
        return self._classifier.label_names

    @property
    def calibration(self) -> Calibration | None:
        """What validation says of the probabilities, where there was one."""
        return self._classifier.calibration_

    @abstractmethod
    def tokenize(self, texts: Sequence[str]) -> TokenizedReviews:
        """Return what is read of the texts; called by one thread at a time."""

    @abstractmethod
    def score(
        self, token_ids: Sequence[NDArray[np.int32]], workspace: Workspace
    ) -> NDArray[np.float32]:
        """Return (B, C) logits; called by several threads at a time."""

    def conclude(
        self, texts: Sequence[str], reviews: TokenizedReviews, logits: NDArray[np.float32]
    ) -> Predictions:
        """Return what is said in the end, calibrated."""
        alone = Predictions(
            self.label_names, compute_probabilities(logits), reviews.lengths, reviews.is_cut, 0.0
        )
        return self._classifier.conclude(texts, alone)

    def require_explainable(self) -> None:
        """Check that it can explain what it says.

        Raises:
            ExportError: it can't, as it is exported to ONNX.
        """
        require_explainable(self._classifier)

    def explain(self, texts: Sequence[str]) -> list[Explanation]:
        """Say which words spoke for each label; called by one thread at a time."""
        return self._classifier.explain(texts)


class ServedModel(Servable):
    """A loaded adapter whose base weights are the shared ones, or a merged export."""

    def __init__(
        self, classifier: SentimentClassifier, encoder: SharedEncoder, *, is_mixable: bool
    ) -> None:
        """Share the weights, and build the fast form where there is one.

        Args:
            classifier: that labels.
            encoder: that takes its weights.
            is_mixable: whether others that share the encoder may be computed with it.
        """
        super().__init__(classifier)
        self._data = classifier.settings.data
        encoder.share(classifier.model_)
        # Explanations are made by another thread, and a tokenizer must not be used by two.
        self._tokenizer = copy.deepcopy(classifier.encoder_.tokenizer)
        precision, model = classifier.precision_, classifier.model_
        self._explained: SentimentClassifier | None = None
        self._packed: PackedModel | None = None
        if precision.device.type == "cpu" and can_score_packed(model):
            self._packed = encoder.build_packed_model(
                model, precision.dtype, precision.choose_scoring_form
            )
        if is_mixable and encoder.holds_frame(model):
            self.mixable = self._packed

    def explain(self, texts: Sequence[str]) -> list[Explanation]:
        """Say which words spoke for each label; called by one thread at a time.

        What is explained is hooked into, so it has modules of its own, around the same weights:
        those of the batches are used by other threads meanwhile.
        """
        if self._explained is None:
            self._explained = copy.copy(self._classifier)
            self._explained.model_ = copy_modules(self._classifier.model_)
        return self._explained.explain(texts)

    def tokenize(self, texts: Sequence[str]) -> TokenizedReviews:
        """Return what is read of the texts; called by one thread at a time."""
        data = self._data
        return tokenize_reviews(
            texts, self._tokenizer, data.max_length, data.truncation, data.window_length
        )

    def score(
        self, token_ids: Sequence[NDArray[np.int32]], workspace: Workspace
    ) -> NDArray[np.float32]:
        """Return (B, C) logits; called by several threads at a time."""
        if self._packed is not None:
            scored: NDArray[np.float32] = self._packed.score(
                pack_reviews(token_ids), workspace
            ).numpy()
            return scored
        classifier, reviews = self._classifier, _as_reviews(token_ids)
        pad_id = int(classifier.encoder_.tokenizer.pad_token_id)
        logits = np.zeros((len(reviews), len(self.label_names)), np.float32)
        for places, of_batch in iterate_padded_logits(
            classifier.model_, reviews, pad_id, len(reviews), classifier.precision_
        ):
            logits[places] = of_batch
        return logits


class ServedRuntime(Servable):
    """A model exported to ONNX, which computes each text alone, whatever stands beside it."""

    def __init__(self, classifier: SentimentClassifier, runtime: OnnxClassifier) -> None:
        """Serve it.

        Args:
            classifier: that labels.
            runtime: what it scores with; computes on the thread that asks.
        """
        super().__init__(classifier)
        self._runtime = runtime

    def tokenize(self, texts: Sequence[str]) -> TokenizedReviews:
        """Return what is read of the texts; called by one thread at a time."""
        return self._runtime.tokenize(texts)

    def score(
        self, token_ids: Sequence[NDArray[np.int32]], workspace: Workspace
    ) -> NDArray[np.float32]:
        """Return (B, C) logits; called by several threads at a time."""
        return np.stack([self._runtime.compute_window(ids) for ids in token_ids])


def build_served(classifier: SentimentClassifier, encoder: SharedEncoder) -> Servable:
    """Return what serves a loaded classifier.

    Args:
        classifier: a saved adapter or an exported model.
        encoder: that adapters share. An exported model stands alone: it may be of another base, and
            the first weights that an encoder is given are those that others are compared with.
    """
    if classifier.runtime_ is not None:
        return ServedRuntime(classifier, classifier.runtime_)
    if classifier.export_ is not None:
        return ServedModel(classifier, SharedEncoder(), is_mixable=False)
    return ServedModel(classifier, encoder, is_mixable=True)


def _as_reviews(token_ids: Sequence[NDArray[np.int32]]) -> TokenizedReviews:
    return TokenizedReviews(list(token_ids), np.zeros(len(token_ids), np.bool_))
