"""HTTP/1.1 as the service speaks it: whoever sends none, or too slowly, is told so."""

import asyncio
import json

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from peft_sentiment.serving.refusals import Refusal


class Protocol(H11Protocol):
    """A connection that is refused in the one form of all errors before there is a request.

    Attributes:
        header_seconds: in which a header that has begun must end.
    """

    header_seconds: float
    _limit: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request, as between two of them."""
        super().connection_made(transport)
        self.timeout_keep_alive_task = self.loop.call_later(
            self.timeout_keep_alive, self.timeout_keep_alive_handler
        )

    def data_received(self, data: bytes) -> None:
        """Read on, and limit the time of a header that has not ended."""
        super().data_received(data)
        self._limit_header()

    def on_response_complete(self) -> None:
        """Go on with the next request, of which a part may have come during this one."""
        super().on_response_complete()
        if self.conn.trailing_data[0]:
            self._limit_header()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing any more."""
        self._forget_limit()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP, and hang up."""
        self._refuse(Refusal(400, "malformed_http", msg), b"Bad Request")

    def _limit_header(self) -> None:
        if self.conn.their_state is not h11.IDLE:
            self._forget_limit()
        elif self._limit is None:
            self._limit = self.loop.call_later(self.header_seconds, self._refuse_slow)

    def _refuse_slow(self) -> None:
        message = f"The header did not arrive within {self.header_seconds:g} seconds."
        self._refuse(Refusal(408, "header_too_slow", message), b"Request Timeout")

    def _refuse(self, refusal: Refusal, reason: bytes) -> None:
        body = json.dumps(refusal.as_body("")).encode()
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        for event in (
            h11.Response(status_code=refusal.status, headers=headers, reason=reason),
            h11.Data(data=body),
            h11.EndOfMessage(),
        ):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def _forget_limit(self) -> None:
        if self._limit is not None:
            self._limit.cancel()
            self._limit = None


def build_protocol(seconds: float) -> type[H11Protocol]:
    """Return the protocol of connections on which a header must arrive within so many seconds."""
    return type("TimedProtocol", (Protocol,), {"header_seconds": seconds})
