"""What every request passes before it is read and after it is answered.

`Observer` gives it an identity and a time, and tells log and metrics how it ended; `Guard` lets in
those with a key and bodies of a bearable size. Nothing here knows what is asked for.
"""

import asyncio
import logging
import time
import uuid
from collections.abc import Mapping
from http import HTTPMethod
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from peft_sentiment.serving.logs import log, log_fault
from peft_sentiment.serving.refusals import Refusal, refuse_by_fault, refuse_for_now
from peft_sentiment.serving.service import Facts, Service

OPEN_PATHS = frozenset({"/healthz", "/readyz", "/openapi.json"})
"""What is answered without a key, and however much is under way."""

KNOWN_PATHS = frozenset({*OPEN_PATHS, "/metrics", "/v1/predict", "/v1/adapters"})
"""Routes without a part that changes."""

FACTS, REQUEST_ID = "peft_sentiment.facts", "peft_sentiment.request_id"
"""Where in a scope the facts for the log are, and the identity."""

DISCARDED_BODIES = 4
"""A body that is refused is read to its end, so that its sender gets the answer; up to so many
times the size that is allowed."""


class Answer:
    """Sends an answer, and knows how far it got.

    Attributes:
        status: of the answer; None before it has begun.
    """

    def __init__(self, send: Send, headers: Mapping[str, str]) -> None:
        self._send, self._headers = send, headers
        self.status: int | None = None

    async def __call__(self, message: Message) -> None:
        """Send a part of it, with the headers that every answer has."""
        if message["type"] == "http.response.start":
            self.status = int(message["status"])
            headers = MutableHeaders(scope=message)
            for name, value in self._headers.items():
                headers[name] = value
        await self._send(message)


