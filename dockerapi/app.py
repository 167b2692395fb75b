"""The Flask application: the version in front of a path, the caller's engine, errors in docker's words."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

import flask
from werkzeug.exceptions import HTTPException

from core.errors import ShiplapError
from core.settings import Settings
from dockerapi import endpoints, handover
from dockerapi.access import Doors
from dockerapi.answering import failure
from dockerapi.audit import Trail
from dockerapi.browsers import refuse_other_sites
from dockerapi.errors import ApiError, message_of, status_of
from dockerapi.narrow import check
from dockerapi.pump import Pump
from dockerapi.upgrades import Upgrades
from dockerapi.versions import NEWEST, Version, checked

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_VERSIONED: Final = re.compile(r"/v(\d[\d.]*)(?=/)", re.ASCII)
_log: Final = logging.getLogger(__name__)


def create_app(settings: Settings, doors: Doors, narrow: str = "") -> flask.Flask:
    """The API over the engines of a root, which ``doors`` opens for who asks. narrow: as ``Listeners`` has it."""
    app = flask.Flask("dockerapi", static_folder=None)
    app.url_map.strict_slashes = False
    app.url_map.merge_slashes = False
    app.extensions["settings"] = settings
    app.extensions["pump"] = Pump()
    trail = Trail(settings.root)
    app.extensions["upgrades"] = Upgrades(settings, doors, trail)

    @app.before_request
    def _enter() -> None:
        refuse_other_sites()
        text = flask.request.environ.get("dockerapi.asked")
        if text is not None:
            flask.request.environ["dockerapi.version"] = checked(Version.parse(text))
        if narrow and handover.entrance() == narrow:
            check()
            flask.g.engine = doors.own()
        else:
            flask.g.engine = doors.of(handover.peer())

    @app.after_request
    def _sign(response: flask.Response) -> flask.Response:
        trail.note(response.status_code, time.time_ns())
        response.headers["Api-Version"] = str(NEWEST)
        response.headers["Docker-Experimental"] = "false"
        response.headers["Ostype"] = "linux"
        return response

    @app.errorhandler(ShiplapError)
    def _failed(error: ShiplapError) -> flask.Response:
        status = status_of(error)
        if status >= 500 and not isinstance(error, ApiError):
            _log.warning("%s %s: %s", flask.request.method, flask.request.path, error.message)
        return failure(status, message_of(error))

    @app.errorhandler(HTTPException)
    def _refused(error: HTTPException) -> flask.Response:
        if error.code in (404, 405):
            return failure(404, "page not found")
        return failure(error.code or 500, error.description or error.name)

    @app.errorhandler(ConnectionError)
    def _left(error: ConnectionError) -> flask.Response:
        """A client that takes no answer, in the midst of what was handed over: it is no fault of anybody's."""
        _log.info("%s %s: the client went away: %s", flask.request.method, flask.request.path, error)
        return failure(500, "the client went away")

    @app.errorhandler(Exception)
    def _broken(error: Exception) -> flask.Response:
        """The outermost layer: a fault of ours ends one request, and is written down."""
        _log.error("%s %s failed", flask.request.method, flask.request.path, exc_info=error)
        return failure(500, f"the engine's API failed: {type(error).__name__}: {error}")

    endpoints.install(app)
    return app


def versioned(app: WSGIApplication) -> WSGIApplication:
    """Take the version off a path: ``/v1.45/info`` is ``/info``."""

    def call(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path: Any = environ.get("PATH_INFO", "")
        if match := _VERSIONED.match(path):
            environ["dockerapi.asked"] = match[1]
            environ["PATH_INFO"] = path[match.end() :]
        return app(environ, start_response)

    return call
