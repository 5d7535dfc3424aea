"""The classifier object: scikit-learn's verbs over encoder, adapter and training."""

import typing
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from peft import PeftModel
from sklearn.exceptions import NotFittedError
from torch import nn

from peft_sentiment.config import Settings
from peft_sentiment.data.batching import LabelledTokens, TokenizedReviews, tokenize_reviews
from peft_sentiment.data.checks import fingerprint_texts
from peft_sentiment.evaluation.companion import Companion, CompanionDraft
from peft_sentiment.evaluation.temperature import rescale
from peft_sentiment.inference.arguments import list_classes, read_reviews, require_known_labels
from peft_sentiment.inference.configured import ConfiguredClassifier
from peft_sentiment.inference.exported import fill_from_export
from peft_sentiment.inference.onnx import OnnxClassifier
from peft_sentiment.inference.saved import fill_from_adapter, save_classifier
from peft_sentiment.inference.scoring import (
    explain_texts,
    require_model,
    score_texts,
    score_without_adapter,
)
from peft_sentiment.model.encoder import (
    Encoder,
    load_encoder,
    require_length_fits,
    require_prompts_fit,
)
from peft_sentiment.model.exported_files import is_export
from peft_sentiment.model.methods import count_virtual_tokens
from peft_sentiment.model.precision import Precision, choose_precision, pick_device
from peft_sentiment.model.speed import get_encoder_shape
from peft_sentiment.processes import get_processes
from peft_sentiment.records import Predictions
from peft_sentiment.records.calibration import Calibration
from peft_sentiment.records.explanation import Explanation
from peft_sentiment.records.export import ExportRecord
from peft_sentiment.records.reviews import Reviews

if typing.TYPE_CHECKING:
    from peft_sentiment.training.fit import Event
    from peft_sentiment.training.saving import CheckpointSaver


class SentimentClassifier(ConfiguredClassifier):
    """A text classifier: a pre-trained encoder with an adapter and a head of its own.

    Works as a scikit-learn estimator (`clone`, `cross_val_score`, `GridSearchCV`). Texts are
    sequences of str, labels of str or int.

    Args:
        **settings: any setting of model, adapter and training, `max_length`, `truncation`,
            `window_length`, `calibrate` and `use_companion`; `peft-sentiment run --help` explains
            each. The defaults are those of the quickstart preset.

    Attributes:
        classes_: (C,), the labels, sorted; the columns of `predict_proba`.
        model_: the `peft` model.
        encoder_: the base and its tokenizer.
        precision_: device and dtype in use.
        calibration_: what validation says of the probabilities; None where there was none.
        companion_: what speaks beside the adapter; None where nothing does.
        seen_: fingerprints of the texts that `fit` has trained and validated on, where known.
        export_: what was kept beside an exported model; None for any other.
        runtime_: what scores in place of `model_`, of a model exported to ONNX.

    Raises:
        SettingsError: a setting is unknown, malformed or out of range.

    Example:
        >>> classifier = SentimentClassifier(r=16, num_train_epochs=3).fit(texts, labels)
        >>> classifier.predict_proba(["A film to fall asleep to."])
    """

    seen_: NDArray[np.uint64] | None = None
    export_: ExportRecord | None = None
    runtime_: OnnxClassifier | None = None

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
        validated = () if held_out is None else held_out.texts
        self.seen_ = fingerprint_texts([*train.texts, *validated])
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
        require_length_fits(encoder, settings.data.max_length)
        prompts = count_virtual_tokens(settings.adapter)
        setting = "--window-length or --max-length"
        require_prompts_fit(encoder, settings.data.longest_window, prompts, setting)
        self.model_: nn.Module = nn.Module.to(encoder.model, device)
        self.calibration_: Calibration | None = None
        self.companion_: Companion | None = None
        self.seen_, self.export_, self.runtime_ = None, None, None
        self._companion_draft: CompanionDraft | None = None

    def prepare_companion(self, train: Reviews, validation: Reviews | None) -> None:
        """Learn the word counts of the companion, if the settings ask for one.

        Call it between `build_base` and `iterate_fit`, with the reviews of that training.

        Raises:
            DataError: a label has no validation review.
            SettingsError: there are no validation reviews.
        """
        # Scoring must not wait for what only training needs.
        from peft_sentiment.inference.fitting import draft_companion

        self._companion_draft = None
        self._companion_draft = draft_companion(self, train, validation)

    def build_adapter(self, train: LabelledTokens) -> PeftModel:
        """Put an untrained adapter on the base that `build_base` has loaded.

        Args:
            train: reviews it is to be trained on, which some methods start from.

        Raises:
            SettingsError: the encoder can't have the method, or peft refuses its settings.
        """
        from peft_sentiment.inference.fitting import build_adapter

        self.model_ = build_adapter(self, train)
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
        return tokenize_reviews(
            texts, self.encoder_.tokenizer, data.max_length, data.truncation, data.window_length
        )

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
        from peft_sentiment.inference.fitting import iterate_fit

        if not isinstance(self.model_, PeftModel):
            self.build_adapter(train)
        self.calibration_ = self.companion_ = None
        yield from iterate_fit(self, train, validation, saver, self._companion_draft)

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
        alone = score_texts(self, texts)
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

    def explain(self, texts: Sequence[str], steps: int | None = None) -> list[Explanation]:
        """Say which words spoke for each text's label, and which against it.

        Args:
            texts: N texts.
            steps: of the integration; more narrow the gap, and take longer in proportion.

        Raises:
            ExportError: the model was exported to ONNX.
            SettingsError: Captum is not installed.
            DataError: `texts` is not a sequence of str.
            DeviceMemoryError: memory ran out.
        """
        return explain_texts(self, texts, steps)

    def predict_reviews_without_adapter(self, texts: Sequence[str]) -> Predictions:
        """Return what the base with its untrained head says."""
        return score_without_adapter(self, texts)

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
                out or refused; None for those that are known.

        Raises:
            OutputError: the folder can't be written; what stood there is unchanged.
        """
        require_model(self)
        if not isinstance(self.model_, PeftModel):
            raise NotFittedError("There is no adapter to save yet: call fit first.")
        known = self.seen_ if seen is None else seen
        save_classifier(self, self.model_, Path(folder), trained_with, known)

    @classmethod
    def load(cls, folder: str | Path, **settings: Any) -> Self:  # noqa: ANN401 - any setting
        """Read a saved classifier, or an exported one, which can only label texts.

        One exported to `merged` can explain its labels, too.

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
        fill = fill_from_export if is_export(Path(folder)) else fill_from_adapter
        fill(classifier, Path(folder), settings)
        return classifier

    @property
    def has_companion(self) -> bool:
        """Whether a companion takes part in what is said."""
        return self.companion_ is not None and self.settings.evaluation.use_companion

    @property
    def label_names(self) -> tuple[str, ...]:
        """The classes as texts."""
        return tuple(str(label) for label in self.classes_)
