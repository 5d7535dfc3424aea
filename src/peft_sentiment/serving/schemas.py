"""Bodies of requests and answers, as OpenAPI describes them."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from peft_sentiment.config import ServiceSettings
from peft_sentiment.model.exported_files import FORMS
from peft_sentiment.serving.adapters import ADAPTER, NAME_PATTERN

AdapterName = Annotated[str, Field(pattern=NAME_PATTERN)]


class Body(BaseModel):
    """A body that has the fields named here and no others."""

    model_config = ConfigDict(extra="forbid", strict=True)


class PredictRequest(Body):
    """What to label."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"texts": "A wonderful film, warm and funny."},
                {"texts": ["Dull.", "I smiled all evening."], "adapter": "imdb", "explain": True},
            ]
        }
    )

    texts: str | Annotated[list[str], Field(min_length=1)]
    """One text, or several."""

    adapter: str | None = Field(None, description="Name of the adapter; the first one if left out.")
    explain: bool = Field(False, description="Say which words spoke for each label, in seconds.")


class WordPart(Body):
    """What one word did."""

    start: int = Field(description="Place of its first character in the text.")
    end: int = Field(description="Place after its last one.")
    score: float | None = Field(
        description="What it adds to the label's log-odds; null where it was cut out and not read."
    )


class WordsOfText(Body):
    """Which words spoke for a label; their scores add up to the change of the log-odds."""

    label: str = Field(description="The label that is explained, the most probable one.")
    log_odds: float = Field(description="Of the label, before calibration.")
    baseline_log_odds: float = Field(description="The same with every word masked.")
    gap: float = Field(description="What the scores miss of the difference, as a share of it.")
    words: list[WordPart]


class TextPrediction(Body):
    """What is said of one text."""

    label: str = Field(description="The most probable label, or undecided below the threshold.")
    probabilities: dict[str, float] = Field(description="Of every label.")
    tokens: int = Field(description="Tokens read, special ones included.")
    is_cut: bool = Field(description="Whether the text was longer than what is read of it.")
    explanation: WordsOfText | None = None


class PredictAnswer(Body):
    """What is said of all texts, in their order."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "adapter": "imdb",
                    "predictions": [
                        {
                            "label": "positive",
                            "probabilities": {"negative": 0.009, "positive": 0.991},
                            "tokens": 9,
                            "is_cut": False,
                            "explanation": None,
                        }
                    ],
                }
            ]
        }
    )

    adapter: str = Field(description="Name of the adapter that answered.")
    predictions: list[TextPrediction]


class AdapterDescription(Body):
    """An adapter in memory."""

    name: str
    folder: str
    form: str = Field(
        description="adapter, or that of an export.",
        json_schema_extra={"enum": [ADAPTER, *FORMS]},
    )
    labels: list[str]
    is_default: bool = Field(description="Whether it answers requests that name none.")
    temperature: float = Field(description="That its probabilities are calibrated by.")
    threshold: float | None = Field(description="Below it, a text is undecided; null for none.")


class AdapterList(Body):
    """The adapters in memory, the default one first."""

    adapters: list[AdapterDescription]


class LoadRequest(Body):
    """Which adapter to load."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"name": "stars", "folder": "five-stars"}]}
    )

    name: AdapterName = Field(description="By which requests choose it.")
    folder: str = Field(min_length=1, description="Below the folder that was fixed at start.")


class Health(Body):
    """That the service lives, or is ready."""

    status: str


class ErrorDetail(Body):
    """Why a request was not answered as asked."""

    code: str = Field(description="A short name that programs can tell errors apart by.")
    message: str
    request_id: str = Field(description="As in the header X-Request-ID and in the log.")


class ErrorBody(Body):
    """The one form of all errors."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "error": {
                        "code": "unknown_adapter",
                        "message": "There is no adapter of this name; there is: imdb, stars.",
                        "request_id": "5b1d0c0f6a0b4a0e8d6f0f3c2f9d7a11",
                    }
                }
            ]
        }
    )

    error: ErrorDetail


def describe_limits(description: dict[str, Any], settings: ServiceSettings) -> None:
    """Write into an OpenAPI description what this service allows of texts.

    Args:
        description: of FastAPI; changed in place.
        settings: of the service.
    """
    request = description["components"]["schemas"][PredictRequest.__name__]
    one, many = request["properties"]["texts"]["anyOf"]
    one["maxLength"] = many["items"]["maxLength"] = settings.max_text_characters
    many["maxItems"] = settings.max_texts
    request["if"] = {"properties": {"explain": {"const": True}}, "required": ["explain"]}
    request["then"] = {"properties": {"texts": {"maxItems": settings.max_explained_texts}}}
