"""The launcher's event loop: descriptors that become readable, and quiet moments."""

from __future__ import annotations

import select

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    class Watching(Protocol):
        """What both loops have, the launcher's and a keeper's."""

        def watch(self, fd: int, handler: Callable[[], None], failed: Callable[[], None] | None = None) -> None: ...

        def unwatch(self, fd: int) -> None: ...


class Loop:
    """Calls handlers one at a time: a handler may close descriptors, so no second event is taken before it returns."""

    def __init__(self) -> None:
        self._poll = select.epoll()
        self._handlers: dict[int, Callable[[], None]] = {}
        self._failed: dict[int, Callable[[], None]] = {}

    def watch(self, fd: int, handler: Callable[[], None], failed: Callable[[], None] | None = None) -> None:
        """Call ``handler`` whenever ``fd`` is readable or at its end.

        failed: called when the system refused something to the handler; by then ``fd`` is not watched any more.
        Without it, that ends the launcher.
        """
        self._handlers[fd] = handler
        if failed is not None:
            self._failed[fd] = failed
        self._poll.register(fd, select.EPOLLIN)

    def unwatch(self, fd: int) -> None:
        """Forget ``fd``, before it is closed. Does nothing when it is not watched."""
        if self._handlers.pop(fd, None) is not None:
            self._poll.unregister(fd)
            self._failed.pop(fd, None)

    def step(self, timeout_s: float | None) -> bool:
        """Handle one event; False when there was none in that time."""
        for fd, _events in self._poll.poll(timeout_s, 1):
            try:
                self._handlers[fd]()
            except OSError:
                failed = self._failed.get(fd)
                if failed is None:
                    raise
                self.unwatch(fd)
                failed()
            return True
        return False


def readable(fd: int, timeout_s: float) -> bool:
    """Wait for one descriptor."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(max(0.0, timeout_s) * 1000))
