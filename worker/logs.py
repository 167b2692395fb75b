"""Structured logs: one JSON object a line on standard error, with the run's number.

A message that begins with ``run 7:`` is about that run; others are about the one that the process works on, if any.
"""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Iterator
from typing import Final

import msgspec

_RUN: Final = re.compile(r"^run (\d+):")


_working_on = 0


@contextlib.contextmanager
def working_on(run: int) -> Iterator[None]:
    """What this process logs meanwhile is about this run, whichever part of Shiplap says it."""
    global _working_on
    _working_on = run
    try:
        yield
    finally:
        _working_on = 0


class JsonFormatter(logging.Formatter):
    """time (seconds since the epoch), level, logger, message; run; exception."""

    def format(self, record: logging.LogRecord) -> str:
        message = record.getMessage()
        entry: dict[str, object] = {
            "time": round(record.created, 3),
            "level": record.levelname.lower(),
            "logger": record.name,
            "process": record.process,
            "message": message,
        }
        about = _RUN.match(message)
        number = int(about[1]) if about else _working_on
        if number:
            entry["run"] = number
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return msgspec.json.encode(entry).decode()


def configure_logging(level: int = logging.INFO) -> None:
    """For the whole process, and those that it forks."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for chatty in ("amqp", "celery", "kombu"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
