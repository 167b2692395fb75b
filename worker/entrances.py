"""Shells that people open in a job while it runs on this worker."""

from __future__ import annotations

import logging
import os
import threading
from contextlib import ExitStack
from typing import Final

from containers.errors import ContainerError
from containers.handles import Container
from containers.spec import ContainerSpec
from pipelines.errors import PipelineError
from pipelines.runs.shells import Granted, ShellTerms
from worker.shellrelay import ShellRelay, tell_end
from worker.work import Work

_LOOK_S: Final = 1.0
_END_S: Final = 5.0
_log = logging.getLogger(__name__)


class Entrances:
    """The way into one container, see ``ci.failedfiles.Entrance``: a thread looks for shells that were asked for."""

    def __init__(self, work: Work, container: Container, spec: ContainerSpec) -> None:
        self._claim = work.claim
        self._service = work.resources.service
        self._host = work.resources.host
        self._container = container
        self._spec = spec
        self._closed = threading.Event()
        self._was_used = False
        self._inside: list[threading.Thread] = []
        self._looking = threading.Thread(target=self._look, name=f"way into run {work.claim.run.number}", daemon=True)
        self._looking.start()

    def close(self) -> bool:
        self._closed.set()
        for thread in (self._looking, *self._inside):  # the container has ended, and all shells in it
            thread.join(_END_S)
        return self._was_used

    def _look(self) -> None:
        while not self._closed.wait(_LOOK_S):
            try:
                for shell in self._service.shells.asked_in(self._claim.number, self._claim.attempt):
                    granted = self._service.shells.open(shell, self._host)
                    if granted is not None:
                        self._was_used = True  # before anything is done: the row says so, too
                        thread = threading.Thread(target=self._enter, args=(granted,), daemon=True)
                        self._inside.append(thread)
                        thread.start()
            except PipelineError as error:
                _log.warning("shells in run %d wait: %s", self._claim.run.number, error)

    def _enter(self, granted: Granted) -> None:
        end = self._service.shell_pipes.end(granted.id, "worker")
        try:
            with ExitStack() as stack:
                null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
                stack.callback(os.close, null)
                spec = in_terminal(self._spec, granted.terms)
                inside = self._container.execute(spec, stdin=null, stdout=null, stderr=null)
                stack.callback(inside.close)
                end.say("opened")
                ShellRelay(self._service.shells, granted.id, end, inside, self._why_over).run()
        except (ContainerError, PipelineError, OSError) as error:
            why = error.strerror or str(error) if isinstance(error, OSError) else error.message
            tell_end(self._service.shells, granted.id, end, None, f"it did not start: {why}")

    def _why_over(self) -> str:
        return "the job has ended" if self._closed.is_set() or self._container.ended() else ""


def in_terminal(spec: ContainerSpec, terms: ShellTerms) -> ContainerSpec:
    """The same container with the command of a shell, on a terminal of its own."""
    env = {**dict(spec.env), "TERM": terms.term}
    return spec._replace(
        args=terms.command,
        env=tuple(env.items()),
        terminal=True,
        terminal_input=True,
        terminal_size=(terms.rows, terms.columns),
    )
