"""The log as JSON, a line for each thing that happened: what collectors of logs can take apart."""

from __future__ import annotations

import json
import logging
import time
from typing import Any, Final

from flask import Flask, Response, g, request

_MEMBERS: Final = "shiplap"  # where a record keeps what is no text

_log = logging.getLogger("web.request")


class JsonFormatter(logging.Formatter):
    """time, level, logger, message; what the record brought along; and the traceback where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        members: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, _MEMBERS, {}),
        }
        if record.exc_info:
            members["traceback"] = self.formatException(record.exc_info)
        return json.dumps(members, ensure_ascii=False, separators=(",", ":"), default=str)


def configuration(level: str) -> dict[str, Any]:
    """For logging.config.dictConfig: everything to standard error as JSON."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"json": {"()": "web.requestlog.JsonFormatter"}},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "json"}},
        "root": {"level": level, "handlers": ["stderr"]},
        "loggers": {
            "gunicorn.error": {"level": level, "propagate": True},
            "alembic": {"level": "WARNING"},
        },
    }


def log_requests(app: Flask) -> None:
    """Log every request when its answer was sent: for a stream that is when it ends. Probes are left out."""

    @app.before_request
    def begin() -> None:
        g.began = time.monotonic()

    @app.after_request
    def end(response: Response) -> Response:
        if request.path in ("/healthz", "/readyz", "/metrics"):
            return response
        members: dict[str, Any] = {"method": request.method, "path": request.path, "status": response.status_code}
        run = (request.view_args or {}).get("run")
        if run is None and request.endpoint == "submit_run":
            run = response.headers.get("Location", "").rpartition("/")[2] or None
        if run is not None:
            members["run"] = int(run) if str(run).isdigit() else run
        if request.remote_addr:
            members["client"] = request.remote_addr
        began = g.get("began", time.monotonic())

        @response.call_on_close
        def closed() -> None:
            members["duration_ms"] = round((time.monotonic() - began) * 1000, 1)
            _log.info("%s %s %d", members["method"], members["path"], members["status"], extra={_MEMBERS: members})

        return response
