"""Requests that are not answered as asked, and the one form in which that is said."""

from collections.abc import Mapping
from typing import Any


class Refusal(Exception):  # noqa: N818 - nothing went wrong here; the request is declined
    """An answer other than the one asked for.

    Attributes:
        status: of HTTP.
        code: a short name that programs can tell refusals apart by.
        message: where, what was found, what is needed; without any review's text.
        headers: of the answer, besides.
    """

    def __init__(
        self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message
        self.headers = dict(headers or {})

    def as_body(self, request_id: str) -> dict[str, Any]:
        """Return the body that every error has."""
        error = {"code": self.code, "message": self.message, "request_id": request_id}
        return {"error": error}


def refuse_for_now(code: str, message: str, seconds: int) -> Refusal:
    """Return a 503 that says when to come back."""
    return Refusal(503, code, message, {"Retry-After": str(seconds)})


def refuse_by_fault() -> Refusal:
    """Return the 500 of a fault of our own."""
    return Refusal(500, "fault", "Something went wrong here. The log says where, by request_id.")
