"""The narrow door: a socket of the engine's for a service's pages, which lets through what pages ask for.

The web process has no privileges, and must not get root's by what it shows. So it gets a socket of its own, at which
the engine of this process's owner answers, but only these requests: looking; a container's start, stop and removal; and
a command in one, with no more rights than the container has. None makes a container, or takes an image, a file or a
volume in.
"""

from __future__ import annotations

import pwd
import re
from pathlib import Path
from typing import Final, NamedTuple, Self

import flask

from dockerapi import asking
from dockerapi.errors import AddressError, ApiError

WEB_USER: Final = "shiplap"
"""The web service's, as sysusers.d makes it."""

_OPEN: Final = tuple(
    (method, re.compile(path, re.ASCII))
    for method, path in (
        ("GET", r"/(?:_ping|info|version|networks|volumes|containers/json)"),
        ("GET", r"/containers/[^/]+/(?:json|logs|stats|changes|archive)"),
        ("GET", r"/exec/[0-9a-f]{64}/json"),
        ("POST", r"/containers/[^/]+/(?:start|stop|restart|exec)"),
        ("POST", r"/exec/[0-9a-f]{64}/(?:start|resize)"),
        ("DELETE", r"/containers/[^/]+"),
    )
)


class Pages(NamedTuple):
    """For whose pages the door is. path: of the socket. uid: of the user who may connect."""

    path: Path
    uid: int

    @classmethod
    def of(cls, address: str, user: str) -> Self | None:
        """From the options; None: there is none. Raises AddressError."""
        if not address:
            return None
        scheme, separator, path = address.partition("://")
        if scheme != "unix" or not separator:
            raise AddressError(f"cannot listen for pages at {address!r}", hint="write unix:///PATH")
        try:
            return cls(Path(path), pwd.getpwnam(user).pw_uid)
        except (KeyError, ValueError) as error:
            raise AddressError(
                f"{user!r} is no user of this host", hint="--pages-user NAME: the web process's"
            ) from error


def check() -> None:
    """Raise ApiError unless the request that is served is one of those that pages send. It is known by now."""
    request = flask.request
    flask.g.is_narrow = True
    if not any(request.method == method and path.fullmatch(request.path) for method, path in _OPEN):
        raise _refused(f"no page asks {request.method} {request.path}")
    if request.method == "DELETE" and asking.flag("force"):
        raise _refused("a container is stopped before it is removed")


def check_command(*, privileged: bool) -> None:
    """Raise ApiError for a command that comes by this door and wants more rights than its container has."""
    if privileged and flask.g.get("is_narrow"):
        raise _refused("no command has more rights than its container")


def _refused(why: str) -> ApiError:
    return ApiError(403, f"this socket is for a service's pages: {why}")
