"""Directories that nobody needs any more, removed on a thread: for whoever waits for more than that."""

from __future__ import annotations

import threading
from queue import SimpleQueue
from typing import Final

from core.closing import Closing
from core.latelog import LateLogger
from images.trees import remove_tree

_log: Final = LateLogger(__name__)


class Leavings(Closing):
    """Removes directories one after the other.

    Made by: a session, whose names the directories have. When the process is killed, they go with the dead session.
    Threads: any. Ended by: ``close``, which waits until all are gone.
    """

    def __init__(self) -> None:
        self._paths: SimpleQueue[str | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def add(self, path: str) -> None:
        """Have a directory removed."""
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="leavings", daemon=True)
                self._thread.start()
            self._paths.put(path)

    def close(self) -> None:
        with self._lock:
            thread, self._thread = self._thread, None
            if thread is not None:
                self._paths.put(None)
        if thread is not None:
            thread.join()

    def _work(self) -> None:
        while (path := self._paths.get()) is not None:
            try:
                remove_tree(path)
            except OSError as error:
                _log.warning("%s is left to the end of the session: %s", path, error)
