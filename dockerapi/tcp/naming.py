"""Whom a certificate or a token names: a user of this host. And what the head of a request says."""

from __future__ import annotations

import hashlib
import json
import os
import pwd
import re
import threading
import time
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import urllib3

from core import namespaces, refusing
from core.certificates import any_host_context
from core.connections import reason
from dockerapi.errors import ApiError
from dockerapi.tcp.terms import Terms, users_of
from engine.callers import Caller
from engine.errors import InvalidRequestError

MOST_HEAD_BYTES: Final = 64 << 10
_REQUEST: Final = re.compile(rb"([A-Z]{1,20}) (/[!-~]*) HTTP/1\.([01])")
_FIELD: Final = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\r\n\0]*)")
_PREFIX: Final = b"/engine"
_GOOD_S: Final = 15.0
"""So long a service's word about a token holds: what it takes until a revoked one opens nothing."""

_SCOPES: Final = ("build", "admin")
"""One of these a token has, as it would need to have things run by the service."""

_ASK_S: Final = 10.0
_MOST_KNOWN: Final = 1000
_MOST_ANSWER: Final = 64 << 10


class Named(NamedTuple):
    """Who connects. caller: whose rights the connection to the API has; None: this process's own."""

    name: str
    caller: Caller | None


def of_host(name: str) -> Named:
    """The user of this host with that name. Raises ApiError for who has no engine here."""
    try:
        uid = pwd.getpwnam(name).pw_uid
    except (KeyError, ValueError) as error:
        raise ApiError(403, f"{name!r} is no user of the engine's host") from error
    if os.geteuid() == 0 and namespaces.is_initial():
        if uid == 0:
            return Named(name, None)
        try:
            return Named(name, Caller.of(uid))
        except InvalidRequestError as error:
            raise ApiError(403, error.message) from error
    if uid != _own_uid():
        raise ApiError(403, f"this engine is of {pwd.getpwuid(_own_uid()).pw_name} alone, and not of {name}")
    return Named(name, None)


def _own_uid() -> int:
    """Whose process this is, as the host has them: within a user namespace, root is somebody else outside."""
    uid = os.geteuid()
    for inside, outside, count in namespaces.id_map():
        if inside <= uid < inside + count:
            return outside + uid - inside
    return uid


def of_certificate(shown: Mapping[str, Any] | None) -> str:
    """The name in a certificate that was found good, of ``ssl.SSLObject.getpeercert``; "" without one."""
    for parts in (shown or {}).get("subject", ()):
        for kind, value in parts:
            if kind == "commonName":
                return str(value)
    return ""


class Tokens:
    """Knows from a service whose a token is."""

    def __init__(self, terms: Terms) -> None:
        self._url = terms.tokens.rstrip("/") + "/api/v1/whoami"
        self._file = terms.users
        self._http = urllib3.PoolManager(ssl_context=any_host_context(), maxsize=4)
        self._lock = threading.Lock()
        self._known: dict[bytes, tuple[float, str]] = {}

    def host_user(self, user: str) -> str:
        """The user of this host whom the file of users names for a user of the service. Raises ApiError, TermsError."""
        found = users_of(self._file).get(user)
        if found is None:
            raise ApiError(403, f"the service's user {user} is no user of the engine's host (see --token-users there)")
        return found

    def owner_of(self, token: str) -> str:
        """The service's user whose token this is. Raises ApiError. Thread-safe; it may take seconds."""
        key, now = hashlib.sha256(token.encode()).digest(), time.monotonic()
        with self._lock:
            good_until, user = self._known.get(key, (0.0, ""))
        if now < good_until:
            return user
        user = self._whoami(token)
        with self._lock:
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            self._known[key] = (now + _GOOD_S, user)
        return user

    def _whoami(self, token: str) -> str:
        try:
            answer = self._http.request(
                "GET", self._url, headers={"Authorization": f"Bearer {token}"}, timeout=_ASK_S, retries=False,
                redirect=False, preload_content=False,
            )  # fmt: skip
            try:
                data = answer.read(_MOST_ANSWER)
            finally:
                answer.release_conn()
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise ApiError(503, f"the service that knows the tokens does not answer: {reason(error)}") from error
        if answer.status in (401, 403):
            raise ApiError(401, "the token is not known, has expired, or was revoked")
        if answer.status != 200:
            raise ApiError(503, f"the service that knows the tokens answers with status {answer.status}")
        try:
            told = json.loads(data)
            user, scopes = told["user"], list(told["scopes"])
        except (ValueError, TypeError, KeyError) as error:
            raise ApiError(503, "the service that knows the tokens does not answer as one") from error
        if not isinstance(user, str) or not user:
            raise ApiError(403, "the token is a robot's, and an engine is a user's")
        if not any(scope in scopes for scope in _SCOPES):
            raise ApiError(403, "the token is only to read with, and an engine needs one of the scope build")
        return user


class Head(NamedTuple):
    """A request's head. token: of its Authorization; "" without one. passed: what the API gets of it."""

    token: str
    passed: bytes


def read_head(data: bytes) -> Head:
    """Of a head without the empty line. Raises ApiError.

    The token is taken out. The connection serves this one request: what a proxy before us joins into one connection may
    be two people's. ``/engine`` in front of the path is taken off, as a proxy would put it there.
    """
    first, *lines = data.split(b"\r\n")
    request = _REQUEST.fullmatch(first)
    if request is None:
        raise ApiError(400, "this is no request of HTTP/1.1")
    method, path, minor = request.groups()
    if path == _PREFIX or path.startswith(_PREFIX + b"/"):
        path = path[len(_PREFIX) :] or b"/"
    token, kept = "", []
    for line in lines:
        field = _FIELD.fullmatch(line)
        if field is None:
            raise ApiError(400, "a header of the request makes no sense")
        name, value = field[1].lower(), field[2].strip()
        if name == b"authorization":
            scheme, _, rest = value.partition(b" ")
            if token or scheme.lower() != b"bearer":
                raise ApiError(401, "send one header: Authorization: Bearer TOKEN")
            token = rest.strip().decode("latin-1")
            if not token.isascii() or not token.isprintable():
                raise ApiError(401, "the token is none")
        elif name not in (b"connection", b"keep-alive", b"proxy-connection"):
            kept.append(line)
    # Also beside an upgrade: what does not go over to another protocol would else wait for a second request.
    kept.append(b"Connection: close")
    return Head(token, b"\r\n".join([b"%b %b HTTP/1.%b" % (method, path, minor), *kept]) + b"\r\n\r\n")


def refusal(error: ApiError) -> bytes:
    """The whole answer that tells of an error."""
    fields = ('WWW-Authenticate: Bearer realm="shiplap"',) if error.status == 401 else ()
    return refusing.refusal(error.status, error.message, *fields)
