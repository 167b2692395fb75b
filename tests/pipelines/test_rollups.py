"""Roll-ups and totals: each run counts once, when it ends, and a migration counts what there was before."""

from __future__ import annotations

import time
from typing import Any, Final

import pytest
from sqlalchemy import delete, event, select, update

from pipelines import counters as counting
from pipelines.accounts.preferences import Look, Preferences, View
from pipelines.counters import remove_runs
from pipelines.errors import InvalidRequestError, NotFoundError
from pipelines.metrics import snapshot
from pipelines.migrations.versions import v0023_rollups, v0030_totals
from pipelines.model import ContextSource, RunRequest, RunResult, RunState, Trigger
from pipelines.runs.claims import Claims
from pipelines.runs.rollups import (
    DAY_S,
    bucket_of,
    count_heads,
    days,
    duration_of,
    find_heads,
    heads_of,
    note_end,
    note_head,
    usual,
)
from pipelines.runs.rows import run_from_row, select_runs
from pipelines.runs.runs import Runs
from pipelines.runs.strips import branch_strips, strips
from pipelines.schema import counters, heads, jobs, project_day_times, project_days, runs, steps
from pipelines.service import Service
from tests.pipelines.test_pipelines import SOURCE, claimed, node, pipeline, write

_CONTEXT = ContextSource("sha256:" + "0" * 64)
_STEP: Final = {"stage": "", "line": 1, "reason": "", "duration_s": 0.0, "first_line": 0, "last_line": 0}
_PUSH = Trigger(kind="push", by="ada", branch="main")
_PULL = Trigger(kind="pull_request", by="ada", branch="main", pull_request=7, fork=True)


def played(
    service: Service, project: str, state: RunState, took_s: float, *, ago_s: float = 60.0, trigger: Trigger = _PUSH
) -> int:
    """A run that waited for two seconds."""
    began = time.time() - ago_s - took_s
    parts = (service.database, service.queue, service.workers, service.order, service.secrets, service.borders)
    run = Runs(*parts, clock=lambda: began - 2).submit(RunRequest(_CONTEXT, project), trigger)
    claim = Claims(service.database, service.live, clock=lambda: began).take("w", ())
    assert claim is not None
    result = RunResult(executed=1, cached=3) if state == "succeeded" else RunResult()
    ends = Claims(service.database, service.live, clock=lambda: began + took_s)
    ends.finish(claim, state, "", result, store=lambda connection: None)
    return run.number


