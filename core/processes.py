"""Processes that are not to outlive the one that started them."""

from __future__ import annotations

import ctypes
import os
import signal
from typing import Final

_PR_SET_PDEATHSIG: Final = 1


def end_with_parent(parent: int, number: int = signal.SIGTERM) -> None:
    """Have the kernel send this process signal ``number`` when ``parent``, its parent's ID, dies.  prctl(2)."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:  # it died before we said so
        os.kill(os.getpid(), number)
