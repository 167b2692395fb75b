"""How long jobs waited and took, on both databases: counted when they end, bounded, and never scanned."""

from __future__ import annotations

import threading

import pytest
from sqlalchemy import update

from core.trust import of_fork
from pipelines.model import Project
from pipelines.runs import jobtimes
from pipelines.runs.jobtimes import BOUNDS_S, times_of
from pipelines.schema import jobs, runs
from pipelines.service import Service
from tests.pipelines.test_pipelines import begun, claimed, end, node
from web.metrics import exposition_of


def ended(service: Service, name: str, waited: float, took: float, state: str = "succeeded", **members: str) -> None:
    """A run of one job that waited and took so long."""
    begun(service, node(name, **members))
    claim = claimed(service)
    with service.database.write() as connection:
        its = update(jobs).where(jobs.c.number == claim.number)
        now = service.claims._clock()
        connection.execute(its.values(started_at=now - took, queued_at=now - took - waited))
    end(service, claim, state)


def test_jobs_count_by_name_when_they_end_and_stay_counted(service: Service) -> None:
    ended(service, "test (3.11)", 0.5, 10.0, matrix="test")
    ended(service, "test (3.13)", 70.0, 50_000.0, "failed", matrix="test")
    ended(service, "lint", 2.0, 2.0)
    begun(service, node("cancelled"))
    claim = claimed(service)
    service.runs.cancel(claim.run.number)
    end(service, claim, "cancelled")
    lint, test = times_of(service.database, "app")
    assert [(each.pipeline, each.job) for each in (lint, test)] == [("main", "lint"), ("main", "test")]
    assert [each.took.count for each in (lint, test)] == [1, 2]
    assert test.took.sum_s == pytest.approx(50_010.0, abs=5)
    assert dict(zip(BOUNDS_S, test.took.buckets, strict=True)) == {
        1: 0, 5: 0, 15: 1, 60: 1, 300: 1, 900: 1, 3600: 1, 21600: 1,
    }  # fmt: skip
    assert test.waited.buckets[:5] == (1, 1, 1, 1, 2)
    text = exposition_of([lint, test]).decode()
    assert 'shiplap_job_duration_seconds_bucket{job="test",le="15",pipeline="main"} 1.0' in text
    assert 'shiplap_job_duration_seconds_bucket{job="test",le="+Inf",pipeline="main"} 2.0' in text
    assert 'shiplap_job_wait_seconds_count{job="test",pipeline="main"} 2.0' in text
    service.projects.put(Project("app", keep_runs=1, keep_days=1))
    service.projects.remove("app")
    assert times_of(service.database, "app") == [], "they go with the project"


def test_project_has_so_many_rows_and_no_more(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobtimes, "MOST_JOBS", 2)
    for name in ("a", "b", "c", "d", "a"):
        ended(service, name, 1.0, 1.0)
    found = {each.job: each.took.count for each in times_of(service.database, "app")}
    assert found == {"a": 2, "b": 1, "": 2}


def test_who_sent_a_pull_request_from_elsewhere_names_no_row(service: Service) -> None:
    begun(service, node("a"))
    claim = claimed(service)
    with service.database.write() as connection:
        its = update(runs).where(runs.c.number == claim.run.number)
        connection.execute(its.values(domain=of_fork("app", 3).label))
    end(service, claim)
    assert times_of(service.database, "app") == []


def test_jobs_that_end_at_the_same_moment_all_count(service: Service) -> None:
    claims = []
    for number in range(6):
        begun(service, node("a"))
        claims.append(claimed(service, f"w{number}"))
    several = [threading.Thread(target=end, args=(service, claim)) for claim in claims]
    for each in several:
        each.start()
    for each in several:
        each.join()
    (a,) = times_of(service.database, "app")
    assert a.took.count == 6
