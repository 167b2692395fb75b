"""The solves under way, by caller and the client's name of each: who follows one, or asks within one, finds it here."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from core.errors import ShiplapError
from dockerapi.buildkit.progress import Progress
from dockerapi.buildkit.rpc import Code, RpcError

if TYPE_CHECKING:
    from engine.callers import Caller

_WAIT_S: Final = 5.0
_KEPT_S: Final = 5.0
"""How long the progress of a build that has ended is told to who comes late."""

_MOST_ASKED: Final = 64
_MOST_ASKED_BYTES: Final = 2 << 20
_MOST_RUNNING: Final = 16
"""Builds of one caller that run at once, and questions about Dockerfiles, which receive files, too."""


class Build:
    """A solve under way, in which its client may ask for more before it says what the result is.

    cancelled: set when the client is gone.
    progress: what happens in it.
    session: the ID of the client's session.
    asked: what was solved within it, by the reference that the client got.
    """

    def __init__(self, ref: str, session: str, cancelled: threading.Event) -> None:
        self.cancelled = cancelled
        self.session = session
        self.progress = Progress(ref)
        self.asked: dict[str, Any] = {}
        self._asked_bytes = 0
        self._lock = threading.Condition()
        self._returned: tuple[str, ShiplapError | None] | None = None

    def remember(self, plan: Any, size_bytes: int) -> str:
        """Keep what is to be solved. Its reference. size_bytes: of the request. Raises RpcError."""
        with self._lock:
            self._asked_bytes += size_bytes
            if len(self.asked) >= _MOST_ASKED or self._asked_bytes > _MOST_ASKED_BYTES:
                raise RpcError(
                    Code.RESOURCE_EXHAUSTED,
                    f"a build asks for more than {_MOST_ASKED} results, or for them in {_MOST_ASKED_BYTES} bytes",
                )
            ref = f"result-{len(self.asked)}"
            self.asked[ref] = plan
            return ref

    def give(self, ref: str, error: ShiplapError | None) -> None:
        """The client says what the result is: a reference, "" for none, or why there is none."""
        with self._lock:
            self._returned = ref, error
            self._lock.notify_all()

    def returned(self) -> str:
        """Wait for what the client gives. Raises the error that it says, and RpcError when it goes."""
        with self._lock:
            while self._returned is None:
                if self.cancelled.is_set():
                    raise RpcError(Code.CANCELLED, "the client is gone")
                self._lock.wait(0.5)
            ref, error = self._returned
        if error is not None:
            raise error
        return ref


class Builds:
    """The builds of all callers. Thread-safe."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._builds: dict[tuple[Caller, str], Build] = {}
        self._ended: dict[tuple[Caller, str], float] = {}
        self._running: Counter[Caller] = Counter()

    @contextlib.contextmanager
    def begun(self, caller: Caller, ref: str, session: str, cancelled: threading.Event) -> Iterator[Build]:
        """A new build, under way within the block. Raises RpcError for a name that is in use."""
        place = caller, ref
        if not ref:
            raise RpcError(Code.INVALID_ARGUMENT, "a solve needs a reference")
        with self._changed:
            self._forget()
            if place in self._builds and place not in self._ended:
                raise RpcError(Code.ALREADY_EXISTS, f"the build {ref[:100]} is under way")
            self._ended.pop(place, None)
            build = self._builds[place] = Build(ref, session, cancelled)
            self._changed.notify_all()
        try:
            yield build
        finally:
            build.progress.end()
            with self._changed:
                self._ended[place] = time.monotonic()

    @contextlib.contextmanager
    def turn(self, caller: Caller, cancelled: threading.Event) -> Iterator[None]:
        """Within, a build or a question of the caller's runs; others wait. The owner of this process has no bound."""
        with self._changed:
            while self._running[caller] >= _MOST_RUNNING and caller.uid != os.geteuid():
                if cancelled.is_set():
                    raise RpcError(Code.CANCELLED, "the client is gone")
                self._changed.wait(0.5)
            self._running[caller] += 1
        try:
            yield
        finally:
            with self._changed:
                self._running[caller] -= 1
                if not self._running[caller]:
                    del self._running[caller]
                self._changed.notify_all()

    def of(self, caller: Caller, ref: str, cancelled: threading.Event) -> Build:
        """A caller's build, which may be about to begin. Raises RpcError."""
        until = time.monotonic() + _WAIT_S
        with self._changed:
            while (found := self._builds.get((caller, ref))) is None:
                if cancelled.is_set() or time.monotonic() > until:
                    raise RpcError(Code.NOT_FOUND, f"no such build: {ref[:100]}")
                self._changed.wait(0.5)
            return found

    def _forget(self) -> None:
        late = time.monotonic() - _KEPT_S
        for place in [place for place, ended in self._ended.items() if ended < late]:
            del self._ended[place], self._builds[place]
