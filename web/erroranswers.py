"""From exceptions to answers: a status, a code for programs, a message and a hint for people."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Final

import msgspec
from flask import Flask, Response
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from core.errors import InvalidReferenceError, ShiplapError, StorageFullError
from pipelines import errors as pipelines
from web.errors import RequestError, UnauthenticatedError
from web.pages.frame import error_page, wants_page
from web.replies import ErrorDetail, ErrorReply

_log = logging.getLogger(__name__)

_STATUSES: Final[tuple[tuple[type[ShiplapError], int, str], ...]] = (
    (pipelines.NotFoundError, 404, "not_found"),
    (pipelines.InvalidRequestError, 422, "invalid_request"),
    (pipelines.DeniedError, 403, "forbidden"),
    (pipelines.ConflictError, 409, "conflict"),
    (pipelines.SignInError, 401, "unauthenticated"),
    (pipelines.LinkError, 410, "gone"),
    (pipelines.ThrottledError, 429, "too_many_requests"),
    (pipelines.SourceError, 422, "invalid_source"),
    (pipelines.SecretError, 422, "invalid_secret"),
    (pipelines.BackupError, 422, "no_backup"),
    (pipelines.SchemaError, 503, "unavailable"),
    (pipelines.DatabaseFullError, 507, "storage_full"),
    (pipelines.DatabaseUnreachableError, 503, "unavailable"),
    (pipelines.QueueUnreachableError, 503, "unavailable"),
    (InvalidReferenceError, 422, "invalid_reference"),
    (StorageFullError, 507, "storage_full"),
)


def add_error_handlers(app: Flask) -> None:
    """Make every answer of ``app`` with a status of 400 or more an ErrorReply, or a page where a person asks."""

    @app.errorhandler(ShiplapError)
    def ours(error: ShiplapError) -> Response:
        status, code = status_of(error)
        if status == HTTPStatus.INTERNAL_SERVER_ERROR:
            _log.exception("request failed")
            return _answer(status, code, "internal error; the server's log has more", None)
        response = _answer(status, code, error.message, error.hint)
        if isinstance(error, UnauthenticatedError):
            response.headers["WWW-Authenticate"] = 'Bearer realm="shiplap"'
        return response

    @app.errorhandler(HTTPException)
    def of_http(error: HTTPException) -> Response:
        status = error.code or HTTPStatus.INTERNAL_SERVER_ERROR
        if status == HTTPStatus.INTERNAL_SERVER_ERROR:  # an exception that nobody expected; Flask has logged it
            return _answer(status, "internal", "internal error; the server's log has more", None)
        response = _answer(status, error.name.lower().replace(" ", "_"), error.description or error.name, None)
        if isinstance(error, MethodNotAllowed) and error.valid_methods:
            response.headers["Allow"] = ", ".join(sorted(error.valid_methods))
        return response


def status_of(error: ShiplapError) -> tuple[int, str]:
    """The status and the code for an error."""
    if isinstance(error, RequestError):
        return error.status, error.code
    for kind, status, code in _STATUSES:
        if isinstance(error, kind):
            return status, code
    return HTTPStatus.INTERNAL_SERVER_ERROR, "internal"


def _answer(status: int, code: str, message: str, hint: str | None) -> Response:
    if wants_page():
        return error_page(status, message, hint)
    reply = ErrorReply(ErrorDetail(code, message, hint))
    return Response(msgspec.json.encode(reply), status, mimetype="application/json")
