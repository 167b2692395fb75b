"""An engine for each caller: who may have one, by the peer of their socket.

The owner of this process has the engine of ROOT. Where that is the host's root, members of the group ``shiplap`` have
each their own in ROOT/users/UID, with root's means. Nobody else has any. Membership is looked up with each request, so
that who has left the group is out at once.
"""

from __future__ import annotations

import os
import threading
from typing import Final

from core import namespaces
from core.owners import user_name
from core.settings import Settings
from dockerapi.errors import ApiError
from dockerapi.handover import Peer
from engine.callers import Caller, places_of
from engine.engine import Engine
from engine.errors import InvalidRequestError, NotDoneError

_MOST_OPEN: Final = 64
"""Engines: one more closes the one that was not used for longest."""


class Doors:
    """The engines of all callers. Thread-safe."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._engines: dict[Caller, Engine] = {}

    def of(self, peer: Peer) -> Engine:
        """The peer's engine. Raises ApiError for who has none."""
        return self.both(peer)[0]

    def own(self) -> Engine:
        """The engine of this process's owner, for who was let in otherwise than by who they are."""
        return self._of(Caller.own())

    def both(self, peer: Peer) -> tuple[Engine, Caller]:
        """The peer's engine, and whom it works for. Raises ApiError for who has none."""
        caller = self._caller(peer)
        return self._of(caller), caller

    def _of(self, caller: Caller) -> Engine:
        with self._lock:
            engine = self._engines.pop(caller, None)
            if engine is None:
                engine = self._opened(caller)
                if len(self._engines) >= _MOST_OPEN:
                    self._engines.pop(next(iter(self._engines)))  # its connections close with the last request of it
            self._engines[caller] = engine  # the newest is the last
        return engine

    def _caller(self, peer: Peer) -> Caller:
        if peer.uid == os.geteuid():
            return Caller.own()
        if os.geteuid() != 0 or not namespaces.is_initial():
            raise ApiError(403, f"this engine is of {user_name(os.getuid())} alone")
        try:
            caller = Caller.of(peer.uid)
            places_of(self._settings.root, caller)  # raises for who is no member
        except (InvalidRequestError, NotDoneError) as error:
            raise ApiError(403, f"{error.message} ({error.hint})" if error.hint else error.message) from error
        return caller

    def _opened(self, caller: Caller) -> Engine:
        if caller == Caller.own():
            return Engine.open(self._settings)
        return Engine.open_for(self._settings, caller)


class JobDoors(Doors):
    """The one engine of a job: who reaches its socket is the job, whichever of its users that is."""

    def __init__(self, settings: Settings, job: Caller) -> None:
        super().__init__(settings)
        self._job = job

    def _caller(self, peer: Peer) -> Caller:
        del peer
        return self._job

    def _opened(self, caller: Caller) -> Engine:
        return Engine.open_for_job(self._settings, caller)
