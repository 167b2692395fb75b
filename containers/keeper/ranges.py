"""A range of 65536 host IDs for each running container, so that two containers are different nobodies to the host.

Who has a range holds a lock on its byte of the file ``ids``: nothing is written down, and nothing has to be given back
after a kill. The file is in the directory above RUN, for all engines of the host together: RUN is one engine's.
"""

from __future__ import annotations

import os

from containers import idmap
from containers.errors import NamespaceError
from core import ofdlocks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_FILE = "ids"
_TRIES_AT_RANDOM = 64


class Range:
    """A range that this process has. Ended by ``close``, or with the process.

    first: the first host user and group ID; (0, 0) where containers have the IDs that are this process's own.
    """

    def __init__(self, first: tuple[int, int], lock: int) -> None:
        self.first = first
        self.lock = lock

    def close(self) -> None:
        """Let others have it."""
        if self.lock >= 0:
            os.close(self.lock)
            self.lock = -1


def take(run: str) -> Range:
    """A range that nobody has: a random one first, so that two who look at once seldom meet. Raises NamespaceError."""
    blocks, taken = idmap.host_blocks()
    if not blocks:
        return Range((0, 0), -1)
    lock = os.open(f"{os.path.dirname(run.rstrip('/'))}/{_FILE}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        for block in _in_random_order(blocks):
            if block not in taken and ofdlocks.try_lock(lock, block):
                ofdlocks.share_lock(lock, block)  # whoever joins this container's namespaces shares it
                return Range((block * idmap.SIZE, block * idmap.SIZE), lock)
    except BaseException:
        os.close(lock)
        raise
    os.close(lock)
    raise NamespaceError(f"all {len(blocks)} ranges of user IDs for containers are in use", hint="stop some containers")


def share(run: str, first: tuple[int, int]) -> Range:
    """The range that another process has, which stays taken for as long as this one has it, too.

    Raises NamespaceError when nobody has it any more: it may be anybody's next.
    """
    if not any(first):
        return Range(first, -1)
    lock = os.open(f"{os.path.dirname(run.rstrip('/'))}/{_FILE}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    block = first[0] // idmap.SIZE
    try:
        if not ofdlocks.is_locked(lock, block) or not ofdlocks.share_lock(lock, block):
            raise NamespaceError("the container's range of user IDs is not its own any more")
    except BaseException:
        os.close(lock)
        raise
    return Range(first, lock)


def _in_random_order(blocks: range) -> Iterator[int]:
    """Some at random, then all: each comes at least once."""
    for number in memoryview(os.urandom(4 * _TRIES_AT_RANDOM)).cast("I"):
        yield blocks[number % len(blocks)]
    yield from blocks
