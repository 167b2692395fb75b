"""The looks that a process of the service takes by itself, at the same time, and none longer than its bound.

Threads, and not processes as the command has: a web process has many threads and does not fork. So a look that hangs
goes on behind, until its connection gives up; the finding is then that there was no answer. That is why there is one
examination at a time, whose result is kept for everybody who looks, and why a look that still hangs is not taken again.
No thread of a look keeps the process from ending.
"""

from __future__ import annotations

import concurrent.futures
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from typing import Final, NamedTuple

from core.settings import ServiceSettings
from pipelines.examination.findings import Finding, Look, careful
from pipelines.examination.hiding import Hider, hider
from pipelines.examination.host import look_at_disk, look_at_git
from pipelines.examination.stores import look_at_database, look_at_key, look_at_redis
from pipelines.keys.keynumbers import ORIGIN

_BOUND_S: Final = 5.0
_KEPT_S: Final = 20.0


class Examined(NamedTuple):
    """What was found, without secrets. at: when, in seconds since the epoch."""

    findings: tuple[Finding, ...]
    at: float


class Examiner:
    """Takes the looks, and keeps what they found for a while. Thread-safe. looks: instead of ``looks_here``."""

    def __init__(
        self, settings: ServiceSettings, looks: Sequence[Look] = (), *, clock: Callable[[], float] = time.time
    ) -> None:
        self._looks = looks or looks_here(settings)
        self._hide: Callable[[], Hider] = lambda: hider(settings)
        self._clock = clock
        self._going: dict[str, Future[list[Finding]]] = {}
        self._lock = threading.Lock()
        self._known: Examined | None = None

    def now(self) -> Examined:
        """As of now, or of some seconds ago."""
        with self._lock:
            if self._known is None or self._clock() - self._known.at > _KEPT_S:
                hide, found = self._hide(), self._examine()
                hidden = [each._replace(detail=hide(each.detail), remedy=hide(each.remedy)) for each in found]
                self._known = Examined(tuple(hidden), self._clock())
            return self._known

    def _examine(self) -> Iterable[Finding]:
        """What the looks find, in their order."""
        going = {name: work for name, work in self._going.items() if not work.done()}
        self._going = {look.name: going.get(look.name) or _begun(look) for look in self._looks}
        fresh = [work for name, work in self._going.items() if name not in going]
        concurrent.futures.wait(fresh, timeout=max(look.bound_s for look in self._looks))
        for look in self._looks:
            work = self._going[look.name]
            if not work.done():
                yield Finding(look.name, "FAILED", f"no answer within {look.bound_s:g} seconds", look.see)
            elif (error := work.exception()) is not None:
                yield Finding(look.name, "FAILED", f"{type(error).__name__}: {error}", look.see)
            else:
                yield from work.result()


def looks_here(settings: ServiceSettings) -> list[Look]:
    """The looks that need neither containers nor another host's answer."""
    return [
        Look("database", lambda: look_at_database(settings), _BOUND_S, "see SHIPLAP_DATABASE_URL"),
        Look("key of secrets", lambda: look_at_key(settings), _BOUND_S, f"copy it anew from {ORIGIN}"),
        Look("Redis", lambda: look_at_redis(settings), _BOUND_S, "see SHIPLAP_REDIS_URL"),
        Look("git's tools", lambda: look_at_git(settings), _BOUND_S, "apt-get install git openssh-client"),
        Look("disk", lambda: look_at_disk(settings), _BOUND_S, "see SHIPLAP_ROOT"),
    ]


def _begun(look: Look) -> Future[list[Finding]]:
    """A look that a thread of its own takes."""
    found: Future[list[Finding]] = Future()

    def work() -> None:
        try:
            found.set_result(list(careful(look)))
        except BaseException as error:
            found.set_exception(error)

    threading.Thread(target=work, name=f"looks at {look.name}", daemon=True).start()
    return found
