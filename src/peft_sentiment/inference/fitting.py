"""Training behind the classifier object: its adapter, its companion, its calibration."""

import typing
from collections.abc import Iterator

import numpy as np
from peft import PeftModel

from peft_sentiment.data.batching import LabelledTokens, iterate_padded_batches
from peft_sentiment.errors import SettingsError
from peft_sentiment.evaluation.companion import CompanionDraft
from peft_sentiment.evaluation.prediction import predict_tokens
from peft_sentiment.evaluation.thresholds import build_calibration
from peft_sentiment.model.adapters import add_adapter
from peft_sentiment.model.architectures import find_head_modules
from peft_sentiment.model.determinism import deterministic_algorithms
from peft_sentiment.model.encoder import require_prompts_fit
from peft_sentiment.model.learning_rates import get_learning_rate_ratios, settle_learning_rates
from peft_sentiment.model.memory import memory_advice
from peft_sentiment.model.method_config import build_config
from peft_sentiment.model.methods import count_virtual_tokens
from peft_sentiment.records.reviews import Reviews
from peft_sentiment.training.fit import Event, fit_adapter
from peft_sentiment.training.loop import TrainingRun
from peft_sentiment.training.probing import require_known_head
from peft_sentiment.training.saving import CheckpointSaver

if typing.TYPE_CHECKING:
    from peft_sentiment.inference.classifier import SentimentClassifier


def draft_companion(
    classifier: "SentimentClassifier", train: Reviews, validation: Reviews | None
) -> CompanionDraft | None:
    """Learn the word counts of the companion, or return None where the settings ask for none.

    Raises:
        DataError: a label has no validation review.
        SettingsError: there are no validation reviews.
    """
    training = classifier.settings.training
    if training.companion == "none":
        return None
    if validation is None or not len(validation):
        raise SettingsError(
            f"training.companion is {training.companion!r}, but there are no validation "
            "reviews to weigh it on. Raise --validation-size, or leave --companion out."
        )
    class_weight = "balanced" if training.class_weights == "balanced" else None
    return CompanionDraft.build(train, validation, classifier.label_names, class_weight)


def require_trainable(classifier: "SentimentClassifier") -> None:
    """Check that a base can have its adapter, before any time is spent on scoring it.

    Args:
        classifier: after `build_base`.

    Raises:
        SettingsError: the encoder can't have the method or the first stage, or an option is not the
            method's.
    """
    settings, encoder = classifier.settings, classifier.encoder_
    config = build_config(encoder, settings.adapter)
    require_known_head(encoder.model, config, settings.training)
    _require_stretches_fit(classifier)


def build_adapter(classifier: "SentimentClassifier", train: LabelledTokens) -> PeftModel:
    """Return the base with an untrained adapter on it, on the device in use.

    Raises:
        SettingsError: the encoder can't have the method, or peft refuses its settings.
    """
    settings, encoder = classifier.settings, classifier.encoder_
    _require_stretches_fit(classifier)
    batches = iterate_padded_batches(
        train.reviews,
        settings.training.per_device_train_batch_size,
        int(encoder.tokenizer.pad_token_id),
        np.random.default_rng(settings.training.seed),
    )
    model = add_adapter(encoder, settings.adapter, settings.training.seed, batches)
    return model.to(classifier.precision_.device)


def _require_stretches_fit(classifier: "SentimentClassifier") -> None:
    """Check that learnt tokens fit in front of what training reads of a review."""
    settings, whole = classifier.settings, classifier.settings.data.max_length
    tokens = min(settings.training.crop_length or whole, whole)
    prompts = count_virtual_tokens(settings.adapter)
    require_prompts_fit(classifier.encoder_, tokens, prompts, "--crop-length or --max-length")


def iterate_fit(
    classifier: "SentimentClassifier",
    train: LabelledTokens,
    validation: LabelledTokens | None,
    saver: CheckpointSaver | None,
    draft: CompanionDraft | None,
) -> Iterator[Event]:
    """Train a classifier that has an adapter, step by step; then learn from its validation.

    Raises:
        DeviceMemoryError: memory ran out.
        CheckpointError, OutputError: a checkpoint does not fit, or can't be written.
    """
    settings, encoder = classifier.settings, classifier.encoder_
    head = find_head_modules(encoder, settings.adapter.modules_to_save)
    training = settle_learning_rates(encoder, settings.adapter, settings.training)
    run = TrainingRun(
        model=classifier.model_,
        train=train,
        settings=training,
        precision=classifier.precision_,
        pad_id=int(encoder.tokenizer.pad_token_id),
        learning_rate_ratios=get_learning_rate_ratios(settings.adapter, training, head),
        began_with=None if saver is None else saver.identity.processes,
    )
    is_deterministic = settings.training.deterministic
    with memory_advice(settings), deterministic_algorithms(is_deterministic):
        yield from fit_adapter(run, validation, saver)
        is_stopped = saver is not None and saver.is_stopped
        if validation is not None and len(validation) and not is_stopped:
            _learn_from_validation(classifier, validation, draft)


def _learn_from_validation(
    classifier: "SentimentClassifier", validation: LabelledTokens, draft: CompanionDraft | None
) -> None:
    """Finish the companion, if there is to be one, and calibrate what is said in the end."""
    predictions = predict_tokens(
        classifier.model_,
        validation.reviews,
        label_names=validation.label_names,
        pad_id=int(classifier.encoder_.tokenizer.pad_token_id),
        batch_size=classifier.settings.training.per_device_eval_batch_size,
        precision=classifier.precision_,
    )
    if draft is not None:
        classifier.companion_ = draft.finish(predictions)
        predictions = classifier.companion_.join(draft.validation.texts, predictions)
    classifier.calibration_ = build_calibration(validation.labels, predictions)
