"""Runs looks at the same time, each in a process of its own, and none longer than its bound.

Why processes and not threads: a look that hangs in a library or in the kernel can be killed together with everything
that it started. A read without end then ends too. The process that forks has only one thread.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from typing import Final, NoReturn

from pipelines.examination.findings import Finding, Look, careful

_LARGEST_ANSWER: Final = 1 << 16
_HANGS: Final = "is there a firewall between, or does what should answer hang?"
_DIED: Final = "report it, with what was printed above: shiplap version"


class _Running:
    """The process of one look.

    answer: what it has written so far, one finding a line.
    ended: whether it has stopped writing.
    """

    def __init__(self, look: Look) -> None:
        self.look = look
        self.answer = b""
        self.ended = False
        self.until = time.monotonic() + look.bound_s
        self.reader, writer = os.pipe2(os.O_CLOEXEC)
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self.reader)
            _work(look, writer)
        os.close(writer)

    def read(self) -> bool:
        """Read what the process has written. Returns whether that was the end."""
        data = os.read(self.reader, 65536)
        self.answer += data
        self.ended = not data or len(self.answer) > _LARGEST_ANSWER
        return self.ended

    def end(self) -> list[Finding]:
        """Kill what is left of the process. Returns its findings, and one about its end if it ended badly."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)  # it may not have a group of its own yet
        _pid, status = os.waitpid(self.pid, 0)
        os.close(self.reader)
        lines = self.answer.decode(errors="replace").split("\n")[:-1]
        found = [Finding(*json.loads(line)) for line in lines if line != "end"]
        if lines[-1:] == ["end"]:
            return found
        if not self.ended:
            how, remedy = f"no answer within {self.look.bound_s:g} seconds", _HANGS
        else:
            how, remedy = f"its process ended with {os.waitstatus_to_exitcode(status)}", _DIED
        return [*found, Finding(self.look.name, "FAILED", how, remedy)]


def examine(looks: Sequence[Look]) -> list[Finding]:
    """What all looks have found, in their order."""
    sys.stdout.flush()
    sys.stderr.flush()
    started = [_Running(look) for look in looks]
    waiting = {running.reader: running for running in started}
    while waiting:
        left_s = min(running.until for running in waiting.values()) - time.monotonic()
        ready, _, _ = select.select(list(waiting), [], [], max(0.0, left_s))
        for reader in ready:
            if waiting[reader].read():
                del waiting[reader]
        now = time.monotonic()
        for reader in [reader for reader, running in waiting.items() if now > running.until]:
            del waiting[reader]
    return [finding for running in started for finding in running.end()]


def _work(look: Look, writer: int) -> NoReturn:
    """Run in the child process: write findings as they come, then ``end``."""
    code = 1
    try:
        os.setsid()
        for finding in careful(look):
            os.write(writer, json.dumps(finding).encode() + b"\n")
        os.write(writer, b"end\n")
        code = 0
    finally:
        if code:
            traceback.print_exc()
            sys.stderr.flush()
        os._exit(code)
