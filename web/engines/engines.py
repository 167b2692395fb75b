"""An engine as the pages see it: what is there, its logs, its figures; and what may be done with its containers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from core.errors import ShiplapError
from web.engines.client import EngineClient, Stream, reference
from web.engines.documents import (
    Change,
    Container,
    Facts,
    Network,
    Volume,
    changes_of,
    containers_of,
    facts_of,
    networks_of,
    volumes_of,
)
from web.engines.lines import ContainerLogs
from web.engines.samples import Samples

_LIST_S: Final = 1.0
"""So old a list may be: many people look at it, and ask every few seconds."""

_LATELY_S: Final = 15.0
_HASTE_S: Final = 1.0
_LIST_PATIENCE_S: Final = 20.0
_STOP_S: Final = 10
_PATIENCE_S: Final = 60.0


class ContainerEngine:
    """Thread-safe. path: of its socket. Every method raises EngineAwayError, and what the engine says against it."""

    def __init__(self, path: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.path = path
        self.client = EngineClient(path)
        self.logs = ContainerLogs(self.client)
        self.samples = Samples(self.client)
        self._clock = clock
        self._lock = threading.Lock()
        self._list: tuple[float, list[Container]] | None = None
        self._silent_until = 0.0
        self._host = ""

    def containers(self) -> Sequence[Container]:
        """All containers, those that need somebody first. At most a second old."""
        with self._lock:
            known = self._list
        if known is not None and self._clock() - known[0] < _LIST_S:
            return known[1]
        return self._listed(_LIST_PATIENCE_S)

    def _listed(self, patience_s: float) -> Sequence[Container]:
        asked_at = self._clock()
        found = containers_of(self.client.get("/containers/json", patience_s=patience_s, all="1"))
        with self._lock:
            self._list = (asked_at, found)
        return found

    def lately(self) -> Sequence[Container]:
        """The containers as they were a little while ago; raises nothing.

        An engine that is slow is waited for once in a while, and not by each of those who look.
        """
        with self._lock:
            known = self._list
        if known is not None and self._clock() - known[0] < _LATELY_S:
            return known[1]
        if self._clock() < self._silent_until:
            return ()
        try:
            return self._listed(_HASTE_S)
        except ShiplapError:
            self._silent_until = self._clock() + _LATELY_S
            return ()

    def host(self) -> str:
        """The name of the engine's host."""
        if not self._host:
            name = self.client.get("/info").get("Name")
            self._host = name[:200] if isinstance(name, str) else ""
        return self._host

    def facts(self, container: str) -> Facts:
        """One container. container: a name or an ID, as in all that follows."""
        return facts_of(self.document(container))

    def document(self, container: str) -> Any:
        """All that the engine says of one container."""
        return self.client.get(f"/containers/{reference(container)}/json")

    def changes(self, container: str) -> list[Change]:
        """What it changed in its image's files."""
        return changes_of(self.client.get(f"/containers/{reference(container)}/changes", patience_s=_PATIENCE_S))

    @contextmanager
    def tar(self, container: str, path: str) -> Iterator[Stream]:
        """A path of its files as a tar, while it is made."""
        with self.client.stream(f"/containers/{reference(container)}/archive", path=path) as stream:
            yield stream

    def networks(self) -> list[Network]:
        """All networks, with the containers in each."""
        return networks_of(self.client.get("/networks"), self.containers())

    def volumes(self) -> list[Volume]:
        """All volumes, with the containers that have each."""
        return volumes_of(self.client.get("/volumes"), self.containers())

    def start(self, container: str) -> None:
        """Start it; it may run already."""
        self._do(container, "start")

    def stop(self, container: str) -> None:
        """Stop it: its signal, and after ten seconds SIGKILL. It may have ended already."""
        self._do(container, "stop", t=str(_STOP_S))

    def restart(self, container: str) -> None:
        """Stop it, and start it."""
        self._do(container, "restart", t=str(_STOP_S))

    def remove(self, container: str) -> None:
        """Remove one that does not run, with its anonymous volumes."""
        self.client.delete(f"/containers/{reference(container)}", v="1")
        self._forget()

    def _do(self, container: str, action: str, **query: str) -> None:
        self.client.post(f"/containers/{reference(container)}/{action}", patience_s=_PATIENCE_S, **query)
        self._forget()

    def _forget(self) -> None:
        with self._lock:
            self._list = None
