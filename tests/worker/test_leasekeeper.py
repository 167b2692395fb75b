"""What a worker holds on to a run by: through trouble of the database's own, but not against what others may know."""

from __future__ import annotations

import pytest

from builder.errors import BuildCancelledError
from pipelines.errors import (
    DatabaseDownError,
    DatabaseFullError,
    DatabaseUnreachableError,
    PipelineError,
    StaleAttemptError,
)
from pipelines.model import BuildOptions, Claim, ContextSource, Run
from pipelines.runs.claims import LEASE_S, Claims
from worker.leasekeeper import Keeper

RUN = Run(
    1, "default", "running", 0, 1, 3, "w", False, ContextSource("sha256:" + "0" * 64), BuildOptions(), (),
    0.0, 0.0, 0.0, None, "", None, 0, 0,
)  # fmt: skip


class TroubledClaims(Claims):
    """Whose every call raises ``error``, if that is one; and counts the renewals that came through."""

    def __init__(self, error: PipelineError | None = None, *, only_writes: bool = False) -> None:
        self.error = error
        self.only_writes = only_writes
        self.renewals = 0
        self.cancelled = False
        self.killed = False

    def renew(self, claim: Claim) -> None:
        if self.error is not None:
            raise self.error
        self.renewals += 1

    def why_cancelled(self, claim: Claim) -> str | None:
        if self.error is not None and not self.only_writes:
            raise self.error
        return "superseded by #6" if self.cancelled else None

    def is_killed(self, claim: Claim) -> bool:
        return self.killed


class Held:
    """A keeper that looks once a second of a clock of its own, without its thread."""

    def __init__(self, claims: Claims, timeout_s: float = 3600.0) -> None:
        self.now = 100.0
        self.keeper = Keeper(Claim(RUN, 1, 1, "w", 1), claims, timeout_s=timeout_s, clock=lambda: self.now)

    def look_on(self, seconds: float) -> str | None:
        """Why the build has to stop after this time, if it has to."""
        for _ in range(round(seconds)):
            self.now += 1
            self.keeper.look()
        return self.keeper.why


@pytest.mark.parametrize("only_writes", [True, False])
@pytest.mark.parametrize("error", [DatabaseFullError("full"), DatabaseDownError("starting up")])
def test_run_is_kept_while_the_database_serves_nobody(error: PipelineError, only_writes: bool) -> None:
    claims = TroubledClaims(error, only_writes=only_writes)
    held = Held(claims)
    assert held.look_on(10 * LEASE_S) is None
    claims.error = None
    held.look_on(1)
    assert claims.renewals == 1  # at once, before a reaper's lease can run out


def test_worker_cut_off_from_the_database_stops_before_others_may_begin() -> None:
    assert Held(TroubledClaims(DatabaseUnreachableError("no route to host"))).look_on(LEASE_S - 1) == "lost"


def test_short_silence_of_the_database_costs_nothing() -> None:
    claims = TroubledClaims(DatabaseUnreachableError("no answer"))
    held = Held(claims)
    for _ in range(5):
        claims.error = DatabaseUnreachableError("no answer")
        assert held.look_on(LEASE_S / 2) is None
        claims.error = None
        assert held.look_on(1) is None


def test_run_of_another_attempt_is_let_go_at_once() -> None:
    assert Held(TroubledClaims(StaleAttemptError("taken"))).look_on(4) == "lost"


def test_cancellation_and_timeout_stop_the_build() -> None:
    claims = TroubledClaims()
    held = Held(claims)
    assert held.look_on(5) is None
    claims.cancelled = True
    assert held.look_on(1) == "cancelled"
    assert held.keeper.told == "superseded by #6"
    assert held.keeper.stopped.is_set()
    assert not held.keeper.killed.is_set()
    claims.killed = True
    assert held.look_on(1) == "cancelled"
    assert held.keeper.killed.is_set()
    assert Held(TroubledClaims(), timeout_s=20).look_on(21) == "timeout"


def test_question_is_asked_until_the_database_answers_or_the_build_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.leasekeeper._PAUSE_S", 0.001)
    keeper = Held(TroubledClaims()).keeper
    answers: list[PipelineError | str] = [DatabaseDownError("away"), DatabaseUnreachableError("away"), "here"]

    def ask() -> str:
        answer = answers.pop(0)
        if isinstance(answer, PipelineError):
            raise answer
        return answer

    assert keeper.insist(ask) == "here"
    answers.append(DatabaseDownError("away"))
    keeper.stop("cancelled")
    with pytest.raises(BuildCancelledError):
        keeper.insist(ask)
