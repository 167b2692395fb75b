"""Signals such as Ctrl-C: the first ones ask the work to end, the next ends the process at once."""

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
    with asking_to_end(cancelled.set, times=1, at_once=at_once) as received:
        yield received


@contextlib.contextmanager
def asking_to_end(ask: Callable[[], None], *, times: int, at_once: Callable[[], None]) -> Iterator[Received]:
    """Within: as many SIGINTs, SIGTERMs and SIGHUPs as ``times`` call ``ask``; one more calls ``at_once`` and exits.

    ask: interrupts any code of this thread, so it may wait for nothing.
    at_once: has two seconds. It runs in a thread of its own, because the interrupted code may hold any lock.
    """
    received = Received()
    left = times

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal left
        del frame
        if received.number is None:
            received.number = number
        if left > 0:
            left -= 1
            ask()
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
