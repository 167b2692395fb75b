"""What clients get: JSON as Go writes it, nothing, or pieces as they come."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import flask

from dockerapi import asking
from dockerapi.versions import shown

JSON = "application/json"


def encoded(document: Any) -> bytes:
    """A line of JSON. What is no UTF-8 becomes question marks: JSON has no bytes."""
    text = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "replace") + b"\n"


def document(found: Any, status: int = 200, *, kind: str = "") -> flask.Response:
    """A document. kind: as ``versions.MEMBERS`` has it, where versions differ."""
    if kind:
        found = shown(kind, found, asking.version())
    return flask.Response(encoded(found), status, content_type=JSON)


def nothing(status: int = 204) -> flask.Response:
    """No body."""
    response = flask.Response(status=status)
    response.headers.pop("Content-Type", None)
    return response


def failure(status: int, message: str) -> flask.Response:
    """An error, as docker tells it."""
    if status == 304:
        return nothing(304)
    return document({"message": message}, status)


def pieces(found: Iterator[bytes], content_type: str = JSON) -> flask.Response:
    """A body that comes as it is made."""
    return flask.Response(found, 200, content_type=content_type, direct_passthrough=True)
