"""What a request says: its version, its query, its body, read with their types checked."""

from __future__ import annotations

import json
import re
from typing import Any, Final

import flask

from core.platforms import Platform
from dockerapi.errors import bad, not_done
from dockerapi.versions import NEWEST, Version
from engine.engine import Engine

MOST_BODY_BYTES: Final = 16 << 20
"""Of a JSON document."""

_NUMBER: Final = re.compile(r"[+-]?\d{1,19}", re.ASCII)
_FALSE: Final = frozenset({"", "0", "no", "false", "none"})


def engine() -> Engine:
    """The caller's engine."""
    found: Engine = flask.g.engine
    return found


def version() -> Version:
    """The version that the request speaks."""
    found: Version = flask.request.environ.get("dockerapi.version", NEWEST)
    return found


def text(name: str) -> str:
    """A parameter of the query; "" when it is absent."""
    return flask.request.args.get(name, "")


def texts(name: str) -> list[str]:
    """A parameter that may come several times."""
    return flask.request.args.getlist(name)


def flag(name: str, *, absent: bool = False) -> bool:
    """A parameter that is true or not, as Go's servers read it: everything but 0, no, false, none and nothing is."""
    if name not in flask.request.args:
        return absent
    return text(name).strip().lower() not in _FALSE


def number(name: str, absent: int | None = None) -> int | None:
    """A whole number of the query, of 32 bits. Raises ApiError."""
    value = text(name)
    if not value:
        return absent
    if not _NUMBER.fullmatch(value):
        raise bad(f'strconv.Atoi: parsing "{value[:100]}": invalid syntax')
    found = int(value)
    if not -(1 << 31) <= found < 1 << 31:
        raise bad(f'strconv.Atoi: parsing "{value}": value out of range')
    return found


def filters() -> Any:
    """``filters``, decoded, for the engine to check. Raises ApiError."""
    value = text("filters")
    if not value:
        return None
    try:
        found = json.loads(value)
    except (ValueError, RecursionError) as error:
        raise bad(f"invalid filter: {error}") from error
    if not isinstance(found, dict):
        raise bad("invalid filter: expected an object")
    return found


def body(*, may_be_empty: bool = False) -> dict[str, Any]:
    """The JSON object in the body. Raises ApiError."""
    length = flask.request.content_length
    if length is not None and length > MOST_BODY_BYTES:
        raise bad("http: request body too large")
    data = flask.request.stream.read(MOST_BODY_BYTES + 1)
    if len(data) > MOST_BODY_BYTES:
        raise bad("http: request body too large")
    if not data.strip():
        if may_be_empty:
            return {}
        raise bad("invalid JSON: got EOF while reading request body")
    kind = flask.request.mimetype
    if kind != "application/json":
        raise bad(f"unsupported Content-Type header ({kind}): must be 'application/json'")
    try:
        found = json.loads(data)
        if b"\\u" in data:
            json.dumps(found, ensure_ascii=False).encode()  # raises for halves of characters, which nothing can keep
    except (ValueError, RecursionError) as error:
        raise bad(f"invalid JSON: {error}") from error
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise bad("invalid JSON: expected an object")
    return found


def member(document: dict[str, Any], name: str) -> Any:
    """A member of an object by its name in any case, as Go's decoder finds it."""
    if name in document:
        return document[name]
    return next((value for key, value in document.items() if key.lower() == name.lower()), None)


def platform() -> Platform | None:
    """``platform``: ``linux/arm64``, or an object of OCI's. Raises InvalidReferenceError's kin for nonsense."""
    value = text("platform")
    if not value:
        return None
    if len(set(texts("platform"))) > 1:
        raise not_done("several platforms at once are not done: name one, or none for all that are here")
    if value.startswith("{"):
        try:
            found = json.loads(value)
            parts = [found["os"], found["architecture"], found.get("variant")]
            value = "/".join(part for part in parts if part)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise bad(f"invalid platform: {text('platform')[:100]}") from error
    return Platform.parse(value)
