"""What a running service does with a request, apart from HTTP."""

import asyncio
import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from peft_sentiment.config import ServiceSettings
from peft_sentiment.data.batching import TokenizedReviews
from peft_sentiment.data.windows import divide_reviews
from peft_sentiment.errors import ExportError, PeftSentimentError, SettingsError, name_install
from peft_sentiment.evaluation.decisions import decide_labels
from peft_sentiment.model.streams import count_streams
from peft_sentiment.records import Predictions
from peft_sentiment.records.explanation import Explanation
from peft_sentiment.serving.adapters import AdapterRegistry, LoadedAdapter
from peft_sentiment.serving.batcher import Batcher
from peft_sentiment.serving.keys import ApiKeys
from peft_sentiment.serving.metrics import ServiceMetrics
from peft_sentiment.serving.refusals import Refusal
from peft_sentiment.serving.schemas import (
    PredictAnswer,
    PredictRequest,
    TextPrediction,
    WordPart,
    WordsOfText,
)
from peft_sentiment.serving.scoring import score_batch
from peft_sentiment.serving.served import Servable
from peft_sentiment.serving.side_thread import SideThread

EXPLANATION_RETRY = 10
"""Seconds to tell those who come while explanations wait."""

MOST_WAITING_LOADS = 8
"""Adapters that may wait to be loaded; one is loaded at a time."""

LOAD_RETRY = 5
"""Seconds to tell those who come while as many wait."""

Facts = dict[str, object]
"""What the log tells of a request."""


class Service:
    """Adapters, queue and threads of one process.

    Attributes:
        settings: sizes and times.
        registry: the adapters.
        keys: that are let in.
        metrics: for Prometheus.
        is_draining: whether it was told to stop.
    """

    def __init__(self, settings: ServiceSettings, registry: AdapterRegistry, keys: ApiKeys) -> None:
        self.settings, self.registry, self.keys = settings, registry, keys
        self.metrics = ServiceMetrics()
        self.metrics.adapters.set_function(lambda: len(registry))
        self.is_draining = False
        self._limits: set[asyncio.Timeout] = set()
        self._batches: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start the threads, in the running event loop."""
        settings = self.settings
        self._loop = asyncio.get_running_loop()
        self._batcher = Batcher(settings, score_batch, count_streams(), self.metrics)
        self._reader = SideThread("tokenizing", 2 * settings.max_requests)
        self._explainer = SideThread("explanations", settings.max_waiting_explanations)
        self._loader = SideThread("loading an adapter", MOST_WAITING_LOADS)
        self._batches = asyncio.create_task(self._batcher.run())

    async def stop(self) -> None:
        """End the threads; what has not been answered is given up."""
        if self._batches is not None:
            self._batches.cancel()
            self._batcher.close()

    def begin_draining(self) -> None:
        """Give what is under way `drain_seconds`; may be called by a signal handler."""
        self.is_draining = True
        self._loop.call_soon_threadsafe(self._bound_limits)

    def limit_time(self) -> asyncio.Timeout:
        """Return the block in which a request must be answered."""
        settings = self.settings
        seconds = settings.request_seconds
        if self.is_draining:
            seconds = min(seconds, settings.drain_seconds)
        limit = asyncio.timeout(seconds)
        self._limits.add(limit)
        return limit

    def forget_limit(self, limit: asyncio.Timeout) -> None:
        """Note that a request has been answered."""
        self._limits.discard(limit)

    @property
    def under_way(self) -> int:
        """Requests that have not been answered yet."""
        return len(self._limits)

    def _bound_limits(self) -> None:
        latest = self._loop.time() + self.settings.drain_seconds
        for limit in self._limits:
            when = limit.when()
            if when is not None and not limit.expired():
                limit.reschedule(min(when, latest))

    async def predict(self, request: PredictRequest, facts: Facts) -> PredictAnswer:
        """Label the texts of a request.

        Args:
            request: what to label.
            facts: takes what the log is to tell.

        Raises:
            Refusal: too much is asked for, there is no such adapter, or the queue is full.
        """
        texts = [request.texts] if isinstance(request.texts, str) else request.texts
        self._require_allowed(texts, request.explain)
        loaded = self.registry.get(request.adapter)
        if request.explain:
            _require_explainable(loaded.served)
        facts.update(adapter=loaded.name, texts=len(texts), explained=request.explain)
        reviews, predictions = await self._label(loaded.served, texts)
        tokens = int(reviews.lengths.sum())
        facts["tokens"] = tokens
        self.metrics.texts.labels(loaded.name).inc(len(texts))
        self.metrics.tokens.labels(loaded.name).inc(tokens)
        explanations = await self._explain(loaded, texts) if request.explain else None
        return build_answer(loaded, predictions, explanations)

    async def load_adapter(self, name: str, folder: str) -> LoadedAdapter:
        """Load an adapter from below the folder that was fixed at start.

        Raises:
            Refusal: it can't be, or many others wait to be loaded.
        """
        registry = self.registry
        return await self._loader.do(lambda: registry.load_from_root(name, folder), LOAD_RETRY)

    def remove_adapter(self, name: str) -> None:
        """Forget an adapter.

        Raises:
            Refusal: there is none of this name, or adapters are fixed.
        """
        self.registry.remove(name)
        self.metrics.forget_adapter(name)

    def _require_allowed(self, texts: Sequence[str], is_explained: bool) -> None:
        settings = self.settings
        most = settings.max_explained_texts if is_explained else settings.max_texts
        if len(texts) > most:
            what = "texts to explain" if is_explained else "texts"
            message = f"There are {len(texts)} {what}; a request may have {most}."
            raise Refusal(413, "too_many_texts", message)
        longest = settings.max_text_characters
        for place, text in enumerate(texts):
            if len(text) > longest:
                message = f"Text {place} has {len(text):,} characters; a text may have {longest:,}."
                raise Refusal(413, "text_too_long", message)
            if not _is_unicode(text):
                message = f"Text {place} holds half a character (a lone surrogate), which is none."
                raise Refusal(422, "malformed_request", message)

    async def _label(
        self, served: Servable, texts: Sequence[str]
    ) -> tuple[TokenizedReviews, Predictions]:
        """Return what was read of the texts, and what is said of them."""
        reviews = await self._reader.do(lambda: served.tokenize(texts))
        windows = divide_reviews(reviews)
        answers = await asyncio.gather(*self._batcher.submit(served, windows.reviews.token_ids))
        logits = windows.combine(np.stack(answers))
        concluded = await self._reader.do(lambda: served.conclude(texts, reviews, logits))
        return reviews, concluded

    async def _explain(self, loaded: LoadedAdapter, texts: Sequence[str]) -> list[Explanation]:
        served = loaded.served
        try:
            explained = await self._explainer.do(lambda: served.explain(texts), EXPLANATION_RETRY)
        except PeftSentimentError as error:
            raise Refusal(501, "no_explanations", str(error)) from error
        self.metrics.explanations.labels(loaded.name).inc(len(texts))
        return explained


def _require_explainable(served: Servable) -> None:
    """Refuse what can't be explained before it is labelled."""
    if importlib.util.find_spec("captum") is None:
        message = f"Explanations need Captum on the server: {name_install('explain')}."
        raise Refusal(501, "no_explanations", message)
    try:
        served.require_explainable()
    except ExportError as error:
        raise Refusal(501, "no_explanations", str(error)) from error


