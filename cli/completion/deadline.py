"""Does something that may hang, for so long and no longer."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable


def at_most(seconds: float, act: Callable[[], None]) -> None:
    """Call ``act`` in a process of its own, which the kernel ends when the time is up, whatever it waits for.

    That works also where no Python runs: in a database's wait for a lock, or in a look-up of a name. What it printed
    until then stays. Call it before there are threads.
    """
    sys.stdout.flush()
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return
    code = 1
    try:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, seconds)
        act()
        sys.stdout.flush()
        code = 0
    finally:
        if code:
            sys.excepthook(*sys.exc_info())
        os._exit(code)
