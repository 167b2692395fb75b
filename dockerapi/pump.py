"""The one thread that serves whatever waits and no keeper can serve: waits, statistics, events, logs until a moment.

A request thread gives a connection to the pump and is free. So 200 followers do not stop the next request. Each
follower is a coroutine. What may take a while (asking a keeper, reading files) is done by a few helper threads.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import os
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeAlias, TypeVar

from core.errors import ShiplapError
from core.watching import Watch
from dockerapi.errors import ApiError
from dockerapi.handover import Taken, chunk
from dockerapi.turns import MOST_FOLLOWERS, Followers

PATIENCE_S: Final = 10.0
"""A client that takes nothing for so long is cut off."""

_HELPERS: Final = 8
_PIECE: Final = 64 << 10
_log: Final = logging.getLogger(__name__)
_Result = TypeVar("_Result")


class Gone(Exception):
    """The client went away, or takes nothing."""


class Follower:
    """A client that waits for what comes. All methods are for the pump's thread.

    early: what it had sent beyond its request.
    """

    def __init__(self, taken: Taken, helpers: ThreadPoolExecutor) -> None:
        self._taken = taken
        self._helpers = helpers
        self.early = taken.early
        self._is_served = False
        self._is_given = False
        taken.socket.setblocking(False)

    def fileno(self) -> int:
        """The descriptor of its connection, for who is to have it, too."""
        return self._taken.socket.fileno()

    def served(self) -> None:
        """Somebody else has sent it everything, the end included."""
        self._is_served = True

    def given(self) -> None:
        """Somebody else has the connection, and serves it from here on."""
        self._is_given = True

    async def send(self, data: bytes, patience_s: float = PATIENCE_S) -> None:
        """Send a chunk of the body. Raises Gone."""
        if data:
            await self.put(chunk(data), patience_s)

    async def end(self) -> None:
        """End the body."""
        if not self._is_served:
            await self.put(b"0\r\n\r\n")

    async def receive(self) -> bytes:
        """What the client sends next; b"" when it has ended that. Raises OSError. For ``Place.take_whole``."""
        return await asyncio.get_running_loop().sock_recv(self._taken.socket, _PIECE)

    async def until_gone(self) -> None:
        """Return when the client has closed its connection; what it sends meanwhile is dropped."""
        loop = asyncio.get_running_loop()
        with contextlib.suppress(OSError):
            while await loop.sock_recv(self._taken.socket, _PIECE):
                pass

    async def readable(self, fd: int) -> None:
        """Wait until there is something to read."""
        loop = asyncio.get_running_loop()
        come = asyncio.Event()
        loop.add_reader(fd, come.set)
        try:
            await come.wait()
        finally:
            loop.remove_reader(fd)

    async def aside(self, work: Callable[[], _Result]) -> _Result:
        """Have a helper thread do what may take a while."""
        return await asyncio.get_running_loop().run_in_executor(self._helpers, contextvars.copy_context().run, work)

    async def put(self, data: bytes, patience_s: float = PATIENCE_S) -> None:
        """Send bytes as they are. Raises Gone."""
        try:
            await asyncio.wait_for(asyncio.get_running_loop().sock_sendall(self._taken.socket, data), patience_s)
        except (OSError, TimeoutError) as error:
            raise Gone from error

    def close(self) -> None:
        """Let the client go."""
        if self._is_given:
            self._taken.close()
        else:
            self._taken.end()


Serving: TypeAlias = Callable[[Follower], Awaitable[None]]
"""Sends what comes until there is no more; the body's end is sent for it."""


class Changes:
    """Tells all who follow a directory that something changed in it. All methods are for the pump's thread.

    They share one instance of inotify: root has few, for all of its programs, and a follower is a stranger's.
    """

    def __init__(self) -> None:
        self._watched: dict[str, _Watched] = {}

    @contextlib.contextmanager
    def of(self, directory: str) -> Iterator[_Watched]:
        """What tells of a directory, within the block."""
        watched = self._watched.get(directory)
        if watched is None:
            watched = self._watched[directory] = _Watched(directory)
        watched.users += 1
        try:
            yield watched
        finally:
            watched.users -= 1
            if not watched.users:
                del self._watched[directory]
                watched.close()


