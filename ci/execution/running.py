"""A container beside a job's own, which is a step of the job: followed by a thread, from its start to its end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

from builder.running.container import Ended, Output, Streams, follow
from builder.running.watch import Watch
from ci.execution.failures import CommandFailedError
from ci.execution.steps import NOT_RUN, Numbering
from containers.handles import Container
from core.errors import ShiplapError
from core.events import StepFinished, StepInfo, StepOutcome, StepStarted

_ENOUGH_S: Final = 10.0
"""For a thread to see that its container was killed."""


class Running:
    """One container, from its start to its end.

    Threads: the attempt's; what the container prints is passed on by one of its own.

    name: for people who look at threads.
    fault_of: what is wrong when it has ended before its job, by how it ended and the end of what it printed.
    fault: why the job cannot go on, once that is known.
    """

    def __init__(
        self,
        name: str,
        step: StepInfo,
        output: Output,
        numbering: Numbering,
        fault_of: Callable[[Ended, bytes], CommandFailedError],
    ) -> None:
        self._name = name
        self._step = step
        self.output = output
        self._numbering = numbering
        self._fault_of = fault_of
        self._began: float | None = None
        self._container: Container | None = None
        self._thread: threading.Thread | None = None
        self.fault: CommandFailedError | None = None
        self._ended: Ended | None = None
        self._error: BaseException | None = None
        self._is_over = threading.Event()
        self._is_killed = False

    def begin(self) -> None:
        """It is about to be started."""
        self._began = time.monotonic()
        self._numbering.emit(StepStarted(self._step.id, time.time()))

    def follow(self, container: Container, streams: Streams, watch: Watch) -> None:
        """Pass on what it prints, in a thread, until it has ended."""
        self._container = container
        arguments = (container, streams, watch)
        self._thread = threading.Thread(target=self._follow, args=arguments, name=self._name, daemon=True)
        self._thread.start()

    def _follow(self, container: Container, streams: Streams, watch: Watch) -> None:
        try:
            self._ended = follow(container, streams, self.output, watch, lambda _: False)
        except (ShiplapError, OSError) as error:  # of the container, or of whoever gets what it prints
            self._error = error
        finally:
            self._is_over.set()

    def has_ended(self) -> bool:
        return self._is_over.is_set()

    def check(self) -> None:
        """Raises CommandFailedError once it has ended, and what following it has raised."""
        if self._is_killed or not self._is_over.is_set():
            return
        if self._error is not None:
            raise self._error
        assert self._ended is not None, "it is over, without an error"
        self.fault = self._fault_of(self._ended, self.output.tail())
        raise self.fault

    def kill(self) -> None:
        """Have it end."""
        self._is_killed = True
        if self._container is not None and not self._is_over.is_set():
            self._container.kill()

    def wait(self) -> None:
        """Wait until it has ended, which it does by itself or was killed for. Not for ever."""
        if self._thread is not None:
            self._thread.join(_ENOUGH_S)

    def end(self, outcome: StepOutcome) -> None:
        """Wait until it has ended, and say how."""
        self.wait()
        if self.fault is not None:
            self._finish("failed", self.fault.message)
        elif self._began is None:
            self._finish("cancelled", NOT_RUN)
        elif self._container is None and outcome == "done":
            self._finish("failed", "could not be started")
        else:
            self._finish(outcome, None)

    def _finish(self, outcome: StepOutcome, reason: str | None) -> None:
        took_s = 0.0 if self._began is None else time.monotonic() - self._began
        self._numbering.emit(StepFinished(self._step.id, outcome, took_s, time.time(), reason))
