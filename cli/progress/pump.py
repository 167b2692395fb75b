"""The pump from the build's threads to a display. An event costs its sender an append: no write to terminal or pipe."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar

from core.closing import Closing

_Shown = TypeVar("_Shown")
_Shown_contra = TypeVar("_Shown_contra", contravariant=True)

_MAX_BACKLOG = 1024  # events (of at most 64 KiB in practice); beyond that the build waits for whoever reads its log
_BACKLOG_POLL_S = 0.005


class Display(Protocol[_Shown_contra]):
    """Turns events into text. All calls come from one thread. An OSError means that nobody reads any more."""

    interval_s: float  # the least time between two refreshes

    def handle(self, event: _Shown_contra) -> None: ...

    def refresh(self) -> None:
        """Write what is due. Called after events were handled, and while none arrive."""

    def close(self) -> None:
        """Write the rest; the last call."""


class Pump(Closing, Generic[_Shown]):
    """Feeds a display from a thread of its own; of a build's events, it is a core.events.Monitor.

    Use as a context manager, or call ``close``. When the display fails because its reader has gone (EPIPE, a closed
    terminal), later events are dropped: the build goes on.
    """

    def __init__(self, display: Display[_Shown]) -> None:
        self._display = display
        self._events: deque[_Shown] = deque()
        self._awake = threading.Event()  # something was appended, or the end
        self._hurry = threading.Event()  # do not sit out the interval
        self._closing = False
        self._showing = threading.Lock()  # who calls the display
        self._thread = threading.Thread(target=self._run, name="progress", daemon=True)
        self._thread.start()

    def emit(self, event: _Shown) -> None:
        self._events.append(event)
        if not self._awake.is_set():
            self._awake.set()
        while len(self._events) > _MAX_BACKLOG and self._thread.is_alive():
            self._hurry.set()
            time.sleep(_BACKLOG_POLL_S)

    def close(self) -> None:
        """Show what is left, let the display end, and stop. A second call does nothing."""
        self._closing = True
        self._hurry.set()
        self._awake.set()
        self._thread.join()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Within: the display is not called, and whoever emits much waits."""
        with self._showing:
            yield

    def _run(self) -> None:
        try:
            while not self._closing:
                self._awake.wait(self._display.interval_s)
                with self._showing:
                    self._drain()
                    self._display.refresh()
                self._hurry.wait(self._display.interval_s)
                if not self._closing:
                    self._hurry.clear()
            self._drain()
            self._display.close()
        except OSError:
            return  # ValueError (a closed stream) would be a bug of ours

    def _drain(self) -> None:
        self._awake.clear()
        while self._events:
            self._display.handle(self._events.popleft())
