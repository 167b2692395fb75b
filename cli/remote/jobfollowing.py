"""Follows several jobs of a run at once: the log of each as it grows, whichever prints next."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

from cli.remote.errors import RunLostError, ServerError, UnreachableServerError
from cli.remote.following import PATIENCE_S, UNAVAILABLE, Follower, Onlooker
from cli.remote.http import Client
from cli.remote.jobs import has_ended, has_log, list_jobs
from cli.remote.servers import Server
from pipelines.logs.lines import LogLine

_LOOK_S: Final = 1.0
_AT_ONCE: Final = 16  # each takes a connection, and one of the server's threads
_QUEUED: Final = 64  # batches, of some thousand lines at most


class Glance:
    """Asks for the jobs of a run, again and again, and bears that the server is away for a while.

    jobs: as they were when the server answered last. is_there: whether it answered the last time.
    """

    def __init__(self, run: int) -> None:
        self.jobs: list[dict[str, Any]] = []
        self.is_there = False
        self._run = run
        self._absent_since: float | None = None

    def look(self, client: Client) -> None:
        """Ask once. Raises RemoteErrors; RunLostError when the server has been away for a minute."""
        try:
            self.jobs = list_jobs(client, self._run)
        except (ServerError, UnreachableServerError) as error:
            if isinstance(error, ServerError) and error.status not in UNAVAILABLE:
                raise
            now = time.monotonic()
            self.is_there = False
            self._absent_since = self._absent_since or now
            if now - self._absent_since >= PATIENCE_S:
                raise RunLostError(
                    f"the server has been away for {PATIENCE_S:.0f} s; run {self._run} may go on there",
                    hint=f"shiplap runs logs -f {self._run} follows it again",
                ) from error
            return
        self.is_there, self._absent_since = True, None


class JobsFollower:
    """Follows jobs of one run to their end. For one thread, and once.

    wanted: whether a job is followed, as the API has it; also of jobs that come later.
    jobs: all jobs of the run, as they were when somebody looked last.
    """

    def __init__(
        self, server: Server, run: int, *, wanted: Callable[[dict[str, Any]], bool], onlooker: Onlooker | None = None
    ) -> None:
        self._glance = Glance(run)
        self._server = server
        self._run = run
        self._wanted = wanted
        self._onlooker = _Shared(onlooker)
        self._came: queue.Queue[tuple[str, list[LogLine] | Exception | None]] = queue.Queue(_QUEUED)
        self._followed: set[int] = set()
        self._busy = 0

    @property
    def jobs(self) -> list[dict[str, Any]]:
        return self._glance.jobs

    def lines(self) -> Iterator[tuple[str, LogLine]]:
        """Each line once, with its job's name; those of a job in order. Raises RemoteErrors as ``Follower`` does."""
        looked_at = 0.0
        with Client(self._server) as client:
            while True:
                if not looked_at or time.monotonic() - looked_at >= _LOOK_S:
                    self._glance.look(client)
                    looked_at = time.monotonic()
                    self._begin()
                    if self._is_over() and self._glance.is_there:
                        return
                try:
                    name, what = self._came.get(timeout=_LOOK_S / 5)
                except queue.Empty:
                    continue
                if isinstance(what, Exception):
                    raise what
                if what is None:
                    self._busy -= 1
                    looked_at = 0.0  # what comes after it may have begun
                else:
                    yield from ((name, line) for line in what)

    def _begin(self) -> None:
        """Follow what has begun, as far as there is room: the others get theirs when one of these has ended."""
        for job in self.jobs:
            if self._busy >= _AT_ONCE:
                return
            if self._wanted(job) and has_log(job) and job["place"] not in self._followed:
                self._followed.add(job["place"])
                self._busy += 1
                arguments = (job["place"], job["name"])
                threading.Thread(target=self._follow, args=arguments, name=f"job {job['place']}", daemon=True).start()

    def _is_over(self) -> bool:
        wanted = [job for job in self.jobs if self._wanted(job)]
        left = [job for job in wanted if has_log(job) and job["place"] not in self._followed]
        return not self._busy and not left and all(map(has_ended, wanted))

    def _follow(self, place: int, name: str) -> None:
        try:
            for batch in Follower(self._server, self._run, job=place, onlooker=self._onlooker).batches():
                self._came.put((name, batch))
        except Exception as error:  # whatever it is, who waits for lines is to learn of it
            self._came.put((name, error))
        finally:
            self._came.put((name, None))


class _Shared:
    """One onlooker of several followers, who is told once that the server is away, and once that it is back."""

    def __init__(self, onlooker: Onlooker | None) -> None:
        self._onlooker = onlooker
        self._lock = threading.Lock()
        self._is_away = False

    def away(self, text: str) -> None:
        with self._lock:
            if not self._is_away and self._onlooker is not None:
                self._onlooker.away(text)
            self._is_away = True

    def back(self) -> None:
        with self._lock:
            if self._is_away and self._onlooker is not None:
                self._onlooker.back()
            self._is_away = False
