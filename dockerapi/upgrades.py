"""The way to BuildKit's services, which are loaded at the first client who wants them.

Most engines never see such a client: they need neither HTTP/2 nor protobuf.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from core.settings import Settings
from dockerapi.access import Doors
from dockerapi.audit import Trail
from dockerapi.handover import Peer

if TYPE_CHECKING:
    from dockerapi.buildkit.door import Door


class Upgrades:
    """Connections that speak BuildKit's protocol from here on. Thread-safe."""

    def __init__(self, settings: Settings, doors: Doors, trail: Trail) -> None:
        self._settings = settings
        self._doors = doors
        self._trail = trail
        self._lock = threading.Lock()
        self._door: Door | None = None

    def require_room(self, peer: Peer) -> None:
        """Raise ApiError for who has no engine, or as many connections as one may have."""
        _, caller = self._doors.both(peer)
        self._opened().require_room(caller)

    def serve(self, sock: socket.socket, early: bytes, peer: Peer) -> None:
        """Serve a client's calls. Raises ApiError for who has no engine."""
        _, caller = self._doors.both(peer)

        def note(method: str, code: int, names: Sequence[str]) -> None:
            self._trail.note_call(peer, method, code, names, time.time_ns())

        self._opened().serve(sock, early, caller, lambda: self._doors.of(peer), note)

    def offer(self, sock: socket.socket, early: bytes, peer: Peer, headers: Mapping[str, Sequence[str]]) -> None:
        """Take a client's session. headers: of the request, by their names in small letters. Raises ApiError."""
        _, caller = self._doors.both(peer)
        self._opened().offer(sock, early, caller, headers)

    def _opened(self) -> Door:
        with self._lock:
            if self._door is None:
                from dockerapi.buildkit.door import Door

                self._door = Door(self._settings)
            return self._door
