"""The looks that a process of the service takes by itself, at the same time, and none longer than its bound.

Threads, and not processes as the command has: a web process has many threads and does not fork. So a look that hangs
goes on behind, until its connection gives up; the finding is then that there was no answer. That is why there is one
examination at a time, whose result is kept for everybody who looks.
"""

from __future__ import annotations

import concurrent.futures
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from core.settings import ServiceSettings
from pipelines.examination.findings import Finding, Look, careful
from pipelines.examination.hiding import hider
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
    """Takes the looks, and keeps what they found for a while. Thread-safe."""

    def __init__(self, settings: ServiceSettings, *, clock: Callable[[], float] = time.time) -> None:
        self._settings = settings
        self._clock = clock
        self._lock = threading.Lock()
        self._known: Examined | None = None

    def now(self) -> Examined:
        """As of now, or of some seconds ago."""
        with self._lock:
            if self._known is None or self._clock() - self._known.at > _KEPT_S:
                self._known = Examined(tuple(examine(looks_here(self._settings), self._settings)), self._clock())
            return self._known


def looks_here(settings: ServiceSettings) -> list[Look]:
    """The looks that need neither containers nor another host's answer."""
    return [
        Look("database", lambda: look_at_database(settings), _BOUND_S, "see SHIPLAP_DATABASE_URL"),
        Look("key of secrets", lambda: look_at_key(settings), _BOUND_S, f"copy it anew from {ORIGIN}"),
        Look("Redis", lambda: look_at_redis(settings), _BOUND_S, "see SHIPLAP_REDIS_URL"),
        Look("git's tools", lambda: look_at_git(settings), _BOUND_S, "apt-get install git openssh-client"),
        Look("disk", lambda: look_at_disk(settings), _BOUND_S, "see SHIPLAP_ROOT"),
    ]


def examine(looks: Sequence[Look], settings: ServiceSettings) -> list[Finding]:
    """What the looks find, in their order, without the secrets of the settings."""
    hide = hider(settings)
    pool = concurrent.futures.ThreadPoolExecutor(len(looks), "examination")
    started = [pool.submit(_findings, look) for look in looks]
    concurrent.futures.wait(started, timeout=max(look.bound_s for look in looks))
    pool.shutdown(wait=False, cancel_futures=True)
    found: list[Finding] = []
    for look, work in zip(looks, started, strict=True):
        silent = Finding(look.name, "FAILED", f"no answer within {look.bound_s:g} seconds", look.see)
        found += work.result() if work.done() and not work.cancelled() else [silent]
    return [finding._replace(detail=hide(finding.detail), remedy=hide(finding.remedy)) for finding in found]


def _findings(look: Look) -> list[Finding]:
    return list(careful(look))
