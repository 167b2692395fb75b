"""Gates of a run on this machine: asked on the terminal, or answered by ``--yes``."""

from __future__ import annotations

import os
import select
import sys
import time
from collections.abc import Callable, Sequence
from typing import Final

from ci.gates import why_late
from ci.local.ending import EndRequests
from ci.local.gates import Answer, Decide
from ci.model import Gate
from cli.errors import CommandError
from cli.jobs.report import JobsReport
from cli.progress.text import harmless, one_line

_LOOK_S: Final = 0.1
_LINE: Final = 4096
_YES: Final = ("y", "yes")
_NO: Final = ("", "n", "no")


def deciding(gates: Sequence[str], requests: EndRequests, *, is_yes: bool) -> Callable[[JobsReport], Decide]:
    """What answers for these gates, once there is a report that can step aside.

    Raises CommandError where somebody has to be asked, and there is no terminal: before anything has run.
    """
    if gates and not is_yes and not (sys.stdin.isatty() and sys.stderr.isatty()):
        asking = f"{', '.join(map(one_line, gates))} {'asks' if len(gates) == 1 else 'ask'} whether the run may go on"
        raise CommandError(f"{asking}, and there is no terminal to ask on", hint="--yes answers")
    return lambda report: _always_yes if is_yes else _Terminal(report, requests).ask


def _always_yes(job: str, asked: str, gate: Gate) -> Answer:
    del job, asked, gate
    return Answer(True, "approved by --yes")


class _Terminal:
    """Asks the person who started the run. Ctrl-C ends the run, as at any other time."""

    def __init__(self, report: JobsReport, requests: EndRequests) -> None:
        self._report = report
        self._requests = requests

    def ask(self, job: str, asked: str, gate: Gate) -> Answer | None:
        """A ``Decide``."""
        until = time.monotonic() + gate.timeout_s
        with self._report.aside():
            _write("".join(f"{one_line(job)}: {harmless(line, colours=False)}\n" for line in asked.splitlines()))
            while True:
                _write("Go on? [y/N] ")
                said = self._line(until)
                if said is None:
                    _write("\n")
                    return None if self._requests.stop else Answer(False, why_late(gate.timeout_s))
                word = said.strip().lower()
                if word in _YES:
                    return Answer(True, "approved here")
                if word in _NO:
                    return Answer(False, "refused here")

    def _line(self, until: float) -> str | None:
        """What is typed; empty at the terminal's end. None: the run is to end, or it is too late."""
        while not self._requests.stop and time.monotonic() < until:
            if select.select([sys.stdin.fileno()], [], [], _LOOK_S)[0]:
                return os.read(sys.stdin.fileno(), _LINE).decode(errors="replace")
        return None


def _write(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()
