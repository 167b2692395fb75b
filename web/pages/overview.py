"""What home shows, gathered: projects as cards, what runs and waits, sums of days, health. Only what may be seen."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Collection, Sequence
from typing import Final, Literal, TypeAlias

import msgspec

from pipelines.accounts.roles import Rights
from pipelines.errors import DatabaseUnreachableError, QueueUnreachableError
from pipelines.model import Run
from pipelines.runs.listing import RunFilter
from pipelines.runs.rollups import DAY_S, days, ref_of, usual
from pipelines.runs.strips import Brief, Strip, strips
from pipelines.service import Service
from pipelines.sources.senders import user_sender
from web.guard.rights import seen_workers, visible

Show: TypeAlias = Literal["", "failing", "mine", "asks"]
SPAN: Final = 7
"""The days that the sums are about; they are compared with as many before."""

_LISTED: Final = 8
_CHIPS: Final = 2
_WELL: Final = ("succeeded", "warnings")


class Asked(msgspec.Struct, frozen=True):
    """A question to this user. place: of the gate among the run's jobs."""

    run: int
    place: int
    project: str
    name: str
    question: str
    since: float


class Ref(msgspec.Struct, frozen=True):
    """The newest run of a branch, tag or pull request, in a chip."""

    name: str
    state: str
    run: int


class Card(msgspec.Struct, frozen=True):
    """A project.

    run: that stands for it; None: it has none.
    why: of a failure, in one line.
    asks: what a gate of it asks this user; empty: nothing.
    refs: those of the last runs that are worth a chip: the newest first.
    """

    name: str
    strip: Strip
    run: Brief | None
    why: str
    asks: str
    refs: tuple[Ref, ...]
    is_mine: bool

    @property
    def state(self) -> str:
        """For the mark: that of a gate before that of the run."""
        if self.asks:
            return "blocked"
        return self.run.state if self.run else "none"


class Sums(msgspec.Struct, frozen=True):
    """The last ``SPAN`` days, and each day of twice that for a line. median_s: None where nothing ran."""

    runs: int
    succeeded: int
    steps: int
    reused: int
    median_s: float | None
    median_before_s: float | None
    lines: dict[str, list[float | None]]


class Health(msgspec.Struct, frozen=True):
    """Workers, queue and disk. oldest_at: since when the first of the queue waits; None: nobody waits.

    disk_used, disk_total: bytes; 0 for those who may not see it.
    """

    workers: int
    slots: int
    taken: int
    troubled: tuple[str, ...]
    waiting: int
    oldest_at: float | None
    queue_error: str
    disk_used: int
    disk_total: int

    @property
    def is_well(self) -> bool:
        full = self.disk_total and self.disk_used > 0.9 * self.disk_total
        return not (self.queue_error or self.troubled or full or (self.waiting and not self.slots))


def cards(service: Service, user: str, names: Sequence[str], gates: Sequence[Asked]) -> list[Card]:
    """The projects: failing ones first, then those that ask this user, that run, and by their last runs."""
    found = strips(service.database, names)
    asks = {each.project: each.question for each in reversed(gates)}
    failing = {strip.shown.number for strip in found.values() if strip.is_failing and strip.shown}
    reasons = {run.number: _why(run) for run in service.listing.numbered(failing)}
    made = [_card(name, found[name], user, asks.get(name, ""), reasons) for name in names]
    return sorted(made, key=_order)


def asked(service: Service, rights: Rights, user: str) -> list[Asked]:
    """The gates that this user may answer now, the newest first."""
    return [
        Asked(gate.run, gate.place, gate.project, gate.name, gate.question, gate.opened_at)
        for gate in service.gates.open(projects=rights.where("maintain"))
        if not service.gates.why_not(gate.run, gate.place, user)
    ]


def going(service: Service, seen: Collection[str] | None) -> tuple[list[Run], list[Run], list[Run]]:
    """The first runs that are blocked, that run, and that wait in the order in which they are taken."""
    blocked = service.listing.page(RunFilter(state="blocked"), limit=_LISTED, projects=seen).runs
    running = [run for run in service.listing.running() if seen is None or run.project in seen]
    shown = {run.number for run in running}  # a pipeline runs and waits at the same time
    waiting = [run for run in service.listing.waiting(projects=seen) if run.number not in shown]
    return list(blocked), running[:_LISTED], waiting[:_LISTED]


