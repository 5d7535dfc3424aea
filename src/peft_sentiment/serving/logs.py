"""Logs: one JSON object a line, with counts and times, never with what was sent."""

import json
import logging
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

LOGGER = logging.getLogger("peft_sentiment.serving")


class JsonFormatter(logging.Formatter):
    """Makes one line of JSON of a record.

    Of an exception, its type and places in the code are told, not its message, which may quote what
    was sent.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, Any] = {
            "time": f"{moment}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **getattr(record, "facts", {}),
        }
        if record.exc_info and record.exc_info[0] is not None:
            line["error"] = record.exc_info[0].__name__
            line["places"] = _list_places(record.exc_info)
        return json.dumps(line, ensure_ascii=True)


@contextmanager
def logs_as_json() -> Iterator[None]:
    """Write our own records and uvicorn's to standard error, as JSON, in this block."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    loggers = (LOGGER, logging.getLogger("uvicorn"))
    before = [(logger.handlers, logger.propagate, logger.level) for logger in loggers]
    for logger, level in zip(loggers, (logging.INFO, logging.WARNING), strict=True):
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(level)
    try:
        yield
    finally:
        for logger, (handlers, propagates, level) in zip(loggers, before, strict=True):
            logger.handlers, logger.propagate = handlers, propagates
            logger.setLevel(level)


def log(event: str, level: int = logging.INFO, **facts: object) -> None:
    """Write one event with its facts."""
    LOGGER.log(level, event, extra={"facts": facts})


def log_fault(event: str, **facts: object) -> None:
    """Write an event with the exception that is being handled."""
    LOGGER.error(event, exc_info=True, extra={"facts": facts})


def _list_places(exc_info: Any) -> list[str]:  # noqa: ANN401 - logging's own type
    frames = traceback.extract_tb(exc_info[2])
    return [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames]
