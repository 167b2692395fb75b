"""Logging on standard error: a JSON object a line, which collectors of logs can take apart.

At a terminal a person reads instead of a collector: a person gets plain lines, and no line for each request.

A message that begins with ``run 7:`` is about that run. Any other is about the run that the process works on, if any.
"""

from __future__ import annotations

import contextlib
import json
import logging
import re
import sys
import time
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final

MEMBERS: Final = "shiplap"
"""The attribute of a record for members beside its text: ``logger.info(…, extra={MEMBERS: {…}})``."""

_OF_REQUESTS: Final = ("gunicorn.error", "gunicorn.access", "web.request", "registry.server")
_RUN: Final = re.compile(r"^run (\d+):")
_working_on = 0


@contextlib.contextmanager
def working_on(run: int) -> Iterator[None]:
    """Until the end of the block, all that this process logs is about this run, whichever part of Shiplap logs it."""
    global _working_on
    _working_on = run
    try:
        yield
    finally:
        _working_on = 0


class JsonFormatter(logging.Formatter):
    """time (UTC), level, logger, process, message; run; the record's own members; traceback where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        message = record.getMessage()
        members: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "process": record.process,
            "message": message,
        }
        about = _RUN.match(message)
        if number := int(about[1]) if about else _working_on:
            members["run"] = number
        members.update(getattr(record, MEMBERS, {}))
        if record.exc_info:
            members["traceback"] = self.formatException(record.exc_info)
        return json.dumps(members, ensure_ascii=False, separators=(",", ":"), default=str)


class PlainFormatter(logging.Formatter):
    """For people: the local time of day, the level if it is bad news, the message; traceback where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        level = f"{record.levelname.lower()}: " if record.levelno >= logging.WARNING else ""
        trace = f"\n{self.formatException(record.exc_info)}" if record.exc_info else ""
        return f"{time.strftime('%H:%M:%S', time.localtime(record.created))} {level}{record.getMessage()}{trace}"


def configuration(
    loggers: Mapping[str, Mapping[str, object]] = MappingProxyType({}), *, at_terminal: bool | None = None
) -> dict[str, Any]:
    """For logging.config.dictConfig: everything goes to standard error, except the chatter of libraries.

    loggers: more loggers to set up.
    at_terminal: whether a person reads; None: whether standard error is a terminal.
    """
    person = sys.stderr.isatty() if at_terminal is None else at_terminal
    levels = {name: {"level": "WARNING"} for name in ("alembic", "amqp", "celery", "kombu")}
    chat = {name: {**loggers.get(name, {}), "level": "WARNING"} for name in _OF_REQUESTS} if person else {}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"chosen": {"()": PlainFormatter if person else JsonFormatter}},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "chosen"}},
        "root": {"level": "INFO", "handlers": ["stderr"]},
        "loggers": {**levels, **loggers, **chat},
    }
