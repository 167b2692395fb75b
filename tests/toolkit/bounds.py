"""How long tests wait before they take something for hung: longer on a machine that is slow or has much else to do.

A bound is no measure: it is only there so that a hang ends. So it is generous, and it is stretched by how slow the
machine is found to be, now and again while a test waits.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable

_GENEROUS = 2.0
_MOST = 20.0
_FRESH_S = 5.0
_START_S = 0.005
"""What starting a small program takes on a quiet machine of 2026, amply."""

_found = (-_FRESH_S, 1.0)


def stretched(seconds: float) -> float:
    """A bound that is ``seconds`` on a quick and idle machine, as it is to be on this one now."""
    return seconds * _GENEROUS * slowness()


def slowness() -> float:
    """How many times slower than a quick and idle machine this one is at the moment, 1 to 20.

    By how many programs want each of its cores, and how long one takes to start.
    """
    global _found
    at, factor = _found
    if time.monotonic() - at >= _FRESH_S:
        began = time.monotonic()
        subprocess.run(["/bin/true"], check=True)
        crowd = os.getloadavg()[0] / (os.cpu_count() or 1)
        factor = min(_MOST, max(1.0, crowd, (time.monotonic() - began) / _START_S))
        _found = (time.monotonic(), factor)
    return factor


class Deadline:
    """A moment ``seconds`` from now, which moves away while the machine is slow. why: what is waited for."""

    def __init__(self, seconds: float, why: str = "") -> None:
        self._seconds = seconds
        self._why = why
        self._began = time.monotonic()
        self._end = self._began + seconds

    def passed(self) -> bool:
        now = time.monotonic()
        if now >= self._end:
            self._end = max(self._end, self._began + stretched(self._seconds))
        return now >= self._end

    def check(self) -> None:
        """Fail the test when it has passed."""
        assert not self.passed(), f"not within {self._end - self._began:.0f} s: {self._why}"

    def __bool__(self) -> bool:
        """Whether there is time left."""
        return not self.passed()


def eventually(what: Callable[[], bool], *, timeout_s: float = 30.0, why: str = "") -> None:
    """Wait until ``what`` is true; a test that waits in vain fails here. timeout_s: is stretched."""
    deadline = Deadline(timeout_s, why or str(what))
    while not what():
        deadline.check()
        time.sleep(0.02)
