"""How sure the comparison is to be, and where the results go."""

from dataclasses import dataclass

from peft_sentiment.config.requirements import require
from peft_sentiment.errors import SettingsError

BASELINES = ("majority", "tfidf", "probe")
"""What can be measured beside base and PEFT model."""


@dataclass(frozen=True, kw_only=True)
class EvaluationSettings:
    """How sure the comparison is to be."""

    confidence_level: float = 0.95
    """Share of repetitions in which an interval is to hold the true value."""

    bootstrap_samples: int = 5000
    """Resamples of the test reviews behind the interval of the improvement."""

    baselines: tuple[str, ...] = BASELINES
    """What run measures beside base and PEFT model, on the same reviews: majority (the most
    frequent label), tfidf (word counts with logistic regression), probe (logistic regression on
    the frozen encoder's mean states); or none."""

    calibrate: bool = True
    """Divide the model's logits by the temperature that makes its probabilities fit the validation
    reviews best, so that of what it calls 90 % sure nine in ten are right. No label changes."""

    min_precision: float | None = None
    """Leave reviews undecided so that this share of the decided ones is labelled right. The
    threshold is chosen on the validation reviews and kept with the adapter."""

    undecided_share: float | None = None
    """Leave this share of the reviews undecided, those that the model is least sure of; chosen and
    kept in the same way. 0 decides all."""

    explanations: int = 4
    """Test reviews whose words run explains for the report, which takes some seconds each; needs
    Captum (the extra explain) and is left out without it. 0 for none."""

    def __post_init__(self) -> None:
        level = self.confidence_level
        require(0 < level < 1, "evaluation.confidence_level", level, "between 0 and 1")
        samples = self.bootstrap_samples
        require(samples >= 100, "evaluation.bootstrap_samples", samples, "at least 100")
        explanations = self.explanations
        require(explanations >= 0, "evaluation.explanations", explanations, "0 or more")
        chosen = self.chosen_baselines
        is_known = len(set(chosen)) == len(chosen) and set(chosen) <= set(BASELINES)
        needed = f"none, or some of {', '.join(BASELINES)}, each once"
        require(is_known, "evaluation.baselines", ",".join(self.baselines), needed)
        precision, share = self.min_precision, self.undecided_share
        if precision is not None:
            require(0 < precision < 1, "evaluation.min_precision", precision, "between 0 and 1")
        if share is not None:
            require(0 <= share < 1, "evaluation.undecided_share", share, "from 0 up to below 1")
        if precision is not None and share is not None:
            raise SettingsError(
                "evaluation.min_precision and evaluation.undecided_share are both set, and each "
                "asks for a threshold of its own; choose one of them."
            )

    @property
    def chosen_baselines(self) -> tuple[str, ...]:
        """The names of the baselines, with none meaning no name."""
        return () if self.baselines == ("none",) else self.baselines


@dataclass(frozen=True, kw_only=True)
class OutputSettings:
    """Where the results go."""

    output_dir: str = "peft_model_output"
    """Folder for settings, results, predictions and steps."""

    adapter_dir: str = "saved_peft_model"
    """Folder for the trained adapter."""

    overwrite_adapter_dir: bool = True
    """Replace an adapter that is already in adapter_dir; it is kept until the new one is
    complete. A folder with anything else in it is never replaced."""
