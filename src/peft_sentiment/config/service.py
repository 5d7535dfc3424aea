"""How `peft-sentiment serve` listens, what it refuses, and how it gathers requests."""

from dataclasses import dataclass

from peft_sentiment.config.requirements import require

SERVICE_SECTION = "service"
"""Where these settings stand in the help; they are none of a run's."""


@dataclass(frozen=True, kw_only=True)
class ServiceSettings:
    """How the service listens, what it refuses, and how it gathers requests."""

    host: str = "127.0.0.1"
    """Address to listen on. The default is reached from this machine only; 0.0.0.0 listens on
    every address."""

    port: int = 8000
    """Port to listen on; 0 takes a free one, which the log names."""

    adapters_folder: str | None = None
    """Folder from which adapters may be loaded while the service runs. Without it, adapters can be
    neither loaded nor removed."""

    max_adapters: int = 16
    """Adapters in memory at most."""

    api_keys_file: str | None = None
    """File of the keys that are let in, one a line. The environment variable
    PEFT_SENTIMENT_API_KEYS may hold some too, with commas between. Without any, everyone is let
    in."""

    cors_origins: tuple[str, ...] = ()
    """Origins, such as https://example.org, whose pages may call the service from a browser;
    none by default."""

    batch_tokens: int = 3072
    """Tokens that one thread computes together when many wait, at most; a longer text is a batch of
    its own. More make single answers wait longer."""

    batch_delay_ms: float = 3.0
    """Milliseconds that the oldest text waits for others to join its batch."""

    queue_tokens: int = 32768
    """Tokens that may wait to be computed; what would exceed them is answered with 503."""

    max_requests: int = 512
    """Requests under way at once, reading included; more are answered with 503."""

    max_body_bytes: int = 1_000_000
    """Bytes that the body of a request may have; a larger one is answered with 413."""

    max_texts: int = 64
    """Texts of one request; more are answered with 413."""

    max_text_characters: int = 20_000
    """Characters of one text; a longer one is answered with 413."""

    max_explained_texts: int = 4
    """Texts of one request with explanations, which take seconds each; more are answered with
    413."""

    max_waiting_explanations: int = 4
    """Requests that may wait for explanations; one more is answered with 503."""

    header_seconds: float = 5.0
    """Seconds in which the header of a request must arrive once it has begun; a slower one is
    answered with 408."""

    body_seconds: float = 5.0
    """Seconds in which the body of a request must arrive; a slower one is answered with 408."""

    request_seconds: float = 30.0
    """Seconds in which a request must be answered; then it is answered with 504."""

    drain_seconds: float = 8.0
    """Seconds after SIGTERM in which what was accepted is finished; what is left then is answered
    with 503."""

    def __post_init__(self) -> None:
        require(0 <= self.port <= 65535, "service.port", self.port, "a number from 0 to 65535")
        for name in ("max_adapters", "batch_tokens", "queue_tokens", "max_requests", "max_texts",
                     "max_body_bytes", "max_text_characters", "max_explained_texts",
                     "max_waiting_explanations"):  # fmt: skip
            require(getattr(self, name) >= 1, f"service.{name}", getattr(self, name), "at least 1")
        delay = self.batch_delay_ms
        require(0 <= delay <= 1000, "service.batch_delay_ms", delay, "from 0 to 1000")
        for name in ("header_seconds", "body_seconds", "request_seconds", "drain_seconds"):
            value = getattr(self, name)
            require(0 < value <= 3600, f"service.{name}", value, "above 0, and 3600 at most")
        wrong = [origin for origin in self.cors_origins if "://" not in origin]
        need = "origins with a scheme, such as https://example.org"
        require(not wrong, "service.cors_origins", ",".join(self.cors_origins), need)
