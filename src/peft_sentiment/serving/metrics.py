"""What Prometheus is told of a service. No text and no key is among it."""

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

PREFIX = "peft_sentiment"
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 1, 2, 5, 10, 30)
SIZES = (1, 2, 4, 8, 16, 32, 64)
TOKENS = (64, 128, 256, 512, 1024, 2048, 4096)


class ServiceMetrics:
    """The metrics of one service, in a registry of their own."""

    def __init__(self) -> None:
        # They would tell of each series when it began, in a second one.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"{PREFIX}_{name}", text, labels, registry=registry)

        def gauge(name: str, text: str) -> Gauge:
            return Gauge(f"{PREFIX}_{name}", text, registry=registry)

        def histogram(name: str, text: str, sizes: tuple[float, ...], *labels: str) -> Histogram:
            return Histogram(
                f"{PREFIX}_{name}", text, labels, registry=registry, buckets=(*sizes, float("inf"))
            )

        self.requests = counter("requests", "Requests answered.", "method", "route", "status")
        self.refusals = counter("refusals", "Requests refused, by the code told.", "code")
        self.seconds = histogram("request_seconds", "Time of a request.", SECONDS, "route")
        self.texts = counter("texts", "Texts labelled.", "adapter")
        self.tokens = counter("tokens", "Tokens read of them.", "adapter")
        self.explanations = counter("explanations", "Texts explained.", "adapter")
        self.batch_texts = histogram(
            "batch_texts", "Texts of a batch, or windows of long ones.", SIZES
        )
        self.batch_tokens = histogram("batch_tokens", "Tokens of a batch.", TOKENS)
        self.batch_seconds = histogram("batch_seconds", "Time to compute a batch.", SECONDS)
        self.queue_seconds = histogram("queue_seconds", "Time a text waited.", SECONDS)
        self.queue_tokens = gauge("queue_tokens", "Tokens waiting to be computed.")
        self.requests_under_way = gauge("requests_under_way", "Requests not answered yet.")
        self.adapters = gauge("adapters", "Adapters in memory.")

    def forget_adapter(self, name: str) -> None:
        """Drop the series of an adapter that was removed."""
        for metric in (self.texts, self.tokens, self.explanations):
            if (name,) in metric._metrics:
                metric.remove(name)

    def render(self) -> bytes:
        """Return all of them in Prometheus' text form."""
        return generate_latest(self._registry)
