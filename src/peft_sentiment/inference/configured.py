"""A scikit-learn classifier whose parameters are settings of a run."""

from collections.abc import Iterable
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin

from peft_sentiment.config import Settings, load_settings
from peft_sentiment.errors import SettingsError, suggest
from peft_sentiment.inference.arguments import PARAMETERS


class ConfiguredClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Takes each of `PARAMETERS` by name, and gives them back as one checked tree."""

    def __init__(self, **settings: Any) -> None:  # noqa: ANN401 - each setting has its own type
        _require_known(settings)
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

    def set_params(self, **params: Any) -> Self:  # noqa: ANN401 - each setting has its own type
        """Change settings by name; what is fitted already stays as it is.

        Raises:
            SettingsError: one is unknown.
        """
        _require_known(params)
        changed: Self = super().set_params(**params)
        return changed

    @property
    def settings(self) -> Settings:
        """The settings as one checked tree."""
        tables: dict[str, dict[str, Any]] = {}
        for name, item in PARAMETERS.items():
            value = getattr(self, name)
            value = value.item() if isinstance(value, np.generic) else value
            tables.setdefault(item.section, {})[name] = value
        return Settings().updated(tables, "SentimentClassifier")


def _require_known(names: Iterable[str]) -> None:
    for name in names:
        if name not in PARAMETERS:
            raise SettingsError(
                f"SentimentClassifier has no setting {name!r}. {suggest(name, [*PARAMETERS])}"
            )
