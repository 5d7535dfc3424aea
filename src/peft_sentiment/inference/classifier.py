"""The classifier object: scikit-learn's verbs over encoder, adapter and training."""

import functools
import typing
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from peft import PeftModel
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.exceptions import NotFittedError
from torch import nn

from peft_sentiment.config import Settings, load_settings
from peft_sentiment.data.batching import (
    LabelledTokens,
    TokenizedReviews,
    iterate_padded_batches,
    tokenize_reviews,
)
from peft_sentiment.errors import ExportError, SettingsError, suggest
from peft_sentiment.evaluation.companion import (
    Companion,
    CompanionDraft,
    load_companion,
    save_companion,
)
from peft_sentiment.evaluation.prediction import predict_reviews, predict_tokens
from peft_sentiment.evaluation.temperature import rescale
from peft_sentiment.evaluation.thresholds import build_calibration
from peft_sentiment.inference.arguments import (
    PARAMETERS,
    list_classes,
    read_reviews,
    require_known_labels,
    require_texts,
)
from peft_sentiment.inference.environment import read_versions
from peft_sentiment.inference.exported import fill_classifier
from peft_sentiment.inference.onnx import OnnxClassifier
from peft_sentiment.model.adapters import adapter_off, add_adapter, alters_base
from peft_sentiment.model.determinism import deterministic_algorithms
from peft_sentiment.model.encoder import Encoder, load_encoder, require_length_fits
from peft_sentiment.model.exported_files import is_export
from peft_sentiment.model.memory import memory_advice
from peft_sentiment.model.metadata import FORMAT_VERSION, AdapterMetadata
from peft_sentiment.model.methods import count_virtual_tokens, get_learning_rate_ratios
from peft_sentiment.model.precision import (
    Precision,
    choose_precision,
    get_encoder_shape,
    pick_device,
)
from peft_sentiment.model.saved_adapters import load_adapter, save_adapter
from peft_sentiment.processes import get_processes
from peft_sentiment.records import Predictions
from peft_sentiment.records.calibration import Calibration
from peft_sentiment.records.explanation import Explanation
from peft_sentiment.records.export import ExportRecord
from peft_sentiment.records.reviews import Reviews

if typing.TYPE_CHECKING:
    from peft_sentiment.training.fit import Event
    from peft_sentiment.training.saving import CheckpointSaver


class SentimentClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A text classifier: a frozen encoder with a LoRA adapter and a head of its own.

    Works as a scikit-learn estimator (`clone`, `cross_val_score`, `GridSearchCV`). Texts are
    sequences of str, labels of str or int.

    Args:
        **settings: any setting of model, adapter and training, `max_length`, `truncation`,
            `calibrate` and `use_companion`; `peft-sentiment run --help` explains each. The
            defaults are those of the quickstart preset.

    Attributes:
        classes_: (C,), the labels, sorted; the columns of `predict_proba`.
        model_: the `peft` model.
        encoder_: the base and its tokenizer.
        precision_: device and dtype in use.
        calibration_: what validation says of the probabilities; None where there was none.
        companion_: what speaks beside the adapter; None where nothing does.
        export_: what was kept beside an exported model; None for any other.
        runtime_: what scores in place of `model_`, of a model exported to ONNX.

    Raises:
        SettingsError: a setting is unknown, malformed or out of range.

    Example:
        >>> classifier = SentimentClassifier(r=16, num_train_epochs=3).fit(texts, labels)
        >>> classifier.predict_proba(["A film to fall asleep to."])
    """

    export_: ExportRecord | None = None
    runtime_: OnnxClassifier | None = None

    def __init__(self, **settings: Any) -> None:  # noqa: ANN401 - each setting has its own type
        for name in settings:
            if name not in PARAMETERS:
                raise SettingsError(
                    f"SentimentClassifier has no setting {name!r}. {suggest(name, [*PARAMETERS])}"
                )
        defaults = load_settings()
        for name, item in PARAMETERS.items():
            default = getattr(getattr(defaults, item.section), name)
            setattr(self, name, settings.get(name, default))

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Return an unfitted classifier for the settings of a run."""
        values = {
            name: getattr(getattr(settings, item.section), name)
            for name, item in PARAMETERS.items()
        }
        return cls(**values)

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return every setting by name."""
        return {name: getattr(self, name) for name in PARAMETERS}

    @property
    def settings(self) -> Settings:
        """The settings as one checked tree."""
        tables: dict[str, dict[str, Any]] = {}
        for name, item in PARAMETERS.items():
            value = getattr(self, name)
            value = value.item() if isinstance(value, np.generic) else value
            tables.setdefault(item.section, {})[name] = value
        return Settings().updated(tables, "SentimentClassifier")

    def fit(
        self,
        X: Sequence[str],  # noqa: N803 - scikit-learn's name
        y: ArrayLike,
        validation: tuple[Sequence[str], ArrayLike] | None = None,
    ) -> Self:
        """Train an adapter on labelled texts.

        Args:
            X: N texts.
            y: (N,), a label for each.
            validation: texts and labels to choose the best weights and the temperature by, and
                to weigh the companion on.

        Raises:
            DataError: texts or labels are not what they should be.
            SettingsError: there is to be a companion, but no validation.
            ModelError, HubError: the base can't be loaded.
        """
        train = read_reviews(X, y)
        held_out = None if validation is None else read_reviews(*validation)
        self.build_base(list_classes(y))
        self.prepare_companion(train, held_out)
        held_out_tokens = None if held_out is None else self.tokenize(held_out)
        for _ in self.iterate_fit(self.tokenize(train), held_out_tokens):
            pass
        return self

    def build_base(self, classes: Sequence[str] | Sequence[int]) -> None:
        """Load the encoder with an untrained head for these classes; predictions are guesses."""
        settings = self.settings
        pick_device(settings.model.device)  # A wrong one is told before anything is loaded.
        names = tuple(map(str, classes))
        self.use_base(load_encoder(settings.model, names, settings.training.seed), classes)

    def use_base(self, encoder: Encoder, classes: Sequence[str] | Sequence[int]) -> None:
        """Stand on an encoder that is loaded as `build_base` would; training changes it.

        Args:
            encoder: with an untrained head for these classes.
            classes: labels of the texts.

        Raises:
            SettingsError: the device is missing, or the encoder can't read so many tokens.
        """
        settings = self.settings
        device = pick_device(settings.model.device)
        self.classes_: NDArray[Any] = np.asarray(classes)
        self.encoder_: Encoder = encoder
        shape = get_encoder_shape(encoder.model.config)
        # Measured, it could come out differently in each of several processes.
        self.precision_: Precision = get_processes().agree(
            lambda: choose_precision(device, settings.training, shape)
        )
        extra = count_virtual_tokens(settings.adapter)
        require_length_fits(encoder, settings.data.max_length + extra)
        self.model_: nn.Module = nn.Module.to(encoder.model, device)
        self.calibration_: Calibration | None = None
        self.companion_: Companion | None = None
        self.export_, self.runtime_ = None, None
        self._companion_draft: CompanionDraft | None = None

    def prepare_companion(self, train: Reviews, validation: Reviews | None) -> None:
        """Learn the word counts of the companion, if the settings ask for one.

        Call it between `build_base` and `iterate_fit`, with the reviews of that training.

        Raises:
            DataError: a label has no validation review.
            SettingsError: there are no validation reviews.
        """
        training = self.settings.training
        self._companion_draft = None
        if training.companion == "none":
            return
        if validation is None or not len(validation):
            raise SettingsError(
                f"training.companion is {training.companion!r}, but there are no validation "
                "reviews to weigh it on. Raise --validation-size, or leave --companion out."
            )
        class_weight = "balanced" if training.class_weights == "balanced" else None
        self._companion_draft = CompanionDraft.build(
            train, validation, self.label_names, class_weight
        )

    def build_adapter(self, train: LabelledTokens) -> PeftModel:
        """Put an untrained adapter on the base that `build_base` has loaded.

        Args:
            train: reviews it is to be trained on, which some methods start from.

        Raises:
            SettingsError: the encoder can't have the method, or peft refuses its settings.
        """
        settings = self.settings
        batches = iterate_padded_batches(
            train.reviews,
            settings.training.per_device_train_batch_size,
            int(self.encoder_.tokenizer.pad_token_id),
            np.random.default_rng(settings.training.seed),
        )
        model = add_adapter(self.encoder_, settings.adapter, settings.training.seed, batches)
        self.model_ = model.to(self.precision_.device)
        return self.model_

    def tokenize(self, reviews: Reviews) -> LabelledTokens:
        """Return the token ids that the model reads of each review, and the label numbers.

        Args:
            reviews: labelled with the names in `label_names`.

        Raises:
            DataError: a label is not among them.
        """
        require_known_labels(reviews.labels, self.label_names)
        tokens = self.tokenize_texts(reviews.texts)
        return LabelledTokens.build(tokens, reviews.labels, self.label_names, reviews.weights)

    def tokenize_texts(self, texts: Sequence[str]) -> TokenizedReviews:
        """Return the token ids that the model reads of each text."""
        data = self.settings.data
        return tokenize_reviews(texts, self.encoder_.tokenizer, data.max_length, data.truncation)

    def iterate_fit(
        self,
        train: LabelledTokens,
        validation: LabelledTokens | None,
        saver: "CheckpointSaver | None" = None,
    ) -> "Iterator[Event]":
        """Train step by step after `build_base`; whoever iterates shows progress and may stop.

        Args:
            train: reviews to train on.
            validation: reviews to choose the best weights and the temperature by.
            saver: writes checkpoints, and holds the one to go on from.

        Raises:
            DeviceMemoryError: memory ran out.
            CheckpointError, OutputError: a checkpoint does not fit, or can't be written.
        """
        # Scoring must not wait for what only training needs.
        from peft_sentiment.training.fit import fit_adapter
        from peft_sentiment.training.loop import TrainingRun

        if not isinstance(self.model_, PeftModel):
            self.build_adapter(train)
        self.calibration_ = self.companion_ = None
        settings = self.settings
        run = TrainingRun(
            model=self.model_,
            train=train,
            settings=settings.training,
            precision=self.precision_,
            pad_id=int(self.encoder_.tokenizer.pad_token_id),
            learning_rate_ratios=get_learning_rate_ratios(settings.adapter),
            began_with=None if saver is None else saver.identity.processes,
        )
        is_deterministic = settings.training.deterministic
        with memory_advice(settings), deterministic_algorithms(is_deterministic):
            yield from fit_adapter(run, validation, saver)
            is_stopped = saver is not None and saver.is_stopped
            if validation is not None and len(validation) and not is_stopped:
                self._learn_from_validation(validation)

    def _learn_from_validation(self, validation: LabelledTokens) -> None:
        """Finish the companion, if there is to be one, and calibrate what is said in the end."""
        predictions = predict_tokens(
            self.model_,
            validation.reviews,
            label_names=validation.label_names,
            pad_id=int(self.encoder_.tokenizer.pad_token_id),
            batch_size=self.settings.training.per_device_eval_batch_size,
            precision=self.precision_,
        )
        if draft := self._companion_draft:
            self.companion_ = draft.finish(predictions)
            predictions = self.companion_.join(draft.validation.texts, predictions)
        self.calibration_ = build_calibration(validation.labels, predictions)

    def plan_cache_bytes(self, train: LabelledTokens) -> int:
        """Return what training is going to keep of frozen lower layers on disk, in bytes."""
        from peft_sentiment.training.gradients import plan_cache_bytes

        return plan_cache_bytes(self.model_, train, self.settings.training, self.precision_)

    def predict(self, X: Sequence[str]) -> NDArray[Any]:  # noqa: N803 - scikit-learn's name
        """Return the (N,) most probable classes."""
        places = self.predict_proba(X).argmax(axis=1)
        chosen: NDArray[Any] = self.classes_[places]
        return chosen

    def predict_proba(self, X: Sequence[str]) -> NDArray[np.float32]:  # noqa: N803
        """Return (N, C) probabilities in the order of `classes_`."""
        return self.predict_reviews(X).probabilities

    def predict_reviews(self, texts: Sequence[str]) -> Predictions:
        """Return probabilities with all that is known about how they came about.

        They are calibrated where the setting `calibrate` is on and there was a validation.

        Raises:
            DataError: `texts` is not a sequence of str.
            DeviceMemoryError: memory ran out.
        """
        return self.predict_in_parts(texts)["peft"]

    def predict_in_parts(self, texts: Sequence[str]) -> dict[str, Predictions]:
        """Return what `predict_reviews` says as `peft`.

        Where a companion takes part, also what the adapter alone says, as `adapter`.

        Raises:
            DataError, DeviceMemoryError: as in `predict_reviews`.
        """
        alone = self._score(texts)
        joined = self.conclude(texts, alone)
        return {"adapter": alone, "peft": joined} if self.has_companion else {"peft": joined}

    def conclude(self, texts: Sequence[str], alone: Predictions) -> Predictions:
        """Return what is said in the end: by the adapter and its companion, calibrated.

        Args:
            texts: N texts.
            alone: what the adapter says of them, at temperature 1.
        """
        companion = self.companion_ if self.has_companion else None
        predictions = alone if companion is None else companion.join(texts, alone)
        # The calibration of both together says nothing of the adapter alone.
        is_calibrated = self.settings.evaluation.calibrate and companion is self.companion_
        if is_calibrated and self.calibration_ is not None:
            predictions = rescale(predictions, self.calibration_.temperature)
        return predictions

    def _score(self, texts: Sequence[str]) -> Predictions:
        """Return predictions at temperature 1."""
        if self.runtime_ is not None:
            return self.runtime_.predict_uncalibrated(texts)
        self._require_model()
        settings = self.settings
        is_deterministic = settings.training.deterministic
        with memory_advice(settings), deterministic_algorithms(is_deterministic):
            return predict_reviews(
                self.model_,
                self.encoder_.tokenizer,
                require_texts(texts),
                label_names=self.label_names,
                max_length=settings.data.max_length,
                truncation=settings.data.truncation,
                batch_size=settings.training.per_device_eval_batch_size,
                precision=self.precision_,
            )

    def explain(self, texts: Sequence[str], steps: int | None = None) -> list[Explanation]:
        """Say which words spoke for each text's label, and which against it.

        Args:
            texts: N texts.
            steps: of the integration; more narrow the gap, and take longer in proportion.

        Raises:
            SettingsError: Captum is not installed.
            DataError: `texts` is not a sequence of str.
            DeviceMemoryError: memory ran out.
        """
        # Predicting must not wait for what only explaining needs.
        from peft_sentiment.evaluation.explanation import STEPS, explain_reviews

        self._require_torch_model("explain its labels")
        predictions, settings = self.predict_reviews(texts), self.settings
        with memory_advice(settings):
            return explain_reviews(
                self.model_,
                self.encoder_.tokenizer,
                texts,
                predictions,
                max_length=settings.data.max_length,
                truncation=settings.data.truncation,
                device=self.precision_.device,
                steps=STEPS if steps is None else steps,
            )

    def predict_reviews_without_adapter(self, texts: Sequence[str]) -> Predictions:
        """Return what the base with its untrained head says."""
        if self.export_ is not None:
            raise ExportError(
                "An exported model can't be used without its adapter, which is part of it. "
                "Load the adapter it was made from."
            )
        self._require_model()
        if not isinstance(self.model_, PeftModel):
            return self._score(texts)
        if alters_base(self.model_):
            base: SentimentClassifier = clone(self)
            base.build_base(self.classes_.tolist())
            return base.predict_reviews(texts)
        with adapter_off(self.model_):
            return self._score(texts)

    def save(
        self,
        folder: str | Path,
        trained_with: Settings | None = None,
        seen: NDArray[np.uint64] | None = None,
    ) -> None:
        """Write the adapter with all that is needed to score text, the base aside.

        Args:
            folder: replaced as a whole.
            trained_with: settings of the run, whose data can be scored again later.
            seen: fingerprints of the reviews it was trained and validated on, which are then left
                out or refused.

        Raises:
            OutputError: the folder can't be written; what stood there is unchanged.
        """
        self._require_model()
        if not isinstance(self.model_, PeftModel):
            raise NotFittedError("There is no adapter to save yet: call fit first.")
        settings = self.settings
        metadata = AdapterMetadata(
            format_version=FORMAT_VERSION,
            base_name=self.encoder_.name,
            base_revision=self.encoder_.revision,
            base_sha256=self.encoder_.sha256,
            head_seed=settings.training.seed,
            label_names=self.label_names,
            label_type="int" if self.classes_.dtype.kind in "iu" else "str",
            max_length=settings.data.max_length,
            truncation=settings.data.truncation,
            versions=read_versions(),
            trained_with=None if trained_with is None else trained_with.as_tables(),
            method=settings.adapter.method,
            calibration=self.calibration_,
        )
        companion = self.companion_
        save = None if companion is None else functools.partial(save_companion, companion)
        save_adapter(self.model_, self.encoder_, metadata, Path(folder), seen, save)

    @classmethod
    def load(cls, folder: str | Path, **settings: Any) -> Self:  # noqa: ANN401 - any setting
        """Read a saved classifier, or an exported one, which can't be saved or explained again.

        Args:
            folder: written by `save` or by `peft-sentiment export`.
            **settings: what differs from training, such as `device`, or `model_name_or_path` for
                where the same base is on this machine.

        Raises:
            AdapterError: the folder is incomplete or corrupt, or the base is another one.
            ExportError: an exported model is incomplete or damaged.
            ModelError, HubError: the base can't be loaded.
        """
        classifier = cls(**settings)
        wanted = classifier.settings
        if is_export(Path(folder)):
            fill_classifier(classifier, Path(folder), settings)
            return classifier
        device = pick_device(wanted.model.device)
        model, encoder, metadata = load_adapter(
            Path(folder), wanted.model, base_name=settings.get("model_name_or_path")
        )
        saved = {
            "model_name_or_path": encoder.name,
            "model_revision": encoder.revision,
            "max_length": metadata.max_length,
            "truncation": metadata.truncation,
            "seed": metadata.head_seed,
            "method": metadata.method,
        }
        classifier.set_params(**saved)
        shape = get_encoder_shape(encoder.model.config)
        classifier.precision_ = choose_precision(device, wanted.training, shape)
        classifier.classes_ = np.asarray(metadata.label_names).astype(metadata.label_type)
        classifier.encoder_ = encoder
        classifier.model_ = model.to(device)
        classifier.companion_ = load_companion(Path(folder), len(metadata.label_names))
        is_calibrated = classifier.companion_ is None or wanted.evaluation.use_companion
        classifier.calibration_ = metadata.calibration if is_calibrated else None
        return classifier

    @property
    def has_companion(self) -> bool:
        """Whether a companion takes part in what is said."""
        return self.companion_ is not None and self.settings.evaluation.use_companion

    @property
    def label_names(self) -> tuple[str, ...]:
        """The classes as texts."""
        return tuple(str(label) for label in self.classes_)

    def _require_torch_model(self, task: str) -> None:
        if self.runtime_ is not None:
            raise ExportError(
                f"A model exported to ONNX can't {task}. Load the adapter it was made from, or "
                "export that with --to merged."
            )
        self._require_model()

    def _require_model(self) -> None:
        if not hasattr(self, "model_"):
            raise NotFittedError("This SentimentClassifier is not fitted: call fit or load first.")
