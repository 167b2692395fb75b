"""How our processes end: without taking the interpreter apart object by object (5 ms, and 100 with Celery)."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False  # type checkers take the name for typing.TYPE_CHECKING
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn


told: Callable[[int], None] | None = None
"""Called with the exit code, after everything else: of a process whose end somebody waits for, and who need not wait
until the kernel has taken its memory apart. It is for that process alone, not for what that forks."""


is_near = False
"""Whether this process ends with what it does now, so that what its end does by itself need not be done before."""


def code_of(main: Callable[[], int]) -> int:
    """The exit code of ``main``, also where it ends by SystemExit."""
    try:
        return main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0 if end.code is None else 1


def leave(code: int, then: Callable[[], None] | None = None) -> NoReturn:
    """End the process: run what was registered for its end, and flush all that was written. then: called last."""
    import atexit

    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:  # nobody reads, or the disk is full; both were reported where it mattered
            continue
    if then is not None:
        then()
    if told is not None:
        told(code)
    os._exit(code)
