"""Celery's end of the heartbeat: starts the heart's process, and reports each turn of the consumer's loop to it."""

from __future__ import annotations

import contextlib
import functools
import os
import subprocess
import sys
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, NoReturn, Self

from celery import Celery, bootsteps
from celery.signals import worker_shutting_down

from core.leaving import leave
from core.programs import Forked, Process, call_oneself
from worker.heart import beat
from worker.processes import environment_of
from worker.processresources import WorkerSettings

_TURN_S: Final = 1.0
_END_TIMEOUT_S: Final = 15.0
_HEART: Final = (sys.executable, "-P", "-m", "worker.heart")


class Pulse:
    """Keeps the heart's process from entry to exit, as a context manager; starts it anew if it dies.

    Entered before there is a thread or a connection: the first heart is forked from this process, and imports nothing.

    While messages are consumed, a pipe wakes the consumer's loop when the worker is to end. Without the pipe the loop's
    poll would go on after a signal (PEP 475) for as long as nothing comes.
    """

    def __init__(self, settings: WorkerSettings) -> None:
        self._settings = settings
        self._process: Process | None = None
        self._mouth = -1  # the end to write to of the heart's standard input
        self._draining = False
        self._wakes: int | None = None  # the pipe's end to write to

    def attach(self, app: Celery) -> None:
        """Ask Celery to report when messages are consumed, and when the worker drains."""
        pulse = self

        class Consuming(bootsteps.StartStopStep):  # type: ignore[misc]  # celery has no types
            """Between start and stop there is a connection to Redis, and the loop turns."""

            requires = ("celery.worker.consumer.tasks:Tasks",)

            def start(self, parent: Any) -> None:
                pulse.tell(b"t")
                self.timer = parent.timer.call_repeatedly(_TURN_S, pulse.tell, (b"t",))
                self.woken, pulse._wakes = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
                parent.hub.add_reader(self.woken, os.read, self.woken, 1)

            def stop(self, parent: Any) -> None:
                self.timer.cancel()
                wakes, pulse._wakes = pulse._wakes, None
                if wakes is not None:
                    parent.hub.remove(self.woken)
                    os.close(self.woken)
                    os.close(wakes)

        app.steps["consumer"].add(Consuming)
        worker_shutting_down.connect(self._drain, weak=False)

    def tell(self, what: bytes) -> None:
        """Send a byte to the heart."""
        if self._process is None or self._process.poll() is not None:
            self._start(self._anew)
        with contextlib.suppress(BrokenPipeError, BlockingIOError):
            os.write(self._mouth, what)

    def __enter__(self) -> Self:
        self._start(self._forked)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.tell(b"q")
        process, self._process = self._process, None
        assert process is not None
        os.close(self._mouth)
        try:
            process.wait(_END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _drain(self, **_: Any) -> None:
        self._draining = True
        self.tell(b"d")
        if self._wakes is not None:
            os.write(self._wakes, b"!")

    def _start(self, beginning: Callable[[int], Process]) -> None:
        """Begin a heart. beginning: gets a descriptor for its standard input."""
        if self._process is not None:
            os.close(self._mouth)
        reading, self._mouth = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._mouth, False)
        try:
            self._process = beginning(reading)
        finally:
            os.close(reading)
        if self._draining:
            self.tell(b"d")

    def _forked(self, stdin: int) -> Process:
        return Forked(functools.partial(_be_heart, self._settings), stdin)

    def _anew(self, stdin: int) -> Process:
        """By now a fork would have Celery's connections."""
        settings = self._settings
        return subprocess.Popen(
            [*_HEART, settings.name, str(settings.concurrency), settings.group, *settings.labels],
            stdin=stdin,
            start_new_session=True,  # Ctrl-C in a terminal is the worker's to handle
            env=environment_of(settings),
        )


def _be_heart(settings: WorkerSettings) -> NoReturn:
    call_oneself([*_HEART, settings.name])
    beat(settings)
    leave(0)
