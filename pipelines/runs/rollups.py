"""Roll-ups, so that pages answer at once however many runs there are: sums of days, and the newest run of each ref.

Both are kept in the transaction that changes the runs. A run is counted once, when it ends; removing it takes nothing
back, so trends outlive the runs. A transaction ends one run, or several of one project once all else of these is
written. It takes the day's row and then the counters' last: no two wait in a circle.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import msgspec
from sqlalchemy import ColumnElement, func, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection

from pipelines.counters import count_run
from pipelines.database import Database
from pipelines.model import FINAL_STATES, AnyRunState, Run, Trigger
from pipelines.schema import heads, jobs, project_day_times, project_days, runs

DAY_S: Final = 86400
RefKind: TypeAlias = Literal["branch", "tag", "pull"]

_GROWTH: Final = math.log(1.1)
_SHORTEST_S: Final = 0.05
_MAX_BUCKET: Final = 200  # the 200th ends at 107 days
_LONGEST_NAME: Final = 255
_DONE: Final = ("succeeded", "failed")
_triggers: Final = msgspec.json.Decoder(Trigger)


class Day(msgspec.Struct, frozen=True):
    """The runs of one day (UTC) that ended on it, of a project or of several.

    day: since the epoch.
    runs: that a worker took and that were not cancelled: the sum of ``succeeded``, ``failed`` and ``errors``.
    median_s, slow_s: half of the runs, and 95 of 100, took no longer; within 5 %. None: there were none.
    steps: of builds, and jobs of pipelines, that ran or were answered by a cache; reused: those that were answered.
    waited_s: on average, until a worker took a run.
    """

    day: int
    runs: int
    succeeded: int
    failed: int
    errors: int
    cancelled: int
    median_s: float | None
    slow_s: float | None
    steps: int
    reused: int
    waited_s: float


class Head(msgspec.Struct, frozen=True):
    """The newest run of a branch, tag or pull request. name: of the pull request: its number."""

    kind: RefKind
    name: str
    run: int
    state: AnyRunState
    created_at: float
    finished_at: float | None
    trigger: Trigger


class Lasted(NamedTuple):
    """What a run that ended adds to its day."""

    state: AnyRunState
    ended_at: float
    duration_s: float | None
    waited_s: float
    steps: int
    reused: int


def bucket_of(duration_s: float) -> int:
    """The bucket of a duration: each reaches a tenth further than the one before it."""
    return min(_MAX_BUCKET, max(0, math.ceil(math.log(max(duration_s, _SHORTEST_S) / _SHORTEST_S) / _GROWTH)))


def duration_of(bucket: int) -> float:
    """The middle of a bucket, in seconds."""
    return _SHORTEST_S * math.exp(_GROWTH * (bucket - 0.5)) if bucket else _SHORTEST_S


def ref_of(trigger: Trigger) -> tuple[RefKind, str] | None:
    """What a run is a run of; None for what is neither of a branch, nor of a tag, nor of a pull request."""
    if trigger.pull_request:
        return "pull", str(trigger.pull_request)
    if trigger.tag:
        return "tag", trigger.tag[:_LONGEST_NAME]
    return ("branch", trigger.branch[:_LONGEST_NAME]) if trigger.branch else None


def note_head(connection: Connection, project: str, number: int, trigger: Trigger) -> None:
    """This run is the newest of its branch, tag or pull request, unless one that was made after it came first."""
    ref = ref_of(trigger)
    if ref is None:
        return
    key = {"project": project, "kind": ref[0], "name": ref[1]}
    _put(connection, heads, key, {"run": number}, {"run": number}, heads.c.run < number)


def note_end(connection: Connection, run: Run) -> None:
    """Count a run that has ended, unless it is counted."""
    first = update(runs).where(runs.c.number == run.number, runs.c.is_counted.is_(False)).values(is_counted=True)
    if not connection.execute(first).rowcount:
        return
    steps, reused = (run.result.executed + run.result.cached, run.result.cached) if run.result else (0, 0)
    counted = connection.execute(_jobs_of(run.number)).one()
    ended = run.finished_at or run.created_at
    began = run.started_at
    add_day(
        connection,
        run.project,
        Lasted(
            run.state,
            ended,
            None if began is None else max(0.0, ended - began),
            0.0 if began is None else max(0.0, began - run.created_at),
            steps + counted.done,
            reused + counted.reused,
        ),
    )
    count_run(connection, run.number)


def add_day(connection: Connection, project: str, ended: Lasted) -> None:
    """Add a run to the day on which it ended. One that nobody took counts as cancelled, or not at all."""
    day = int(ended.ended_at // DAY_S)
    key = {"project": project, "day": day}
    took = ended.duration_s is not None and ended.state != "cancelled"
    more: dict[str, float] = {
        "succeeded": int(took and ended.state in ("succeeded", "warnings")),
        "failed": int(took and ended.state == "failed"),
        "errors": int(took and ended.state == "error"),
        "cancelled": int(ended.state == "cancelled"),
        "steps": ended.steps if took else 0,
        "reused": ended.reused if took else 0,
        "waited_s": ended.waited_s if took else 0.0,
    }
    _put(connection, project_days, key, more, {name: project_days.c[name] + value for name, value in more.items()})
    if took and ended.duration_s is not None:
        times = {**key, "bucket": bucket_of(ended.duration_s)}
        _put(connection, project_day_times, times, {"runs": 1}, {"runs": project_day_times.c.runs + 1})


def days(database: Database, first: int, *, projects: Collection[str] | None = None) -> list[Day]:
    """The days from ``first`` on on which a run ended, the oldest first. projects: None means all of them together."""
    sums = ("succeeded", "failed", "errors", "cancelled", "steps", "reused", "waited_s")
    columns = [func.sum(project_days.c[name]).label(name) for name in sums]
    wanted = select(project_days.c.day, *columns).where(project_days.c.day >= first)
    wanted = wanted.where(*_of(project_days, projects)).group_by(project_days.c.day).order_by(project_days.c.day)
    spread = select(project_day_times.c.day, project_day_times.c.bucket, func.sum(project_day_times.c.runs))
    spread = spread.where(project_day_times.c.day >= first, *_of(project_day_times, projects))
    spread = spread.group_by(project_day_times.c.day, project_day_times.c.bucket)
    with database.read() as connection:
        rows = connection.execute(wanted).all()
        times: dict[int, dict[int, int]] = {}
        for day, bucket, count in connection.execute(spread):
            times.setdefault(day, {})[bucket] = int(count)
    return [_day(row, times.get(row.day, {})) for row in rows]


def usual(
    database: Database, first: int, *, projects: Collection[str] | None = None, before: int | None = None
) -> float | None:
    """The time that half of the runs took no longer than that ended from the day ``first`` on; None: none did.

    before: only of earlier days than this.
    """
    wanted = select(project_day_times.c.bucket, func.sum(project_day_times.c.runs))
    wanted = wanted.where(project_day_times.c.day >= first, *_of(project_day_times, projects))
    if before is not None:
        wanted = wanted.where(project_day_times.c.day < before)
    with database.read() as connection:
        found = connection.execute(wanted.group_by(project_day_times.c.bucket)).all()
    return quantile({bucket: int(count) for bucket, count in found}, 0.5)


def heads_of(
    database: Database,
    project: str,
    kinds: Sequence[RefKind],
    *,
    after: int | None = None,
    limit: int = 50,
    text: str = "",
) -> list[Head]:
    """The newest runs of a project's refs, the newest first. after: only older runs than this. text: in the name."""
    columns = (heads.c.kind, heads.c.name, runs.c.number, runs.c.state, runs.c.created_at, runs.c.finished_at)
    wanted = select(*columns, runs.c.trigger).join(runs, runs.c.number == heads.c.run)
    wanted = wanted.where(heads.c.project == project, heads.c.kind.in_(kinds))
    if after is not None:
        wanted = wanted.where(heads.c.run < after)
    if text:
        wanted = wanted.where(heads.c.name.icontains(text, autoescape=True))
    with database.read() as connection:
        rows = connection.execute(wanted.order_by(heads.c.run.desc()).limit(limit)).all()
    return [
        Head(row.kind, row.name, row.number, row.state, row.created_at, row.finished_at, _triggers.decode(row.trigger))
        for row in rows
    ]


