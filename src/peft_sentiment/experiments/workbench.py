"""What the trials of a search share: reviews, tokens, and encoders as they were loaded.

Test reviews have no place here: a search that saw them would make them useless.
"""

import copy
import dataclasses
import gc
import math
from collections.abc import Generator
from dataclasses import dataclass, field

from peft_sentiment.config import DataSettings, Settings
from peft_sentiment.data.batching import LabelledTokens
from peft_sentiment.data.sources import load_reviews
from peft_sentiment.data.split import split_reviews
from peft_sentiment.errors import SettingsError
from peft_sentiment.inference.classifier import SentimentClassifier
from peft_sentiment.model.encoder import Encoder, load_encoder
from peft_sentiment.records import StepRecord, ValidationRecord
from peft_sentiment.records.reviews import Reviews, SourceData
from peft_sentiment.training.loop import count_steps
from peft_sentiment.training.search import Check

Tokens = tuple[LabelledTokens, LabelledTokens]
"""Training and validation reviews."""


@dataclass(frozen=True)
class Workbench:
    """Trains with ever other settings, and loads each base and tokenizes the reviews once only.

    Attributes:
        source: the reviews before they are split.
        seed: of the split.
        validations: that a trial has, where `training.eval_steps` does not say.
        encoders: as they were loaded, by what they depend on; never trained themselves.
        tokens: by what they depend on.
    """

    source: SourceData
    seed: int
    validations: int
    encoders: dict[str, Encoder] = field(default_factory=dict)
    tokens: dict[str, Tokens] = field(default_factory=dict)

    def validate(self, settings: Settings) -> Generator[Check, None, None]:
        """Train with some settings as a run would, and yield each validation."""
        settings = self.complete(settings)
        classifier = SentimentClassifier.from_settings(settings)
        classifier.use_base(self._copy_encoder(settings), self.source.label_names)
        train, validation = self._tokenize(classifier, settings)
        is_last = False
        try:
            for event in classifier.iterate_fit(train, validation):
                if isinstance(event, StepRecord):
                    is_last = event.step == event.steps
                elif isinstance(event, ValidationRecord):
                    yield Check(event, is_last)
        finally:
            # A model refers to itself, so that it would stay in memory beside the next ones.
            del classifier
            gc.collect()

    def complete(self, settings: Settings) -> Settings:
        """Return the settings with the steps between validations, where they are not given.

        A run with what is returned gives what the trial gave.
        """
        training = settings.training
        if training.eval_steps:
            return settings
        reviews = training.per_device_train_batch_size * training.gradient_accumulation_steps
        train, _ = self.split(settings.data)
        steps_per_epoch = math.ceil(len(train) / reviews)
        steps = max(1, count_steps(training.choose_epochs(len(train)), steps_per_epoch))
        interval = math.ceil(steps / self.validations)
        return settings.updated({"training": {"eval_steps": interval}}, "search")

    def split(self, settings: DataSettings) -> tuple[Reviews, Reviews]:
        """Return training and validation reviews; the test reviews are let go at once."""
        splits = split_reviews(self.source, settings, self.seed)
        return splits.train, splits.validation

    def _copy_encoder(self, settings: Settings) -> Encoder:
        """Return an encoder as it is when it is loaded; its weights are copied, not read again."""
        key = repr(settings.model)
        if key not in self.encoders:
            names = self.source.label_names
            self.encoders[key] = load_encoder(settings.model, names, self.seed)
        encoder = self.encoders[key]
        return dataclasses.replace(encoder, model=copy.deepcopy(encoder.model))

    def _tokenize(self, classifier: SentimentClassifier, settings: Settings) -> Tokens:
        key = repr((settings.model, settings.data))
        if key not in self.tokens:
            train, validation = map(classifier.tokenize, self.split(settings.data))
            self.tokens[key] = train, validation
        return self.tokens[key]


def load_workbench(settings: Settings, validations: int) -> Workbench:
    """Load the reviews of a search.

    Args:
        settings: of the search.
        validations: that each trial is to have.

    Raises:
        SettingsError: there are no validation reviews to choose by.
        DataError, HubError: the reviews can't be loaded or split.
    """
    workbench = Workbench(load_reviews(settings.data), settings.training.seed, validations)
    _, validation = workbench.split(settings.data)
    if not len(validation):
        raise SettingsError(
            "data.validation_size is 0, but a search chooses by validation reviews. "
            "Set --validation-size to 500 or more."
        )
    return workbench
