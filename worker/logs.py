"""Structured logs: one JSON object a line on standard error, with the run's number where the message is about a run."""

from __future__ import annotations

import logging
import re
from typing import Final

import msgspec

_RUN: Final = re.compile(r"^run (\d+):")


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
        if about:
            entry["run"] = int(about[1])
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