def _is_unicode(text: str) -> bool:
    """Tell whether a text can be written down; JSON can name halves of characters."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def build_answer(
    loaded: LoadedAdapter, predictions: Predictions, explanations: Sequence[Explanation] | None
) -> PredictAnswer:
    """Put an answer together."""
    labels = decide_labels(predictions, loaded.served.calibration)
    parts = [
        TextPrediction(
            label=label,
            probabilities=dict(zip(predictions.label_names, row.tolist(), strict=True)),
            tokens=int(tokens),
            is_cut=bool(is_cut),
        )
        for label, row, tokens, is_cut in zip(
            labels, predictions.probabilities, predictions.tokens, predictions.is_cut, strict=True
        )
    ]
    for part, explanation in zip(parts, explanations or [], strict=False):
        part.explanation = _describe_words(explanation)
    return PredictAnswer(adapter=loaded.name, predictions=parts)


def _describe_words(explanation: Explanation) -> WordsOfText:
    return WordsOfText(
        label=explanation.label,
        log_odds=explanation.log_odds,
        baseline_log_odds=explanation.baseline_log_odds,
        gap=explanation.gap,
        words=[WordPart(start=w.start, end=w.end, score=w.score) for w in explanation.words],
    )


def load_adapters(registry: AdapterRegistry, adapters: Mapping[str, str]) -> None:
    """Load the adapters that were named at start, name -> folder.

    Raises:
        AdapterError: one can't be loaded, or is made for another encoder.
        SettingsError: a name is malformed, or there are too many.
    """
    for name, folder in adapters.items():
        try:
            registry.load(name, Path(folder), folder)
        except Refusal as refusal:
            raise SettingsError(f"{name}={folder}: {refusal.message}") from refusal