async def send_refusal(refusal: Refusal, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the one form of all errors."""
    await build_refusal_response(refusal, scope)(scope, receive, send)


def build_refusal_response(refusal: Refusal, scope: Scope) -> JSONResponse:
    """Return the answer of a refusal, and note its code for the log."""
    scope[FACTS]["code"] = refusal.code
    body = refusal.as_body(scope[REQUEST_ID])
    return JSONResponse(body, status_code=refusal.status, headers=refusal.headers)


class Layer:
    """A layer around the service, which answers HTTP requests and lets anything else through."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app, self._service = app, service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass on what is none."""
        if scope["type"] == "http":
            await self.answer(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        raise NotImplementedError


class Observer(Layer):
    """Bounds the time of each request, and tells log and metrics how it ended."""

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        facts: Facts = {}
        request_id = uuid.uuid4().hex
        scope[FACTS], scope[REQUEST_ID] = facts, request_id
        answer, start = Answer(send, {"X-Request-ID": request_id}), time.perf_counter()
        self._service.metrics.requests_under_way.inc()
        try:
            await self._answer_in_time(scope, receive, answer)
        finally:
            self._service.metrics.requests_under_way.dec()
            self._record(scope, answer.status, time.perf_counter() - start)

    async def _answer_in_time(self, scope: Scope, receive: Receive, answer: Answer) -> None:
        limit = self._service.limit_time()
        try:
            async with limit:
                await self._app(scope, receive, answer)
            return
        except TimeoutError:
            refusal = self._refuse_late()
        except Refusal as raised:
            refusal = raised
        except Exception:
            log_fault("fault", request_id=scope[REQUEST_ID], route=find_route(scope))
            refusal = refuse_by_fault()
        finally:
            self._service.forget_limit(limit)
        if answer.status is None:
            await send_refusal(refusal, scope, receive, answer)

    def _refuse_late(self) -> Refusal:
        if self._service.is_draining:
            return refuse_for_now("draining", "The service stops. Try another one, or later.", 1)
        seconds = self._service.settings.request_seconds
        return Refusal(504, "too_late", f"No answer within {seconds:g} seconds. Ask for less.")

    def _record(self, scope: Scope, status: int | None, seconds: float) -> None:
        metrics, route = self._service.metrics, find_route(scope)
        told = str(status or "none")
        # Any word may stand in a request; one that is no method of HTTP is not kept.
        is_known = route != "unknown" and scope["method"] in HTTPMethod.__members__
        method = scope["method"] if is_known else "any"
        metrics.requests.labels(method, route, told).inc()
        metrics.seconds.labels(route).observe(seconds)
        facts = scope[FACTS]
        if "code" in facts:
            metrics.refusals.labels(facts["code"]).inc()
        is_quiet = route in OPEN_PATHS or route == "/metrics"
        log(
            "request",
            logging.DEBUG if is_quiet else logging.INFO,
            request_id=scope[REQUEST_ID],
            method=method,
            route=route,
            status=status,
            seconds=round(seconds, 4),
            **facts,
        )


class Guard(Layer):
    """Lets in requests that have a key, and whose body is neither too large nor too slow."""

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Read a request's body and pass it on, or refuse it."""
        headers = Headers(scope=scope)
        try:
            refusal = self._judge(scope["path"], headers)
            body = await self._read_in_time(receive, headers, refusal)
        except Refusal as refused:
            refused.headers["Connection"] = "close"  # what is left of the body is not read
            await send_refusal(refused, scope, receive, send)
            return
        await self._app(scope, _replay(body, receive), send)

    def _judge(self, path: str, headers: Headers) -> Refusal | None:
        """Return what speaks against a request before its body is read."""
        service, settings = self._service, self._service.settings
        if path in OPEN_PATHS:
            return None
        if not service.keys.let_in(headers.get("authorization")):
            message = "A key is needed, as in: Authorization: Bearer KEY."
            return Refusal(401, "key_needed", message, {"WWW-Authenticate": "Bearer"})
        if service.under_way > settings.max_requests:
            message = f"{settings.max_requests} requests are under way, as many as may. Try later."
            return refuse_for_now("too_many_requests", message, 1)
        length = headers.get("content-length", "0")
        if length.isdecimal() and int(length) > settings.max_body_bytes:
            return self._refuse_large()
        return None

    def _refuse_large(self) -> Refusal:
        most = self._service.settings.max_body_bytes
        return Refusal(413, "body_too_large", f"The body is larger than {most:,} bytes.")

    async def _read_in_time(
        self, receive: Receive, headers: Headers, refusal: Refusal | None
    ) -> bytes:
        """Return the body; of a refused request it is read to its end, and not kept.

        Raises:
            Refusal: the one given, or the body is too large or too slow.
        """
        if refusal is not None and "expect" in headers:
            raise refusal  # its sender waits to be told whether to send it
        seconds = self._service.settings.body_seconds
        try:
            async with asyncio.timeout(seconds):
                return await self._read(receive, refusal)
        except TimeoutError:
            message = f"The body did not arrive within {seconds:g} seconds."
            raise refusal or Refusal(408, "body_too_slow", message) from None

    async def _read(self, receive: Receive, refusal: Refusal | None) -> bytes:
        most = self._service.settings.max_body_bytes
        parts: list[bytes] = []
        size, has_more = 0, True
        while has_more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise refusal or Refusal(400, "body_cut_off", "The connection ended in the body.")
            part = message.get("body", b"")
            size, has_more = size + len(part), message.get("more_body", False)
            if size > most:
                refusal = refusal or self._refuse_large()
                parts.clear()
            if refusal is None:
                parts.append(part)
            elif size > DISCARDED_BODIES * most:
                break
        if refusal is not None:
            raise refusal
        return b"".join(parts)


def _replay(body: bytes, receive: Receive) -> Receive:
    """Return what gives a body that has been read already, and then what comes after it."""
    parts: list[dict[str, Any]] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive_again() -> Message:
        return parts.pop() if parts else await receive()

    return receive_again


def find_route(scope: Scope) -> str:
    """Return the route of a request, such as /v1/adapters/{name}; never what stood in its place."""
    path = getattr(scope.get("route"), "path", None)
    if path is None and scope["path"] in KNOWN_PATHS:  # refused before it was routed
        return str(scope["path"])
    return str(path) if path else "unknown"
