"""What the classifier object says of texts, before anything is made of it."""

import typing
from collections.abc import Sequence

from peft import PeftModel
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from peft_sentiment.errors import ExportError
from peft_sentiment.evaluation.prediction import predict_reviews
from peft_sentiment.inference.arguments import require_texts
from peft_sentiment.model.adapters import adapter_off, alters_base
from peft_sentiment.model.determinism import deterministic_algorithms
from peft_sentiment.model.memory import memory_advice
from peft_sentiment.records import Predictions
from peft_sentiment.records.explanation import Explanation

if typing.TYPE_CHECKING:
    from peft_sentiment.inference.classifier import SentimentClassifier


def score_texts(classifier: "SentimentClassifier", texts: Sequence[str]) -> Predictions:
    """Return predictions at temperature 1, a companion aside.

    Raises:
        DataError: `texts` is not a sequence of str.
        DeviceMemoryError: memory ran out.
    """
    if classifier.runtime_ is not None:
        return classifier.runtime_.predict_uncalibrated(texts)
    require_model(classifier)
    settings = classifier.settings
    is_deterministic = settings.training.deterministic
    with memory_advice(settings), deterministic_algorithms(is_deterministic):
        return predict_reviews(
            classifier.model_,
            classifier.encoder_.tokenizer,
            require_texts(texts),
            label_names=classifier.label_names,
            max_length=settings.data.max_length,
            truncation=settings.data.truncation,
            window_length=settings.data.window_length,
            batch_size=settings.training.per_device_eval_batch_size,
            precision=classifier.precision_,
        )


def score_without_adapter(classifier: "SentimentClassifier", texts: Sequence[str]) -> Predictions:
    """Return what the base with its untrained head says.

    Raises:
        ExportError: the model is an exported one, which holds its adapter for good.
    """
    if classifier.export_ is not None:
        raise ExportError(
            "An exported model can't be used without its adapter, which is part of it. "
            "Load the adapter it was made from."
        )
    require_model(classifier)
    if not isinstance(classifier.model_, PeftModel):
        return score_texts(classifier, texts)
    if alters_base(classifier.model_):
        base: SentimentClassifier = clone(classifier)
        base.build_base(classifier.classes_.tolist())
        return base.predict_reviews(texts)
    with adapter_off(classifier.model_):
        return score_texts(classifier, texts)


def require_explainable(classifier: "SentimentClassifier") -> None:
    """Check that a model has the gradients that explanations are made of.

    Raises:
        ExportError: it is one exported to ONNX.
    """
    if classifier.runtime_ is not None:
        raise ExportError(
            "A model exported to ONNX can't explain its labels. Load the adapter it was made "
            "from, or export that with --to merged."
        )


def explain_texts(
    classifier: "SentimentClassifier", texts: Sequence[str], steps: int | None
) -> list[Explanation]:
    """Say which words spoke for each text's label, and which against it.

    Args:
        classifier: whose labels they are.
        texts: N texts.
        steps: of the integration; None for the usual number.

    Raises:
        ExportError: the model is an exported one that has no gradients.
        SettingsError: Captum is not installed.
        DataError: `texts` is not a sequence of str.
        DeviceMemoryError: memory ran out.
    """
    # Predicting must not wait for what only explaining needs.
    from peft_sentiment.evaluation.explanation import STEPS, explain_reviews

    require_explainable(classifier)
    require_model(classifier)
    predictions, settings = classifier.predict_reviews(texts), classifier.settings
    with memory_advice(settings):
        return explain_reviews(
            classifier.model_,
            classifier.encoder_.tokenizer,
            texts,
            predictions,
            max_length=settings.data.max_length,
            truncation=settings.data.truncation,
            window_length=settings.data.window_length,
            device=classifier.precision_.device,
            steps=STEPS if steps is None else steps,
        )


def require_model(classifier: "SentimentClassifier") -> None:
    """Check that a classifier has a model.

    Raises:
        NotFittedError: it has none yet.
    """
    if not hasattr(classifier, "model_"):
        raise NotFittedError("This SentimentClassifier is not fitted: call fit or load first.")
