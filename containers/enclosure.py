"""A control group for the containers of several launchers, which bounds what they use together."""

from __future__ import annotations

import os
from types import TracebackType
from typing import Self

from containers.cgroups import Session
from containers.hierarchies import make_room, own_hierarchies


class Enclosure:
    """A context manager: the group exists from entry to exit, or until all processes that entered it have died.

    Its containers are at ``shiplap/NAME/<session>/<container>``. This process holds a lock on the directory, as
    launchers do on their sessions'. Whoever finds the lock free may remove the directory.

    name: what launchers are given; empty where this host cannot bound the group.
    """

    def __init__(self, memory_bytes: int, swap_bytes: int | None = None) -> None:
        self.name = ""
        self._memory_bytes = memory_bytes
        self._swap_bytes = swap_bytes
        self._session: Session | None = None

    def __enter__(self) -> Self:
        found = own_hierarchies()
        make_room(found)
        session = Session(f"all-{os.urandom(6).hex()}", found)
        try:
            bounded = session.bound(self._memory_bytes, self._swap_bytes)
        except BaseException:
            session.close()
            raise
        if bounded:
            self.name, self._session = session.name, session
        else:
            session.close()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            self._session.close()
