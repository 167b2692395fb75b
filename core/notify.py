"""Telling the service manager that we are ready or end.  sd_notify(3)"""

from __future__ import annotations

import os
import socket
from collections.abc import MutableMapping
from typing import Final

_VARIABLE: Final = "NOTIFY_SOCKET"


class ServiceManager:
    """The service manager that started us, or nobody. Thread-safe."""

    def __init__(self, address: str) -> None:
        self._address = address

    @classmethod
    def from_environ(cls, environ: MutableMapping[str, str] | None = None) -> ServiceManager:
        """Take its address out of the environment: what this process starts is not to speak for it."""
        env = os.environ if environ is None else environ
        return cls(env.pop(_VARIABLE, ""))

    def ready(self) -> None:
        """Tell it that we serve from now on."""
        self._tell(b"READY=1")

    def ending(self) -> None:
        """Tell it that we were asked to end, and do what is left to do."""
        self._tell(b"STOPPING=1")

    def _tell(self, state: bytes) -> None:
        if not self._address.startswith(("/", "@")):
            return
        address = "\0" + self._address[1:] if self._address[0] == "@" else self._address
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as client:
            client.connect(address)
            client.send(state)
