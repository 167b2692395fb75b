"""The lease keeper: keeps a claim alive while its build runs, and says when and why the build has to stop."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Final, Literal, Self, TypeAlias, TypeVar

from builder.errors import BuildCancelledError
from pipelines.errors import DatabaseDownError, DatabaseUnreachableError, SchemaError, StaleAttemptError
from pipelines.model import Claim
from pipelines.runs.claims import LEASE_S, RENEW_S, WATCH_S, Claims

T = TypeVar("T")
Stop: TypeAlias = Literal["cancelled", "timeout", "lost", "interrupted"]
_SELF_FENCE_S: Final = LEASE_S - RENEW_S  # stop before others take the run: they may reach the database when we cannot
_PAUSE_S: Final = 0.5
_log = logging.getLogger(__name__)


class Keeper:
    """Keeps one claim, by a thread, as a context manager.

    stopped: set once the build has to end; ``why`` says the reason.
    killed: set once it has to end at once: its run was cancelled a second time, or another attempt does it anyway.
    told: why a cancelled run was cancelled, for people.
    """

    def __init__(
        self, claim: Claim, claims: Claims, *, timeout_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.stopped = threading.Event()
        self.killed = threading.Event()
        self.told = "cancelled"
        self._claim = claim
        self._claims = claims
        self._clock = clock
        self._deadline = clock() + timeout_s
        self._why: Stop | None = None
        self._renewed_at = self._held_at = clock()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"keeper of run {claim.run.number}", daemon=True)

    @property
    def why(self) -> Stop | None:
        return self._why

    def stop(self, why: Stop) -> None:
        """End the build. The first reason counts, but "lost" overrides any other."""
        if self._why is None or why == "lost":
            self._why = why
        self.stopped.set()
        if why in ("lost", "interrupted"):
            self.killed.set()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()

    def insist(self, ask: Callable[[], T]) -> T:
        """Ask the database, however long it is away, and return its answer. ``ask`` must be safe to repeat.

        Raises what else ``ask`` raises, and BuildCancelledError once the build has to stop.
        """
        while True:
            try:
                return ask()
            except DatabaseUnreachableError as error:
                _log.warning("run %d waits for the database: %s", self._claim.run.number, error)
                if self.stopped.wait(_PAUSE_S):
                    raise BuildCancelledError("the build was stopped while the database was away") from error

    def look(self) -> None:
        """Renew the lease when that is due, and check whether the build has to stop."""
        now = self._clock()
        try:
            if now - self._renewed_at >= RENEW_S:
                self._claims.renew(self._claim)
                self._renewed_at = now
            told = self._claims.why_cancelled(self._claim)
            if told is not None:
                self.told = told
                self.stop("cancelled")
                if self._claims.is_killed(self._claim):
                    self.killed.set()
            self._held_at = now
        except StaleAttemptError:
            self.stop("lost")
        except DatabaseDownError as error:  # while it is down nobody else can be given the run
            _log.warning("run %d: %s", self._claim.run.number, error)
            self._held_at = now
        except (DatabaseUnreachableError, SchemaError) as error:
            _log.warning("run %d: %s", self._claim.run.number, error)
            if now - self._held_at > _SELF_FENCE_S:
                self.stop("lost")
        if now >= self._deadline:
            self.stop("timeout")

    def _run(self) -> None:
        while not self._done.wait(WATCH_S) and self._why != "lost":
            self.look()