def count_heads(database: Database, project: str) -> dict[str, int]:
    """How many branches, tags and pull requests of a project have runs, by kind."""
    wanted = select(heads.c.kind, func.count()).where(heads.c.project == project).group_by(heads.c.kind)
    with database.read() as connection:
        return {row[0]: int(row[1]) for row in connection.execute(wanted)}


def find_heads(
    database: Database, text: str, *, projects: Collection[str] | None = None, limit: int = 5
) -> list[tuple[str, RefKind, str, int]]:
    """Project, kind, name and newest run of refs whose name has the text, the newest first."""
    columns = (heads.c.project, heads.c.kind, heads.c.name, heads.c.run)
    wanted = select(*columns).where(heads.c.name.icontains(text, autoescape=True), heads.c.kind != "pull")
    with database.read() as connection:
        rows = connection.execute(wanted.where(*_of(heads, projects)).order_by(heads.c.run.desc()).limit(limit))
        return [(row.project, row.kind, row.name, row.run) for row in rows]


def quantile(buckets: dict[int, int], part: float) -> float | None:
    """The duration that this part of the runs took no longer than. buckets: how many runs each has."""
    wanted = part * sum(buckets.values())
    passed = 0
    for bucket in sorted(buckets):
        passed += buckets[bucket]
        if passed >= wanted:
            return duration_of(bucket)
    return None


def _day(row: Any, times: dict[int, int]) -> Day:
    count = int(row.succeeded + row.failed + row.errors)
    return Day(
        row.day, count, int(row.succeeded), int(row.failed), int(row.errors), int(row.cancelled),
        quantile(times, 0.5), quantile(times, 0.95), int(row.steps), int(row.reused),
        float(row.waited_s) / count if count else 0.0,
    )  # fmt: skip


def _jobs_of(run: int) -> Any:
    """How many of a pipeline's jobs are done, and of these were reused."""
    its = (jobs.c.run == run, jobs.c.kind == "job", jobs.c.state.in_((*_DONE, "reused")))
    reused = func.count().filter(jobs.c.state == "reused").label("reused")
    return select(func.count().label("done"), reused).where(*its)


def _of(table: Any, projects: Collection[str] | None) -> Iterable[ColumnElement[bool]]:
    return [] if projects is None else [table.c.project.in_(projects)]


def _put(
    connection: Connection,
    table: Any,
    key: dict[str, Any],
    new: dict[str, Any],
    changed: dict[str, Any],
    only: ColumnElement[bool] | None = None,
) -> None:
    """Insert a row, or change the one that has this key, whoever else does the same at this moment.

    only: the row is changed if it is so.
    """
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    statement = insert(table).values({**key, **new})
    connection.execute(statement.on_conflict_do_update(index_elements=list(key), set_=changed, where=only))


assert {"succeeded", "warnings", "failed", "error", "cancelled"} == FINAL_STATES
