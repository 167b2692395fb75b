"""Connections that stand still are closed: each holds one of the server's threads."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

_WITHOUT_BODY: Final = frozenset({"GET", "HEAD"})


class Impatient:
    """Closes connections that stand still: each holds one of the threads. The application's answer passes unchanged.

    Python waits for a body. The kernel watches what is sent, so that a blob is one sendfile(2) without a poll(2) for
    each window of it; TCP_USER_TIMEOUT also ends connections whose peer takes nothing.
    """

    def __init__(self, application: WSGIApplication, stalled_s: float) -> None:
        self._application = application
        self._stalled_s = stalled_s

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        peer = environ["gunicorn.socket"]
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(self._stalled_s * 1000))
        peer.settimeout(None if environ["REQUEST_METHOD"] in _WITHOUT_BODY else self._stalled_s)
        return self._application(environ, start_response)