def sums(service: Service, seen: Collection[str] | None, now: float) -> Sums:
    """The sums of the last days."""
    today = int(now // DAY_S)
    first = today - SPAN + 1
    every = {day.day: day for day in days(service.database, today - 2 * SPAN + 1, projects=seen)}
    line = [every.get(day) for day in range(today - 2 * SPAN + 1, today + 1)]
    last = [day for day in every.values() if day.day >= first]
    return Sums(
        sum(day.runs for day in last), sum(day.succeeded for day in last),
        sum(day.steps for day in last), sum(day.reused for day in last),
        usual(service.database, first, projects=seen),
        usual(service.database, first - SPAN, before=first, projects=seen),
        {
            "rate": [_part(day.succeeded, day.runs) if day else None for day in line],
            "median": [day.median_s if day else None for day in line],
            "reused": [_part(day.reused, day.steps) if day else None for day in line],
        },
    )  # fmt: skip


def health(service: Service, rights: Rights, *, with_disk: bool) -> Health:
    """How the service is, as far as it concerns this user."""
    found = seen_workers(service, rights)
    alive = [worker for worker in found if worker.state != "lost"]
    seen = visible(rights)
    error = ""
    try:
        service.queue.ping()
    except QueueUnreachableError as unreachable:
        error = unreachable.message
    disk = shutil.disk_usage(service.settings.root) if with_disk else None
    waiting = service.listing.count("queued", projects=seen)
    return Health(
        len(alive), sum(worker.concurrency for worker in alive), sum(len(worker.runs) for worker in alive),
        tuple(f"{worker.name} is {worker.state}" for worker in found if worker.state in ("lost", "sick")),
        waiting, service.listing.oldest_waiting(projects=seen) if waiting else None, error,
        disk.used if disk else 0, disk.total if disk else 0,
    )  # fmt: skip


class Failing:
    """How many projects fail, for the mark on each page: looked up at most every few seconds. Thread-safe."""

    _KEPT_S: Final = 10.0

    def __init__(self, service: Service) -> None:
        self._service = service
        self._known: tuple[float, frozenset[str]] = (0.0, frozenset())

    def count(self, rights: Rights) -> int:
        """Of the projects that may be seen. While the database does not answer, as it was known last."""
        at, names = self._known
        if time.monotonic() - at > self._KEPT_S or not at:
            with contextlib.suppress(DatabaseUnreachableError):  # the page that says so has this mark, too
                every = [project.name for project in self._service.projects.current()]
                found = strips(self._service.database, every)
                names = frozenset(name for name, strip in found.items() if strip.is_failing)
            self._known = time.monotonic(), names
        seen = visible(rights)
        return len(names if seen is None else names & seen)


def _card(name: str, strip: Strip, user: str, asks: str, reasons: dict[int, str]) -> Card:
    run = strip.shown
    refs: dict[str, Ref] = {}
    for each in reversed(strip.runs):
        ref = ref_of(each.trigger)
        if ref is not None:
            shown = f"#{ref[1]}" if ref[0] == "pull" else ref[1]
            refs.setdefault(shown, Ref(shown, each.state, each.number))
    worth = sorted(refs.values(), key=lambda ref: ref.state not in ("failed", "error", "running", "blocked"))
    mine = any(each.trigger.by == user or each.trigger.sender == user_sender(user) for each in strip.runs)
    why = reasons.get(run.number, "") if run and strip.is_failing else ""
    return Card(name, strip, run, why, asks, tuple(worth[:_CHIPS]), mine)


def _order(card: Card) -> tuple[int, float, str]:
    newest = card.strip.newest
    rank = 0 if card.strip.is_failing else 1 if card.asks else 2 if newest and not newest.is_final else 3
    return rank, -(card.run.created_at if card.run else 0.0), card.name


def _why(run: Run) -> str:
    text = (run.result.error if run.result else "") or run.reason
    return text.strip().partition("\n")[0][:300]


def _part(some: int, of: int) -> float | None:
    return some / of if of else None
