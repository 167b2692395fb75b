"""Carries what is typed to a shell, and back what it shows: between its terminal and the streams of its person."""

from __future__ import annotations

import errno
import json
import os
import select
import threading
import time
from collections.abc import Callable
from typing import Final

from containers.handles import Container
from pipelines.errors import PipelineError, QueueUnreachableError
from pipelines.runs.shellpipes import PIECE_BYTES, TICK_S, PipeEnd
from pipelines.runs.shells import Shells

_POLL_S: Final = 0.2
_HEAR_S: Final = 1.0
_LOOK_S: Final = 2.0
_MOST_PENDING: Final = 64 << 10  # of what the program in the terminal does not read
_READS_AFTER_END: Final = 64
_END_S: Final = 5.0
_MOST_SIZE: Final = 1000
_GONE: Final = "whoever opened it has gone"


class ShellRelay:
    """One shell, from its start to its end. end: the worker's end of its streams.

    has_to_end: why the shell has to end now; empty: it may go on. Asked several times a second.
    """

    def __init__(
        self, shells: Shells, shell: int, end: PipeEnd, container: Container, has_to_end: Callable[[], str]
    ) -> None:
        assert container.terminal is not None, "shells have terminals"
        self._shells = shells
        self._shell = shell
        self._end = end
        self._container = container
        self._terminal = container.terminal
        self._has_to_end = has_to_end
        self._why = ""
        self._over = threading.Event()

    def run(self) -> None:
        """Returns once the shell has ended, and that is noted."""
        os.set_blocking(self._terminal, False)
        hearing = threading.Thread(target=self._hear, name=f"terminal of shell {self._shell}", daemon=True)
        hearing.start()
        try:
            self._follow()
        except QueueUnreachableError as error:
            self._why = self._why or error.message
        finally:
            self._container.kill()
            status = self._container.wait()
            self._over.set()
            hearing.join(_END_S)
        self._why = self._why or self._has_to_end()  # it may be what has ended it
        code = None if self._why else status.code
        told = self._why or status.message
        tell_end(self._shells, self._shell, self._end, code, told)

    def _follow(self) -> None:
        """Pass on what is shown until the container has ended, or has to."""
        ticked = looked = float("-inf")
        reads_left, is_open = _READS_AFTER_END, True
        while reads_left and is_open:
            now = time.monotonic()
            if now - ticked >= TICK_S:
                ticked = now
                self._end.say("tick")
            if now - looked >= _LOOK_S:
                looked = now
                self._look()
            self._why = self._why or self._has_to_end()
            if self._why:
                return
            has_ended = self._container.ended()
            ready, _, _ = select.select([self._terminal], [], [], 0 if has_ended else _POLL_S)
            if has_ended:
                reads_left = reads_left - 1 if ready else 0
            if ready:
                is_open = self._pass_on()
        while not self._why and not self._container.ended():  # it has closed its terminal, and goes on
            time.sleep(_POLL_S)
            self._why = self._why or self._has_to_end()

    def _pass_on(self) -> bool:
        """Returns whether more may follow."""
        try:
            data = os.read(self._terminal, PIECE_BYTES)
        except BlockingIOError:
            return True
        except OSError as error:
            if error.errno != errno.EIO:  # nobody has the terminal open any more
                raise
            return False
        return bool(data) and self._end.say("data", data, gives_up=lambda: bool(self._why or self._has_to_end()))

    def _look(self) -> None:
        """Whether the row still says that the shell may go on. While the database is away it may."""
        try:
            if not self._shells.is_open(self._shell):
                self._why = self._why or "it was ended"
        except PipelineError:
            return

    def _hear(self) -> None:
        """A thread: write what is typed to the terminal, and follow its size."""
        pending = b""
        try:
            while not self._over.is_set() and not self._why:
                if pending:
                    _, writable, _ = select.select([], [self._terminal], [], _POLL_S)
                    if writable:
                        pending = pending[os.write(self._terminal, pending) :]
                if len(pending) >= _MOST_PENDING:  # the program reads nothing: what else is said waits in its stream
                    self._end.heard_at = time.monotonic()
                    continue
                for said in self._end.hear(_POLL_S if pending else _HEAR_S):
                    match said.kind:
                        case "data":
                            pending += said.data
                        case "size":
                            self._resize(said.data)
                        case "ended":
                            self._why = self._why or _GONE
                if self._end.is_silent():
                    self._why = self._why or _GONE
        except BlockingIOError:
            self._why = self._why or "its terminal takes nothing"
        except QueueUnreachableError as error:
            self._why = self._why or error.message
        except OSError:  # EIO, or closed: the shell has ended
            return

    def _resize(self, data: bytes) -> None:
        rows, _, columns = data.partition(b" ")
        if rows.isdigit() and columns.isdigit() and max(len(rows), len(columns)) < 6:
            size = (min(int(rows), _MOST_SIZE), min(int(columns), _MOST_SIZE))
            if min(size) > 0:
                self._container.resize(*size)


def tell_end(shells: Shells, shell: int, end: PipeEnd, exit_code: int | None, reason: str) -> None:
    """Note what became of a shell, and tell it whoever opened it. Where neither is there, nobody is told."""
    told = json.dumps({"exit_code": exit_code, "reason": reason}).encode()
    for tell in (lambda: shells.end(shell, exit_code, reason), lambda: end.say("ended", told)):
        try:
            tell()
        except PipelineError:
            continue
