"""A scikit-learn classifier whose parameters are settings of a run."""

from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin

from peft_sentiment.config import Settings, load_settings
from peft_sentiment.errors import SettingsError, suggest
from peft_sentiment.inference.arguments import PARAMETERS


class ConfiguredClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Takes each of `PARAMETERS` by name, and gives them back as one checked tree."""

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
