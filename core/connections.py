"""What everything that talks HTTP needs: connections that can be ended, proxies, reasons for people."""

from __future__ import annotations

import contextlib
import weakref
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import socket

NOT_TLS: Final = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST", "UNKNOWN_PROTOCOL")
"""OpenSSL's words for a peer that does not speak TLS: the ``reason`` of an ssl.SSLError."""


class OpenSockets:
    """The sockets of connection pools, so that all can be ended while other threads wait for them."""

    def __init__(self) -> None:
        self._sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()

    def noting(self, kind: Any) -> Any:
        """A class of urllib3's pools (``kind``) whose connections are noted here."""
        sockets = self._sockets

        class Connection(kind.ConnectionCls):  # type: ignore[misc]  # what the class is, only urllib3 knows
            def connect(self) -> None:
                super().connect()
                sockets.add(self.sock)

        return type(kind.__name__, (kind,), {"ConnectionCls": Connection})

    def shut_down(self) -> None:
        """End them all; whoever waits for one gets an error."""
        import socket

        for connected in list(self._sockets):
            with contextlib.suppress(OSError):  # it has ended already
                connected.shutdown(socket.SHUT_RDWR)


def is_exempt(host: str, no_proxy: str) -> bool:
    """Whether a list as in ``no_proxy`` names a host, its domain or everything. host: in lower case."""
    for entry in (entry.strip().lower() for entry in no_proxy.split(",")):
        bare = entry.removeprefix("*").removeprefix(".")
        if entry == "*" or (bare and (host == bare or host.endswith(f".{bare}"))):
            return True
    return False


def reason(error: BaseException) -> str:
    """The innermost message that says what happened, without urllib3's object addresses."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.strerror:
            return seen.strerror
        seen = seen.__cause__ or seen.__context__
    return str(error).rpartition(": ")[2] or type(error).__name__
