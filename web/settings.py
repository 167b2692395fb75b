"""Settings of the web process alone; the rest is shared by the whole service."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Final

from core.listening import parse_listen

DEFAULT_LISTEN: Final = "127.0.0.1:8080"
_ANY: Final = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "[::]": "[::1]"}  # noqa: S104 - compared, not bound


@dataclass(frozen=True, slots=True)
class WebSettings:
    """The settings of the web process.

    threads: each request takes one, a follower of a log for as long as it follows.
    """

    host: str
    port: int
    threads: int = 400

    @classmethod
    def parse(cls, listen: str) -> WebSettings:
        """Settings from HOST:PORT. Raises SettingsError."""
        return cls(*parse_listen(listen))

    @property
    def is_public(self) -> bool:
        """Whether other machines may connect."""
        host = self.host.strip("[]")
        return host != "localhost" and not (host and _is_loopback(host))

    @property
    def address(self) -> str:
        """The address as gunicorn takes it."""
        return f"{self.host or '0.0.0.0'}:{self.port}"  # noqa: S104 - what an empty host means

    def local_url(self, port: int) -> str:
        """The service's address for clients on this machine. port: the actual one, where 0 was asked for."""
        return f"http://{_ANY.get(self.host, self.host)}:{port}"


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
