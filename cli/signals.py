"""Signals such as Ctrl-C: the first asks the work to end, the second ends the process at once."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_GRACE_S = 2.0


class Received:
    """The first signal that came, or None."""

    __slots__ = ("number",)

    def __init__(self) -> None:
        self.number: int | None = None

    @property
    def exit_code(self) -> int:
        """128 + the signal, as in shells; 130, as for Ctrl-C, where no signal came."""
        return 128 + (self.number or signal.SIGINT)


@contextlib.contextmanager
def cancelling(cancelled: threading.Event, *, at_once: Callable[[], None]) -> Iterator[Received]:
    """Within: the first SIGINT, SIGTERM or SIGHUP sets ``cancelled``; a second one calls ``at_once`` and exits.

    at_once: has two seconds. It runs in a thread of its own, because the interrupted code may hold any lock.
    """
    received = Received()

    def handle(number: int, frame: FrameType | None) -> None:
        del frame
        if received.number is None:
            received.number = number
            cancelled.set()
            return
        thread = threading.Thread(target=at_once, daemon=True)
        thread.start()
        thread.join(_GRACE_S)
        os._exit(128 + number)

    before = {number: signal.signal(number, handle) for number in _ENDING}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
