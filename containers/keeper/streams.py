"""Bytes from and to descriptors that may make one wait: sockets, pipes, terminals, files. Nobody waits here.

A descriptor that a client handed over is shared with the client's process, so its mode is not changed: a socket is
asked not to wait with each call, a pipe or a terminal is opened again. A plain file never makes one wait.
"""

from __future__ import annotations

import _socket
import errno
import os
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from containers.keeper.loop import Loop

PIECE_BYTES = 16 << 10
"""Read at a time: so much that others have their turn soon."""

_WRITTEN_AT_ONCE = 256 << 10
_PTMX = os.makedev(5, 2)
"""Who opens this again has the beginning of another terminal."""

_GONE = (errno.EPIPE, errno.ECONNRESET, errno.EIO, errno.ENXIO, errno.EBADF, errno.ETIMEDOUT)


class _End:
    """One end of a stream. It owns its descriptor. is_shared: with a client, who handed it over."""

    def __init__(self, loop: Loop, fd: int, flags: int, *, is_shared: bool) -> None:
        self._loop = loop
        self._socket: _socket.socket | None = None
        status = os.fstat(fd)
        if stat.S_ISSOCK(status.st_mode):
            self._socket = _socket.socket(-1, -1, -1, fd)
        elif not is_shared:
            os.set_blocking(fd, False)
        elif stat.S_ISFIFO(status.st_mode) or (stat.S_ISCHR(status.st_mode) and status.st_rdev != _PTMX):
            fd = _reopened(fd, flags)
        self.fd = fd

    def close(self) -> None:
        """Let go of it; what is on its way is lost."""
        if self.fd < 0:
            return
        self._loop.unwatch(self.fd)
        if self._socket is not None:
            self._socket.close()
        else:
            os.close(self.fd)
        self.fd = -1


class Source(_End):
    """Where bytes come from.

    taker: gets what came. ended: called once, when nothing more will come; by then it is closed.
    """

    def __init__(
        self, loop: Loop, fd: int, taker: Callable[[bytes], None], ended: Callable[[], None], *, is_shared: bool
    ) -> None:
        super().__init__(loop, fd, os.O_RDONLY, is_shared=is_shared)
        self._taker = taker
        self._ended = ended
        self._is_paused = True
        self._has_events = True
        self.resume()

    def pause(self) -> None:
        """Take nothing until ``resume``."""
        if not self._is_paused and self.fd >= 0:
            self._is_paused = True
            self._loop.unwatch_reading(self.fd)

    def resume(self) -> None:
        """Go on. Does nothing when it was not paused, or is closed."""
        if not self._is_paused or self.fd < 0:
            return
        self._is_paused = False
        if self._has_events:
            try:
                self._loop.watch(self.fd, self._read, self._give_up)
                return
            except PermissionError:  # a plain file: there is always something, or its end
                self._has_events = False
        self._loop.later(0, self._read_file)

    def drain(self, most_bytes: int) -> None:
        """Take what is there already, up to so many bytes; then it is closed, and ``ended`` is called."""
        self._is_paused = False
        while self.fd >= 0 and most_bytes > 0:
            taken = self._take()
            if not taken:
                break
            most_bytes -= taken
        self._end()

    def _read(self) -> None:
        self._take()

    def _read_file(self) -> None:
        if self.fd >= 0 and not self._is_paused and self._take():
            self._loop.later(0, self._read_file)

    def _take(self) -> int:
        """Take a piece; how many bytes it had."""
        try:
            if self._socket is not None:
                data = self._socket.recv(PIECE_BYTES, _socket.MSG_DONTWAIT)
            else:
                data = os.read(self.fd, PIECE_BYTES)
        except BlockingIOError:
            return 0
        except OSError as error:
            if error.errno not in _GONE:
                raise
            data = b""  # a terminal that nobody has open any more says EIO
        if not data:
            self._end()
            return 0
        self._taker(data)
        return len(data)

    def _give_up(self) -> None:
        self._end()

    def _end(self) -> None:
        if self.fd >= 0:
            self.close()
            self._ended()


class Sink(_End):
    """Where bytes go to, in their order. What is not taken at once waits here; whoever writes looks at ``waiting``.

    gone: called once, when the other end has gone; by then it is closed.
    drained: called whenever nothing waits any more.
    """

    def __init__(
        self, loop: Loop, fd: int, gone: Callable[[], None], drained: Callable[[], None], *, is_shared: bool
    ) -> None:
        super().__init__(loop, fd, os.O_WRONLY, is_shared=is_shared)
        if not stat.S_ISREG(os.fstat(self.fd).st_mode):
            _watch_end(loop, self.fd, self._end)
        self._gone = gone
        self._drained = drained
        self._pieces: list[bytes] = []
        self._is_last = False
        self.waiting = 0

    def write(self, data: bytes) -> None:
        """Send it, or have it wait. Does nothing when the end is closed."""
        if self.fd < 0 or self._is_last or not data:
            return
        self._pieces.append(data)
        self.waiting += len(data)
        if len(self._pieces) == 1 or self.waiting >= _WRITTEN_AT_ONCE:
            self._flush()

    def finish(self) -> None:
        """Close it when all has gone out."""
        self._is_last = True
        if not self.waiting:
            self._shut()

    def _flush(self) -> None:
        while self._pieces:
            data = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
            self._pieces = [data]
            try:
                written = self._put(data[:_WRITTEN_AT_ONCE])
            except BlockingIOError:
                self._loop.watch_writing(self.fd, self._flush)
                return
            except OSError as error:
                if error.errno not in (*_GONE, errno.ENOSPC):
                    raise
                self._end()
                return
            self.waiting -= written
            self._pieces = [data[written:]] if written < len(data) else []
        self._loop.unwatch_writing(self.fd)
        if self._is_last:
            self._shut()
        else:
            self._drained()

    def _end(self) -> None:
        """The other end has gone."""
        if self.fd >= 0:
            self.close()
            self._gone()

    def _put(self, data: bytes) -> int:
        if self._socket is not None:
            return self._socket.send(data, _socket.MSG_DONTWAIT | _socket.MSG_NOSIGNAL)
        return os.write(self.fd, data)

    def _shut(self) -> None:
        if self.fd < 0:
            return
        if self._socket is not None:
            _shut_down(self._socket)
        self.close()
        self._drained()


def _watch_end(loop: Loop, fd: int, handler: Callable[[], None]) -> None:
    """Learn when the other side of a socket, pipe or terminal has gone; a device like /dev/null has none."""
    try:
        loop.watch_end(fd, handler)
    except PermissionError:
        loop.unwatch(fd)


def _shut_down(sock: _socket.socket) -> None:
    """Tell the other side that nothing more comes, if it is still there."""
    try:
        sock.shutdown(_socket.SHUT_WR)
    except OSError:
        return


def _reopened(fd: int, flags: int) -> int:
    """A pipe or terminal opened again, not to wait; the descriptor itself where that is refused."""
    try:
        again = os.open(f"/proc/self/fd/{fd}", flags | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return fd
    os.close(fd)
    return again