class _Watched:
    """A directory. count: of the changes so far; read it before you look. users: how many follow it."""

    def __init__(self, directory: str) -> None:
        self.count = 0
        self.users = 0
        self._come = asyncio.Event()
        self._watch = Watch([directory])
        if self.is_told:
            asyncio.get_running_loop().add_reader(self._watch.fileno(), self._changed)

    @property
    def is_told(self) -> bool:
        """Whether changes are told; else one has to look now and then."""
        return self._watch.fileno() >= 0

    async def beyond(self, count: int, timeout_s: float) -> None:
        """Wait until there were more changes than ``count``, at most this long."""
        if self.count == count:
            with contextlib.suppress(TimeoutError, asyncio.TimeoutError):
                await asyncio.wait_for(self._come.wait(), timeout_s)

    def close(self) -> None:
        if self.is_told:
            asyncio.get_running_loop().remove_reader(self._watch.fileno())
        self._watch.close()

    def _changed(self) -> None:
        self._watch.wait(0)
        self.count += 1
        come, self._come = self._come, asyncio.Event()
        come.set()


class Pump:
    """Runs followers in a thread of its own, which starts with the first. changes: for them. Its methods: for all."""

    def __init__(self) -> None:
        self.changes = Changes()
        self._followers = Followers(os.geteuid())
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._helpers = ThreadPoolExecutor(_HELPERS, thread_name_prefix="pump")
        self._tasks: set[asyncio.Task[None]] = set()

    @contextlib.contextmanager
    def place_for(self, user: int) -> Iterator[Place]:
        """A place for one more follower of a user. It is free again after the block, unless it was taken there.

        Raises ApiError for a user who has as many followers as one may have.
        """
        if not self._followers.enter(user):
            raise ApiError(503, f"{MOST_FOLLOWERS} connections of yours wait or follow already: end some of them")
        place = Place(self, user)
        try:
            yield place
        finally:
            if not place.is_taken:
                self._followers.leave(user)

    def serve(self, taken: Taken, serving: Serving, user: int) -> None:
        """See ``Place.take``."""
        mine = taken.moved()
        self._run(lambda: self._serve(mine, serving), user)

    def serve_whole(self, taken: Taken, serving: Serving, user: int) -> None:
        """See ``Place.take_whole``."""
        mine = taken.moved()
        self._run(lambda: self._serve_whole(mine, serving), user)

    def _run(self, work: Callable[[], Coroutine[None, None, None]], user: int) -> None:
        with self._lock:
            loop = self._loop or self._started()
        asyncio.run_coroutine_threadsafe(self._begin(work, user), loop)

    def _started(self) -> asyncio.AbstractEventLoop:
        loop = self._loop = asyncio.new_event_loop()
        threading.Thread(target=loop.run_forever, name="pump", daemon=True).start()
        return loop

    async def _begin(self, work: Callable[[], Coroutine[None, None, None]], user: int) -> None:
        task = asyncio.get_running_loop().create_task(work())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _task: self._followers.leave(user))

    async def _serve(self, taken: Taken, serving: Serving) -> None:
        follower = Follower(taken, self._helpers)
        try:
            work = asyncio.ensure_future(_whole(follower, serving))
            gone = asyncio.ensure_future(follower.until_gone())
            await asyncio.wait((work, gone), return_when=asyncio.FIRST_COMPLETED)
            for each in (work, gone):
                each.cancel()
            await asyncio.gather(work, gone, return_exceptions=True)
            if not work.cancelled() and (error := work.exception()) is not None:
                _tell(error)
        finally:
            follower.close()

    async def _serve_whole(self, taken: Taken, serving: Serving) -> None:
        follower = Follower(taken, self._helpers)
        try:
            await serving(follower)
        except Exception as error:
            # The outermost layer of this task.
            _tell(error)
        finally:
            follower.close()


class Place:
    """A follower's place in the pump. is_taken: whether there is a follower."""

    def __init__(self, pump: Pump, user: int) -> None:
        self._pump = pump
        self._user = user
        self.is_taken = False

    def take(self, taken: Taken, serving: Serving) -> None:
        """Serve a connection, whose head was sent, to its end. It is the pump's from here on."""
        self._pump.serve(taken, serving, self._user)
        self.is_taken = True

    def take_whole(self, taken: Taken, serving: Serving) -> None:
        """The same, where the client speaks, too: what it sends, and the end of it, are the serving's affair."""
        self._pump.serve_whole(taken, serving, self._user)
        self.is_taken = True


async def _whole(follower: Follower, serving: Serving) -> None:
    await serving(follower)
    await follower.end()


def _tell(error: BaseException) -> None:
    """Write down what ended a follower, unless it is the client itself: the client sees a body without an end."""
    if isinstance(error, Gone):
        return
    if isinstance(error, ShiplapError):
        _log.info("a stream ended: %s", error.message)
    else:
        _log.error("a stream ended", exc_info=error)
