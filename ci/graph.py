"""The states of a run's jobs, and how one that ends moves the others on. Pure: whoever ends a job calls it.

The service calls ``advance`` in the transaction that ends a job, ``shiplap ci run`` in memory. There is no coordinator
that could be away, and a state that is not there cannot be lost.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Literal, Protocol, TypeAlias

from msgspec import Struct

from ci.model import After, WhenBusy

State: TypeAlias = Literal[
    "waiting",
    "blocked",
    "queued",
    "running",
    "succeeded",
    "reused",
    "failed",
    "skipped",
    "left out",
    "cancelled",
    "error",
]
RunState: TypeAlias = Literal["queued", "running", "blocked", "cancelled", "error", "failed", "succeeded"]
Stop: TypeAlias = Literal["", "ending", "now"]
"""Whether a run is being ended: not at all; cancelled, late or stopped by a failure; cancelled a second time."""
JobStop: TypeAlias = Literal["", "with", "term", "now"]
"""Whether a job is being ended: not at all; because something that it needs was; it was cancelled; and once more."""

ENDED: Final[frozenset[State]] = frozenset(
    {"succeeded", "reused", "failed", "skipped", "left out", "cancelled", "error"}
)
STARTED: Final[frozenset[State]] = frozenset({"running", "succeeded", "reused", "failed", "error"})
_WENT_WRONG: Final[frozenset[State]] = frozenset({"failed", "error"})


class JobNode(Struct, frozen=True):
    """A job of a run, as far as its place in the graph goes.

    needs: names of jobs of the same run.
    matrix: the job of the file, when it has a matrix; empty: none.
    has_run: it was taken by a worker at least once; a job may be cancelled afterwards.
    stop: whether this job is being ended, whatever its run is.
    is_gate: people do it: when its turn has come it is blocked until they have answered.
    group: of which only ``limit`` go on at once: when its turn has come it is blocked until it has a place there
        (``ci.groups``); empty: none.
    """

    name: str
    state: State = "waiting"
    needs: tuple[str, ...] = ()
    after: After = "success"
    may_fail: bool = False
    matrix: str = ""
    max_parallel: int | None = None
    fail_fast: bool = False
    has_run: bool = False
    stop: JobStop = ""
    is_gate: bool = False
    group: str = ""
    limit: int = 1
    when_busy: WhenBusy = "wait"


class HasNeeds(Protocol):
    """A job that knows what it needs."""

    @property
    def name(self) -> str: ...

    @property
    def needs(self) -> tuple[str, ...]: ...


class RunOutcome(Struct, frozen=True):
    """What a run is. has_warnings: a failure was allowed."""

    state: RunState
    has_warnings: bool = False

    @property
    def has_ended(self) -> bool:
        return self.state in ("cancelled", "error", "failed", "succeeded")


def advance(
    jobs: Sequence[JobNode], *, stop: Stop = "", stop_on_failure: bool = False, is_held: bool = False
) -> dict[str, State]:
    """The states that change because of those that there are. Nothing changes when it is called with them again.

    jobs: all of a run, in the order of the file. Running jobs never change here: who runs one ends it, and asks
    ``to_be_ended`` whether it should. Nor do gates that are blocked, unless they are to end: people answer.
    is_held: the whole run waits for its group: nothing begins.
    """
    return _Advance(jobs, _stop(jobs, stop, stop_on_failure), is_held=is_held).changes()


def to_be_ended(jobs: Sequence[JobNode], *, stop: Stop = "", stop_on_failure: bool = False) -> list[str]:
    """Names of the running jobs that are to get SIGTERM."""
    how = _stop(jobs, stop, stop_on_failure)
    nodes = {job.name: job for job in jobs}
    states = {job.name: job.state for job in jobs}
    lost = _lost_matrices(jobs)
    return [
        job.name
        for job in jobs
        if job.state == "running" and (_is_stopped(job, how, nodes, states) or job.matrix in lost)
    ]


def with_those_after(jobs: Sequence[HasNeeds], names: Iterable[str]) -> frozenset[str]:
    """These jobs, and all that need one of them, directly or not."""
    wanted = frozenset(names)
    return frozenset(name for name, before in jobs_before(jobs).items() if name in wanted or before & wanted)


def outcome(jobs: Sequence[JobNode]) -> RunOutcome:
    """The state of a run, from those of its jobs."""
    states = [job.state for job in jobs]
    has_warnings = any(job.state == "failed" and job.may_fail for job in jobs)
    if all(state in ENDED for state in states):
        if "cancelled" in states:
            return RunOutcome("cancelled", has_warnings)
        if "error" in states:
            return RunOutcome("error", has_warnings)
        is_failed = any(job.state == "failed" and not job.may_fail for job in jobs)
        return RunOutcome("failed" if is_failed else "succeeded", has_warnings)
    has_begun = any(job.has_run or job.state in STARTED for job in jobs)
    if "running" in states or ("queued" in states and has_begun):
        return RunOutcome("running", has_warnings)
    if "queued" in states:
        return RunOutcome("queued", has_warnings)
    return RunOutcome("blocked" if "blocked" in states else "running", has_warnings)


def jobs_before(jobs: Sequence[HasNeeds]) -> dict[str, frozenset[str]]:
    """By job, in the order of the file, all that have to end before it: what it needs, what that needs, and so on."""
    needs = {planned.name: planned.needs for planned in jobs}
    found: dict[str, frozenset[str]] = {}
    for start in needs:
        waiting = [start]
        while waiting:
            name = waiting[-1]
            missing = [need for need in needs[name] if need not in found]
            if missing:
                waiting += missing
                continue
            found[name] = frozenset(needs[name]).union(*(found[need] for need in needs[name]))
            waiting.pop()
    return {name: found[name] for name in needs}


def _stop(jobs: Sequence[JobNode], stop: Stop, stop_on_failure: bool) -> Stop:
    if not stop and stop_on_failure and any(job.state in _WENT_WRONG and not job.may_fail for job in jobs):
        return "ending"
    return stop


def _is_stopped(job: JobNode, of_run: Stop, nodes: Mapping[str, JobNode], states: Mapping[str, State]) -> bool:
    """Whether a job that has not ended is to end."""
    if of_run == "now" or job.stop in ("term", "now"):
        return True
    return bool(of_run or job.stop) and not _goes_on(job, nodes, states)


def _lost_matrices(jobs: Sequence[JobNode]) -> frozenset[str]:
    """Matrices one of whose jobs failed, and whose others are not to go on then."""
    return frozenset(
        job.matrix for job in jobs if job.matrix and job.fail_fast and job.state in _WENT_WRONG and not job.may_fail
    )


def _goes_on(job: JobNode, nodes: Mapping[str, JobNode], states: Mapping[str, State]) -> bool:
    """Whether a job is done although the run is being ended: it cleans up after something that has begun."""
    return job.after == "always" and any(nodes[need].has_run or states[need] in STARTED for need in job.needs)


class _Advance:
    """One call of ``advance``: states settle one after the other, each from those before it."""

    def __init__(self, jobs: Sequence[JobNode], stop: Stop, *, is_held: bool) -> None:
        self._is_held = is_held
        self._jobs = jobs
        self._stop = stop
        self._nodes = {job.name: job for job in jobs}
        self._states: dict[str, State] = {job.name: job.state for job in jobs}
        self._before: dict[str, frozenset[str]] = {}
        self._lost = _lost_matrices(jobs)

    def changes(self) -> dict[str, State]:
        for name in self._in_order():
            needs = self._nodes[name].needs
            self._before[name] = frozenset(needs).union(*(self._before[need] for need in needs))
            state = self._settled(self._nodes[name])
            if state is not None:
                self._states[name] = state
        return {job.name: self._states[job.name] for job in self._jobs if self._states[job.name] != job.state}

    def _in_order(self) -> list[str]:
        """Names with what each needs before it; among those that do not need each other, the order of the file."""
        found: dict[str, None] = {}
        for start in self._nodes:
            waiting = [start]
            while waiting:
                name = waiting[-1]
                missing = next((need for need in self._nodes[name].needs if need not in found), None)
                if missing is None:
                    found.setdefault(name)
                    waiting.pop()
                else:
                    waiting.append(missing)
        return list(found)

    def _settled(self, job: JobNode) -> State | None:
        """The state that a job takes now; None: it stays as it is."""
        if job.state in ENDED or job.state == "running":
            return None
        if _is_stopped(job, self._stop, self._nodes, self._states) or job.matrix in self._lost:
            return "cancelled"
        # All before it, not only its needs: one that was cancelled while it waited ends before what it waited for.
        if (
            self._is_held
            or job.state != "waiting"
            or not all(self._states[other] in ENDED for other in self._before[job.name])
        ):
            return None
        if not self._may_start(job):
            return "skipped"
        if job.is_gate:
            return "blocked"
        if not self._has_room(job):
            return None
        return "blocked" if job.group else "queued"

    def _may_start(self, job: JobNode) -> bool:
        if job.after == "always":
            return True
        before = [self._nodes[name] for name in self._before[job.name]]
        if job.after == "failure":
            return any(self._states[other.name] in _WENT_WRONG and not other.may_fail for other in before)
        return all(self._is_good(other) for other in before)

    def _is_good(self, job: JobNode) -> bool:
        state = self._states[job.name]
        return state in ("succeeded", "reused") or (state == "failed" and job.may_fail)

    def _has_room(self, job: JobNode) -> bool:
        if not job.matrix or job.max_parallel is None:
            return True
        busy = [other for other in self._jobs if other.matrix == job.matrix]
        return sum(self._states[other.name] in ("blocked", "queued", "running") for other in busy) < job.max_parallel
