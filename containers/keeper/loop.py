"""A keeper's event loop: descriptors that become readable or writable, and moments.

A handler that fails is taken out of the loop, and what it stood for ends; the loop goes on.
"""

from __future__ import annotations

import select
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_MOST_S = 86_400.0
"""epoll_wait(2) takes no more than 24 days at once."""

_ENDED = select.EPOLLHUP | select.EPOLLERR


class Timer:
    """Something that is to be done at a moment. at: of ``time.monotonic``."""

    __slots__ = ("at", "handler")

    def __init__(self, at: float, handler: Callable[[], None]) -> None:
        self.at = at
        self.handler: Callable[[], None] | None = handler

    def cancel(self) -> None:
        """Have it not done. Does nothing when it has been."""
        self.handler = None


class Loop:
    """Calls handlers one at a time: a handler may close descriptors, so no second event is taken before it returns."""

    def __init__(self) -> None:
        self._poll = select.epoll()
        self._readers: dict[int, Callable[[], None]] = {}
        self._writers: dict[int, Callable[[], None]] = {}
        self._enders: dict[int, Callable[[], None]] = {}
        self._masks: dict[int, int] = {}
        self._failed: dict[int, Callable[[], None]] = {}
        self._timers: list[Timer] = []

    def fileno(self) -> int:
        """The descriptor that is to be closed in children."""
        return self._poll.fileno()

    def watch(self, fd: int, handler: Callable[[], None], failed: Callable[[], None] | None = None) -> None:
        """Call ``handler`` whenever ``fd`` is readable or at its end.

        failed: called when a handler of this descriptor raised; by then it is not watched any more.
        Raises PermissionError for what has no such events, as plain files.
        """
        self._update(fd, handler, self._writers.get(fd))
        if failed is not None:
            self._failed[fd] = failed

    def watch_writing(self, fd: int, handler: Callable[[], None]) -> None:
        """Call ``handler`` whenever ``fd`` can take bytes, or never will. Raises PermissionError, as ``watch``."""
        self._update(fd, self._readers.get(fd), handler)

    def watch_end(self, fd: int, handler: Callable[[], None]) -> None:
        """Call ``handler`` once the other side of a socket has gone for good, beside what else it is watched for."""
        self._enders[fd] = handler
        self._update(fd, self._readers.get(fd), self._writers.get(fd))

    def unwatch_reading(self, fd: int) -> None:
        """Take no more notice of what comes. Does nothing when it is not watched."""
        if fd in self._readers:
            self._update(fd, None, self._writers.get(fd))

    def unwatch_writing(self, fd: int) -> None:
        """Take no more notice of room. Does nothing when it is not watched."""
        if fd in self._writers:
            self._update(fd, self._readers.get(fd), None)

    def unwatch(self, fd: int) -> None:
        """Forget ``fd``, before it is closed. Does nothing when it is not watched."""
        self._enders.pop(fd, None)
        if fd in self._masks:
            self._update(fd, None, None)
        self._failed.pop(fd, None)

    def later(self, seconds: float, handler: Callable[[], None]) -> Timer:
        """Call ``handler`` once, so many seconds from now."""
        timer = Timer(time.monotonic() + seconds, handler)
        self._timers.append(timer)
        return timer

    def step(self) -> None:
        """Wait for what comes next, and handle it."""
        timeout_s = self._until_next()
        if timeout_s is not None and timeout_s <= 0:
            self._ring()
            timeout_s = 0  # descriptors have their turn, however many timers there are
        for fd, events in self._poll.poll(timeout_s, 1):
            self._handle(fd, events)

    def _handle(self, fd: int, events: int) -> None:
        reader, writer = self._readers.get(fd), self._writers.get(fd)
        try:
            if reader is not None and events & (select.EPOLLIN | _ENDED):
                reader()
            elif fd in self._enders and events & _ENDED:
                self._enders[fd]()
            elif writer is not None:
                writer()
        except Exception:
            # The outermost layer for this descriptor.
            report()
            failed = self._failed.get(fd)
            self.unwatch(fd)
            if failed is not None:
                failed()

    def _ring(self) -> None:
        now = time.monotonic()
        due = [timer for timer in self._timers if timer.at <= now]
        self._timers = [timer for timer in self._timers if timer.at > now]
        for timer in sorted(due, key=lambda timer: timer.at):
            if timer.handler is not None:  # one before it may have cancelled it
                handler, timer.handler = timer.handler, None
                try:
                    handler()
                except Exception:
                    # The outermost layer for what was to be done.
                    report()

    def _until_next(self) -> float | None:
        self._timers = [timer for timer in self._timers if timer.handler is not None]
        if not self._timers:
            return None
        return min(_MOST_S, max(0.0, min(timer.at for timer in self._timers) - time.monotonic()))

    def _update(self, fd: int, reader: Callable[[], None] | None, writer: Callable[[], None] | None) -> None:
        mask = (select.EPOLLIN if reader is not None else 0) | (select.EPOLLOUT if writer is not None else 0)
        before = self._masks.get(fd)
        if not mask and fd not in self._enders:
            if before is not None:
                self._poll.unregister(fd)
                del self._masks[fd]
        elif before is None:
            self._poll.register(fd, mask)
            self._masks[fd] = mask
        elif before != mask:
            self._poll.modify(fd, mask)
            self._masks[fd] = mask
        for handlers, handler in ((self._readers, reader), (self._writers, writer)):
            if handler is None:
                handlers.pop(fd, None)
            else:
                handlers[fd] = handler


def report() -> None:
    """Tell the nursery's log what went wrong. (``traceback`` cannot be imported any more.)"""
    error = sys.exc_info()[1]
    frames = []
    trace = sys.exc_info()[2]
    while trace is not None:
        frames.append(f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}")
        trace = trace.tb_next
    print(f"{type(error).__name__}: {error} ({' '.join(frames)})", file=sys.stderr, flush=True)  # noqa: T201 - its log
