"""The supervisor of child processes: starts them again when they die, and ends them in order when it ends."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import FrameType
from typing import Final

from cli.errors import CommandError
from core.processes import adopt_orphans, kill_descendants, reap_adopted
from core.programs import Process, Programs, spawned

_FIRST_PAUSE_S: Final = 0.5
_LONGEST_PAUSE_S: Final = 10.0
_STEADY_S: Final = 30.0  # a process that ran this long is worth starting again
_POLL_S: Final = 0.1
_REAP_S: Final = 5.0
_KILL_S: Final = 3.0
_KILLED_S: Final = 1.0  # for a killed child: who does not end in that time is held by the kernel, and is told of then
_log: Final = logging.getLogger(__name__)


@dataclass(slots=True)
class Child:
    """A process to keep.

    arguments: its command; of a program of ours, without its name.
    program: the module of a program of ours (``core.programs``).
    stop_s: how long it gets to end by itself after SIGTERM.
    hurry_s: how long it gets after a second signal, when all processes of its group get a SIGTERM.
    is_ready: polled after each start.
    """

    name: str
    arguments: Sequence[str]
    stop_s: float
    is_ready: Callable[[], bool] = lambda: True
    environment: Mapping[str, str] = field(default_factory=dict)
    hurry_s: float = 1.0
    program: str = ""
    process: Process | None = None
    started_at: float = 0.0
    pause_s: float = _FIRST_PAUSE_S
    restart_at: float = 0.0


class Supervisor:
    """Keeps children: start them in order with ``start``, then ``run`` until a signal says to end. A context manager.

    Leaving it ends the children, the last one first. A second signal before all have ended gives each child
    ``hurry_s``, and then kills what is left. No process that the children started outlives this one, whatever became
    of its parents, but for those that ``spared`` names then, and what is below them.

    programs: makes ``Programs`` when the first child asks for one.
    """

    def __init__(
        self, spared: Callable[[], Sequence[int]] = lambda: (), programs: Callable[[], Programs] = lambda: Programs([])
    ) -> None:
        self._spared = spared
        self._programs = functools.cache(programs)
        self._children: list[Child] = []
        self._ending = threading.Event()
        self._hurry = False
        self._reap_at = 0.0
        self.received: int | None = None

    def start(self, child: Child, *, timeout_s: float) -> None:
        """Start a process and wait until it is ready. Raises CommandError when it ends or takes too long."""
        self._children.append(child)
        self._launch(child)
        deadline = time.monotonic() + timeout_s
        while not child.is_ready():
            assert child.process is not None
            if child.process.poll() is not None:
                raise CommandError(f"{child.name} ended at once", hint="its own messages are above")
            if time.monotonic() > deadline:
                raise CommandError(f"{child.name} was not ready within {timeout_s:.0f} seconds")
            if self._ending.wait(_POLL_S / 5):
                return

    def run(self) -> None:
        """Keep the children running until SIGTERM, SIGINT or SIGHUP."""
        while not self._ending.wait(_POLL_S):
            for child in self._children:
                self._look_after(child)
            if time.monotonic() > self._reap_at:
                self._reap_at = time.monotonic() + _REAP_S
                reap_adopted(child.process.pid for child in self._children if child.process is not None)

    def __enter__(self) -> Supervisor:
        adopt_orphans()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for child in reversed(self._children):
            self._stop(child)
        left = kill_descendants(_KILL_S, spared=self._spared())
        if left:
            told = ", ".join(map(str, left))
            _log.warning("these processes do not end, the kernel holds them: %s", told)

    @property
    def ending(self) -> bool:
        """Whether a signal came."""
        return self._ending.is_set()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        del frame
        self._hurry = self._ending.is_set()
        self.received = number
        self._ending.set()

    def _launch(self, child: Child) -> None:
        child.started_at = time.monotonic()
        if child.program:
            child.process = self._programs().start(child.program, child.arguments, child.environment)
        else:
            child.process = _command(child)

    def _look_after(self, child: Child) -> None:
        if child.process is None:
            if time.monotonic() >= child.restart_at:
                self._launch(child)
            return
        code = child.process.poll()
        if code is None:
            return
        now = time.monotonic()
        child.pause_s = (
            _FIRST_PAUSE_S if now - child.started_at > _STEADY_S else min(_LONGEST_PAUSE_S, child.pause_s * 2)
        )
        child.restart_at = now + child.pause_s
        child.process = None
        how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
        _log.warning("%s %s; starting it again", child.name, how)

    def _stop(self, child: Child) -> None:
        process = child.process
        if process is None:
            return
        if process.poll() is None:
            process.terminate()
        deadline = time.monotonic() + child.stop_s
        hurried = False
        while process.poll() is None:
            if self._hurry and not hurried:
                hurried = True
                deadline = min(deadline, time.monotonic() + child.hurry_s)
                with contextlib.suppress(
                    ProcessLookupError
                ):  # all of its group, so that what it waits for ends as well
                    os.killpg(process.pid, signal.SIGTERM)
            if time.monotonic() > deadline:
                process.kill()
            if time.monotonic() > deadline + _KILLED_S:
                return  # ``kill_descendants`` waits for it once more
            time.sleep(_POLL_S / 5)


def _command(child: Child) -> subprocess.Popen[bytes]:
    try:
        return spawned(child.arguments, child.environment)
    except FileNotFoundError as error:
        raise CommandError(
            f"{child.arguments[0]} is not installed", hint="scripts/install-debian installs it"
        ) from error
