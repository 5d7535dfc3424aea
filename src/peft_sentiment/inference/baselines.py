"""The baselines of a run, on the reviews and by the settings of its classifier."""

import dataclasses
from collections.abc import Callable, Iterator

from sklearn.base import clone

from peft_sentiment.config import AdapterSettings
from peft_sentiment.data.batching import LabelledTokens
from peft_sentiment.evaluation.baselines import predict_majority, predict_tfidf
from peft_sentiment.evaluation.probe import FrozenEncoder, predict_probe
from peft_sentiment.inference.classifier import SentimentClassifier
from peft_sentiment.model.memory import memory_advice
from peft_sentiment.records import Predictions
from peft_sentiment.records.reviews import Splits


def predict_baselines(
    names: tuple[str, ...], classifier: SentimentClassifier, splits: Splits, train: LabelledTokens
) -> Iterator[tuple[str, Predictions]]:
    """Fit each baseline to the training reviews, and yield its name and what it says of the test.

    Args:
        names: of baselines, as in the setting `baselines`.
        classifier: after `build_base`, before `build_adapter`.
        splits: the reviews.
        train: the training reviews, tokenized.

    Raises:
        DeviceMemoryError: memory ran out.
    """
    for name in names:
        yield name, PREDICTORS[name](classifier, splits, train)


def _predict_majority(_: SentimentClassifier, splits: Splits, __: LabelledTokens) -> Predictions:
    return predict_majority(splits.train, splits.label_names, splits.test.texts)


def _predict_tfidf(
    classifier: SentimentClassifier, splits: Splits, _: LabelledTokens
) -> Predictions:
    class_weight = _get_class_weight(classifier)
    return predict_tfidf(splits.train, splits.label_names, splits.test.texts, class_weight)


def _predict_probe(
    classifier: SentimentClassifier, splits: Splits, train: LabelledTokens
) -> Predictions:
    settings = classifier.settings
    encoder = FrozenEncoder(
        classifier.model_,
        int(classifier.encoder_.tokenizer.pad_token_id),
        settings.training.per_device_eval_batch_size,
        classifier.precision_,
    )
    with memory_advice(settings):
        return predict_probe(
            encoder,
            train,
            lambda: classifier.tokenize(splits.test).reviews,
            _get_class_weight(classifier),
        )


def _predict_full(
    classifier: SentimentClassifier, splits: Splits, train: LabelledTokens
) -> Predictions:
    """Train every weight of another copy of the encoder, with the same reviews and passes."""
    unset = AdapterSettings(method="full")
    adapter = {item.name: getattr(unset, item.name) for item in dataclasses.fields(unset)}
    full: SentimentClassifier = clone(classifier)
    # What trains a small adapter well would tear up an encoder: the rate is the method's own.
    full.set_params(**adapter, learning_rate=0.0, companion="none")
    full.build_base(splits.label_names)
    for _ in full.iterate_fit(train, full.tokenize(splits.validation)):
        pass
    return full.predict_reviews(splits.test.texts)


def _get_class_weight(classifier: SentimentClassifier) -> str | None:
    return "balanced" if classifier.settings.training.class_weights == "balanced" else None


PREDICTORS: dict[str, Callable[[SentimentClassifier, Splits, LabelledTokens], Predictions]] = {
    "majority": _predict_majority,
    "tfidf": _predict_tfidf,
    "probe": _predict_probe,
    "full": _predict_full,
}
"""Name in the setting `baselines` -> what computes it."""
