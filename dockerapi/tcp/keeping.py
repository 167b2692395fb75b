"""Keeps the gate's process: starts it, and starts it again when it ends. It ends with the process that keeps it."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from typing import Final

from dockerapi.tcp.terms import Terms

_STEADY_S: Final = 10.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.2, 5.0
_log: Final = logging.getLogger(__name__)


class Keeping:
    """Keeps one gate's process. fds: its listening sockets. path: the API's unix socket, to which it connects."""

    def __init__(self, fds: Sequence[int], terms: Terms, path: str) -> None:
        self._fds = tuple(fds)
        self._terms = terms
        self._path = path

    def begin(self) -> None:
        """Keep it from now on, in a thread of this process. Nothing when there is nothing to listen at."""
        if self._fds:
            threading.Thread(target=self._keep, name="gate", daemon=True).start()

    def _keep(self) -> None:
        words = [sys.executable, "-P", "-m", "dockerapi.tcp", "--socket", self._path]
        words += [f"--fd={fd}" for fd in self._fds] + self._terms.arguments()
        pause = _FIRST_PAUSE_S
        while True:
            begun = time.monotonic()
            try:
                # It reads its input until we end.
                with subprocess.Popen(words, stdin=subprocess.PIPE, pass_fds=self._fds) as gate:
                    how = f"ended with code {gate.wait()}"
            except OSError as error:
                how = f"could not start: {error.strerror}"
            pause = _FIRST_PAUSE_S if time.monotonic() - begun > _STEADY_S else min(_LONGEST_PAUSE_S, 2 * pause)
            _log.warning("the process for tcp %s: it is started again", how)
            time.sleep(pause)
