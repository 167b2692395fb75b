"""The frame of all pages: whole pages, parts of them, and pages for errors."""

from __future__ import annotations

import hashlib
from http import HTTPStatus
from typing import Any, Final

import msgspec
from flask import Response, render_template, request

from core.errors import ShiplapError
from web.guard import csrf_token

_DIGITS: Final = 15
_API: Final = ("/api/v1", "/v2/", "/metrics", "/healthz", "/readyz", "/hooks/", "/o/")

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self';"
    " connect-src 'self';"
    " form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)


def page(template: str, **shown: Any) -> Response:
    """A whole page. Browsers must not keep it: its content belongs to whoever is signed in."""
    return Response(render_template(template, **shown), mimetype="text/html")


def fresh(template: str, basis: Any, **shown: Any) -> Response:
    """A part of a page for htmx to poll, rendered only when the client does not have ``basis``, which it shows.

    basis: made of structs, strings and numbers.

    The template gets ``etag``, too.
    """
    etag = hashlib.sha256(msgspec.json.encode((template, basis, csrf_token()), enc_hook=str)).hexdigest()[:20]
    response = Response(mimetype="text/html")
    response.set_etag(etag)
    response.headers["Cache-Control"] = "private, no-cache"
    response.headers["Vary"] = "HX-Request, Cookie"
    if request.if_none_match.contains(etag):
        response.status_code = HTTPStatus.NOT_MODIFIED
    else:
        response.set_data(render_template(template, etag=etag, **shown))
    return response


def number_argument(name: str) -> int | None:
    """A number in the query; None when there is none or it makes no sense."""
    text = request.args.get(name, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _DIGITS else None


def told(error: ShiplapError) -> str:
    """The error and what to do about it, in one line of a form."""
    return f"{error.message}: {error.hint}" if error.hint else error.message


def wants_page() -> bool:
    """Whether to answer an error with a page rather than with JSON."""
    return not request.path.startswith(_API)


def error_page(status: int, message: str, hint: str | None) -> Response:
    """A page that describes an error; a fragment where one was asked for."""
    try:
        title = HTTPStatus(status).phrase
    except ValueError:
        title = "Error"
    text = render_template("error.html", status=status, title=title, message=message, hint=hint)
    response = Response(text, status, mimetype="text/html")
    response.headers["Content-Security-Policy"] = POLICY
    return response