def test_a_day_has_the_sums_of_the_runs_that_ended_on_it(service: Service) -> None:
    for took_s in (10.0, 20.0, 30.0):
        played(service, "web", "succeeded", took_s)
    last = played(service, "web", "failed", 100.0)
    played(service, "tide", "error", 5.0)
    service.runs.cancel(service.runs.submit(RunRequest(_CONTEXT, "web")).number)
    first = int(time.time() // DAY_S) - 1
    found = days(service.database, first, projects=["web"])
    names = ("runs", "succeeded", "failed", "errors", "cancelled", "steps", "reused")
    assert [sum(getattr(day, name) for day in found) for name in names] == [4, 3, 1, 0, 1, 12, 9]
    assert found[0].waited_s == pytest.approx(2.0, abs=0.1)
    assert sum(day.runs for day in days(service.database, first)) == 5
    assert days(service.database, first, projects=[]) == []
    assert usual(service.database, first, projects=["web"]) == pytest.approx(20.0, rel=0.06)
    with service.database.write() as connection:  # whoever ends it again counts nothing
        note_end(connection, run_from_row(connection.execute(select_runs().where(runs.c.number == last)).one()))
        connection.execute(delete(runs))
    assert sum(day.runs for day in days(service.database, first)) == 5
    assert heads_of(service.database, "web", ["branch"]) == []


def test_durations_are_kept_within_five_per_cent() -> None:
    for seconds in (0.06, 0.5, 1.0, 59.0, 3600.0, 86400.0):
        assert duration_of(bucket_of(seconds)) == pytest.approx(seconds, rel=0.051)
    assert bucket_of(0.0) == bucket_of(-1.0) == 0
    assert bucket_of(1e12) == 200


def test_what_a_migration_counts_is_what_was_counted(service: Service) -> None:
    played(service, "web", "succeeded", 10.0)
    played(service, "web", "failed", 70.0, trigger=_PULL)
    played(service, "tide", "error", 0.2, ago_s=3 * DAY_S, trigger=Trigger(kind="tag", tag="v1"))
    service.runs.cancel(service.runs.submit(RunRequest(_CONTEXT, "tide"), _PUSH).number)
    tables = (project_days, project_day_times, heads)
    with service.database.write() as connection:
        before = [sorted(tuple(row) for row in connection.execute(select(table))) for table in tables]
        for table in tables:
            connection.execute(delete(table))
        connection.execute(update(runs).values(is_counted=False))
        v0023_rollups._count(connection)
        after = [sorted(tuple(row) for row in connection.execute(select(table))) for table in tables]
        assert connection.execute(select(runs.c.number).where(runs.c.is_counted.is_(False))).all() == []
    assert after == before
    assert len(before[2]) == 4


def totals(service: Service) -> dict[str, float]:
    """What Prometheus takes for counters."""
    found = snapshot(service)
    numbers = {name: getattr(found, name) for name in ("wait_s", "wait_count", "run_s", "run_count", "cache_hits")}
    return {**numbers, "cache_misses": found.cache_misses, **found.ended_by_state}


def test_totals_have_each_run_once_and_never_fall(service: Service) -> None:
    """While it waits, runs, is tried again, ends, ends once more and is removed."""
    seen = [totals(service)]

    def look() -> None:
        seen.append(totals(service))
        assert all(seen[-1][name] >= value for name, value in seen[-2].items()), seen[-2:]

    number = service.runs.submit(RunRequest(_CONTEXT, "web", max_attempts=3)).number
    look()
    lost = service.claims.take("w", ())
    assert lost is not None
    look()
    service.claims.release(lost.number, lost.attempt, "it died")
    look()
    claim = service.claims.take("w", ())
    assert claim is not None

    def store(connection: Any) -> None:
        for step, state in enumerate(("cached", "done", "failed")):
            row = {**_STEP, "job": claim.number, "attempt": claim.attempt, "step": step, "name": "[1/1] RUN x"}
            connection.execute(steps.insert().values(**row, state=state))

    service.claims.finish(claim, "failed", "", RunResult(), store=store)
    look()
    service.runs.cancel(service.runs.submit(RunRequest(_CONTEXT, "web")).number)
    look()
    counts = ("wait_count", "run_count", "cache_hits", "cache_misses", "failed", "cancelled", "succeeded")
    assert [seen[-1][name] for name in counts] == [1, 1, 1, 2, 1, 1, 0]
    with service.database.write() as connection:
        note_end(connection, run_from_row(connection.execute(select_runs().where(runs.c.number == number)).one()))
    assert totals(service) == seen[-1]
    assert snapshot(service).runs_by_state == {"failed": 1, "cancelled": 1}
    with service.database.write() as connection:
        assert remove_runs(connection, runs.c.number == number) == 1
    assert totals(service) == seen[-1]
    assert snapshot(service).runs_by_state == {"cancelled": 1}
    kept = snapshot(service)
    with service.database.write() as connection:  # as before the migration: of the removed runs alone
        connection.execute(delete(counters))
        gone = {"ended.failed": 1, "wait_s": seen[-1]["wait_s"], "wait_count": 1, "run_s": seen[-1]["run_s"]}
        for name, value in {**gone, "run_count": 1, "cache_hits": 1, "cache_misses": 2, "cache.written": 4}.items():
            connection.execute(counters.insert().values(name=name, value=value))
        v0030_totals._count(connection)
    assert totals(service) == pytest.approx(seen[-1])
    assert (snapshot(service).runs_by_state, snapshot(service).cache_written["written"]) == (kept.runs_by_state, 4)


def test_a_run_that_ends_while_the_totals_are_read_makes_none_of_them_fall(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.runs.submit(RunRequest(_CONTEXT, "web"))
    claim = service.claims.take("w", ())
    assert claim is not None
    with service.database.write() as connection:  # a job of a pipeline has ended, and its run has not
        connection.execute(update(jobs).where(jobs.c.number == claim.number).values(finished_at=time.time()))
    seen = totals(service)
    assert seen["wait_count"] == 1

    its = counting._sums

    def sums(*which: Any) -> dict[str, float]:
        monkeypatch.setattr(counting, "_sums", its)
        service.claims.finish(claim, "succeeded", "", RunResult(), store=lambda _: None)
        return its(*which)

    monkeypatch.setattr(counting, "_sums", sums)
    assert totals(service)["wait_count"] == 1
    assert (totals(service)["wait_count"], totals(service)["succeeded"]) == (1, 1)


def test_a_migration_counts_the_steps_and_jobs_of_runs_that_ended(service: Service) -> None:
    for took_s in (10.0, 0.0):
        played(service, "web", "succeeded", took_s)
    service.runs.submit(RunRequest(_CONTEXT, "web"))
    row = {**_STEP, "job": select(jobs.c.number).limit(1).scalar_subquery(), "attempt": 1}
    names = (("[1/2] FROM x", "done"), ("[2/2] RUN x", "done"), ("[2/2] RUN y", "cached"))
    with service.database.write() as connection:
        for step, (name, state) in enumerate(names):
            connection.execute(steps.insert().values(**row, step=step, name=name, state=state))
        connection.execute(delete(counters))
        v0030_totals._count(connection)
    found = snapshot(service)
    assert (found.run_count, found.wait_count) == (2, 2)
    assert found.run_s == pytest.approx(10.0)
    assert (found.cache_hits, found.cache_misses, found.ended_by_state["succeeded"]) == (1, 1, 2)
    assert found.runs_by_state == {"queued": 1, "succeeded": 2}


@pytest.mark.parametrize("settings", ["sqlite"], indirect=True)
def test_the_numbers_of_operators_go_through_no_table_of_what_has_ended(service: Service) -> None:
    played(service, "web", "succeeded", 1.0)
    asked: list[tuple[str, Any]] = []

    def note(*told: Any) -> None:
        asked.append((told[2], told[3]))

    event.listen(service.database.engine, "before_cursor_execute", note)
    snapshot(service)
    event.remove(service.database.engine, "before_cursor_execute", note)
    plans = []
    with service.database.read() as connection:
        for statement, values in asked:
            plans += [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values)]
    scans = [plan for plan in plans if plan.startswith("SCAN") and "runs_uncounted" not in plan]
    assert any("runs_uncounted" in plan for plan in plans)
    assert not [plan for plan in scans if plan.split()[1] in ("runs", "jobs", "steps")], plans


def test_heads_are_the_newest_runs_of_branches_tags_and_pull_requests(service: Service) -> None:
    numbers = [played(service, "web", "succeeded", 1.0, trigger=trigger) for trigger in (_PUSH, _PULL, _PUSH)]
    found = heads_of(service.database, "web", ["branch", "pull"])
    assert [(head.name, head.run) for head in found] == [("main", numbers[2]), ("7", numbers[1])]
    assert count_heads(service.database, "web") == {"branch": 1, "pull": 1}
    assert heads_of(service.database, "web", ["branch"], after=numbers[2]) == []
    assert find_heads(service.database, "MAI", projects=["web"]) == [("web", "branch", "main", numbers[2])]
    assert find_heads(service.database, "%") == find_heads(service.database, "main", projects=[]) == []
    assert [run.number for run in branch_strips(service.database, "web", ["main"])["main"].runs] == numbers[::2]


def test_a_run_that_is_recorded_late_does_not_take_the_place_of_a_newer_one(service: Service) -> None:
    """Numbers are given before rows are seen: of two at the same moment the older one may come second."""
    older, newer = (service.runs.submit(RunRequest(_CONTEXT, "web"), _PUSH).number for _ in range(2))
    with service.database.write() as connection:
        note_head(connection, "web", older, _PUSH)
    (head,) = heads_of(service.database, "web", ["branch"])
    assert head.run == newer


def test_of_several_pipelines_of_a_commit_the_last_is_its_branchs_head(service: Service) -> None:
    service.runs.submit(RunRequest(SOURCE, "app"), _PUSH)
    numbers = write(service, claimed(service), *(pipeline(node("a"), name=name) for name in ("main", "more")))
    assert [head.run for head in heads_of(service.database, "app", ["branch"])] == [max(numbers)]
    assert len(numbers) == 2


def test_a_strip_stands_for_its_project(service: Service) -> None:
    played(service, "web", "failed", 4.0)
    played(service, "web", "succeeded", 2.0, trigger=_PULL)
    found = strips(service.database, ["web", "none"])
    assert found["none"].newest is None
    assert found["web"].is_failing, "a pull request says nothing about the project"
    assert found["web"].usual_s == pytest.approx(2.0)
    number = service.runs.submit(RunRequest(_CONTEXT, "web"), _PUSH).number
    again = strips(service.database, ["web"], 2)["web"]
    assert [run.number for run in again.runs][-1] == number
    assert len(again.runs) == 2


def test_users_have_views_and_a_look_of_their_own(service: Service) -> None:
    for name in ("ada", "grace"):
        service.users.create(name, "viewer", "correct horse battery")
    kept = service.preferences
    kept.set_look("ada", Look(theme="dark", keys=False))
    kept.save_view("ada", View(" Broken  main ", "/runs?branch=main&state=failed"))
    kept.save_view("ada", View("Broken main", "/runs?branch=main"))
    views = (View("Broken main", "/runs?branch=main"),)
    assert kept.get("ada") == Preferences(Look(theme="dark", keys=False), views)
    assert kept.get("grace") == Preferences()
    for name, path in (("", "/runs?a=b"), ("x" * 61, "/runs?a=b"), ("x", "https://example.org/"), ("x", "//e/?")):
        with pytest.raises(InvalidRequestError):
            kept.save_view("ada", View(name, path))
    for number in range(29):
        kept.save_view("ada", View(f"{number}", "/?show=mine"))
    with pytest.raises(InvalidRequestError, match="30 views"):
        kept.save_view("ada", View("one more", "/?show=mine"))
    kept.remove_view("ada", "Broken main")
    with pytest.raises(NotFoundError):
        kept.remove_view("ada", "Broken main")
