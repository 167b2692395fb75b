"""The pump from the build's threads to a display. An event costs its sender an append: no write to terminal or pipe."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Protocol

from core.closing import Closing
from core.events import Event

_MAX_BACKLOG = 1024  # events (of at most 64 KiB in practice); beyond that the build waits for whoever reads its log
_BACKLOG_POLL_S = 0.005


class Display(Protocol):
    """Turns events into text. All calls come from one thread. An OSError means that nobody reads any more."""

    interval_s: float  # the least time between two refreshes

    def handle(self, event: Event) -> None: ...

    def refresh(self) -> None:
        """Write what is due. Called after events were handled, and while none arrive."""

    def close(self) -> None:
        """Write the rest; the last call."""


class Pump(Closing):
    """A core.events.Monitor that feeds a display from a thread of its own.

    Use as a context manager, or call ``close``. When the display fails because its reader has gone (EPIPE, a closed
    terminal), later events are dropped: the build goes on.
    """

    def __init__(self, display: Display) -> None:
        self._display = display
        self._events: deque[Event] = deque()
        self._awake = threading.Event()  # something was appended, or the end
        self._hurry = threading.Event()  # do not sit out the interval
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="progress", daemon=True)
        self._thread.start()

    def emit(self, event: Event) -> None:
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

    def _run(self) -> None:
        try:
            while not self._closing:
                self._awake.wait(self._display.interval_s)
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
