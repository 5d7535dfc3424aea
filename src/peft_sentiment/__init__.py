"""A sentiment classifier of your own by parameter-efficient fine-tuning."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from peft_sentiment.inference.classifier import SentimentClassifier

__version__ = "0.1.0"
__all__ = ["SentimentClassifier", "__version__"]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - whatever the name stands for
    # The classifier brings torch along, which `peft-sentiment --help` must not wait for.
    if name == "SentimentClassifier":
        from peft_sentiment.inference.classifier import SentimentClassifier

        return SentimentClassifier
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
