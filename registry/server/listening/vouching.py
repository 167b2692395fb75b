"""Vouching: an application that knows whose request it answers vouches for the connection that the request came by."""

from __future__ import annotations

import threading
from typing import Protocol

_request = threading.local()


class Vouched(Protocol):
    """What can be vouched for."""

    def vouch(self) -> None:
        """From here to the end of its request nobody cuts it to make room for another."""


def vouch() -> None:
    """The request that this thread answers is somebody's who may be here. Without a connection: nothing."""
    connection: Vouched | None = getattr(_request, "connection", None)
    if connection is not None:
        connection.vouch()


def answering(connection: Vouched | None) -> None:
    """From here on this thread answers a request of this connection; None: of none."""
    _request.connection = connection
