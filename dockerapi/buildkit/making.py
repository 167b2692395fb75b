"""Files of a transfer, made ahead by a thread of its own: that may take longer than all else about a small file.

ext4 looks for an inode that was not freed in the last minutes. Files are made in the order in which their contents
were asked for, which is about the order in which these come.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor


class Maker:
    """Makes files, empty and open for writing. For one thread; ``close`` has to be called."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="files of a context")
        self._batches: dict[int, Future[dict[int, int]]] = {}

    def make(self, places: Mapping[int, bytes]) -> None:
        """Begin to make files, by their numbers. None of them may be there."""
        batch = self._pool.submit(_made, places)
        self._batches |= dict.fromkeys(places, batch)

    def take(self, number: int) -> int:
        """The descriptor of a file, from now on the caller's to close. Waits until it is there. Raises OSError."""
        return self._batches.pop(number).result().pop(number)

    def close(self) -> None:
        """Wait until nothing is made any more, and close what nobody has taken."""
        self._pool.shutdown(cancel_futures=True)
        for batch in set(self._batches.values()):
            if not batch.cancelled() and batch.exception() is None:
                _close(batch.result())
        self._batches.clear()


def _made(places: Mapping[int, bytes]) -> dict[int, int]:
    made: dict[int, int] = {}
    try:
        for number, place in places.items():
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            made[number] = os.open(place, flags, 0o600)
    except BaseException:
        _close(made)
        raise
    return made


def _close(made: dict[int, int]) -> None:
    for fd in made.values():
        os.close(fd)
