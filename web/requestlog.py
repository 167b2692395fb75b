"""A line in the process's log for each request."""

from __future__ import annotations

import logging
import time
from typing import Any

from flask import Flask, Response, g, request

from pipelines.jsonlogs import MEMBERS

_log = logging.getLogger("web.request")


def log_requests(app: Flask) -> None:
    """Log every request after its answer was sent, which for a stream is at its end. Leaves probes out."""

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
            _log.info("%s %s %d", members["method"], members["path"], members["status"], extra={MEMBERS: members})

        return response
