"""Archived projects: nothing new is taken for them, whichever way it comes, and nothing that they have is lost."""

from __future__ import annotations

import threading
import time

import pytest
from sqlalchemy.engine import Connection

from ci.model import Schedule
from pipelines.errors import ArchivedError, ConflictError, NotFoundError
from pipelines.hooks.scheduling import start_due
from pipelines.keeping.retention import sweep
from pipelines.model import ContextSource, Project, RunRequest, Trigger
from pipelines.runs import runs
from pipelines.runs.schedules import write_schedules
from pipelines.service import Service
from tests.pipelines.test_hook_receiving import send, set_up
from tests.toolkit import forgepayloads as sent

_REQUEST = RunRequest(ContextSource("sha256:" + "0" * 64), "app")
_NEVER_COMES = 1e12
_HALF_AN_HOUR_S = 1800


def test_nothing_new_is_taken_until_it_is_taken_back(service: Service) -> None:
    set_up(service, pull_requests="approve")
    run = service.runs.submit(_REQUEST)
    send(service, sent.github_pull_request(fork=True))
    (approval,) = service.approvals.list("app")
    with pytest.raises(ConflictError, match=f"run {run.number} of project app has not ended"):
        service.projects.archive("app")
    service.runs.cancel(run.number)
    service.projects.archive("app")
    since = service.projects.get("app").archived_at
    service.projects.archive("app")
    assert service.projects.get("app").archived_at == since is not None
    assert [(project.name, service.projects.current()) for project in service.projects.list()] == [("app", [])]

    with pytest.raises(ArchivedError, match="project app is archived: it takes no pushes, no images and no runs"):
        service.runs.submit(_REQUEST)
    with pytest.raises(ArchivedError):
        service.runs.retry(run.number)
    with pytest.raises(ArchivedError):
        service.approvals.approve("app", approval.id, approval.commit, "ana")
    assert [each.id for each in service.approvals.list("app", state="waiting")] == [approval.id], "it is undone"
    delivery = send(service, sent.github_push()).delivery
    assert (delivery.outcome, delivery.runs, "project app is archived" in delivery.reason) == ("ignored", (), True)

    found = {"often": [Schedule("*/5 * * * *")]}
    with service.database.write() as connection:
        write_schedules(connection, "app", run.number, found, time.time() - _HALF_AN_HOUR_S)
    assert service.schedules.due(), "its time has come"
    assert start_due(service.schedules, service.projects, service.runs) == []
    assert service.schedules.due() == [], "and passes"

    service.projects.put(Project("app", keep_runs=1, keep_days=1, hook=service.projects.get("app").hook))
    assert service.projects.get("app").archived_at == since, "settings are another thing"
    sweep(service, _NEVER_COMES)
    assert service.runs.get(run.number).state == "cancelled", "its runs stay"

    service.projects.unarchive("app")
    service.projects.unarchive("app")
    assert service.receiver.redeliver("app", delivery.id).outcome == "queued", "what it missed"
    for change in (service.projects.archive, service.projects.unarchive):
        with pytest.raises(NotFoundError):
            change("nothing")


def test_a_schedule_of_a_project_that_is_archived_at_this_moment_waits(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever looks at schedules goes on: it is the heart of a worker."""
    set_up(service)
    run = service.runs.submit(_REQUEST)
    with service.database.write() as connection:
        write_schedules(connection, "app", run.number, {"often": [Schedule("*/5 * * * *")]}, time.time() - 600)
    asked: list[str] = []

    def check(connection: Connection, name: str) -> None:
        asked.append(name)
        if len(asked) == 2:  # the run's row is there by now
            raise ArchivedError(f"project {name} is archived")

    monkeypatch.setattr(runs, "check_takes_runs", check)
    assert start_due(service.schedules, service.projects, service.runs) == []
    assert [each.number for each in service.runs.list()] == [run.number], "nothing of it is left"
    assert len(service.schedules.due()) == 1, "and its time has not passed"


def test_no_run_begins_in_the_moment_that_archives(service: Service) -> None:
    """Either the run is there and keeps the project from being archived, or the project is archived and has none."""
    for turn in range(8):
        request = RunRequest(_REQUEST.source, f"app-{turn}")
        service.projects.put(Project(request.project))
        together = threading.Barrier(2)
        outcomes: list[str] = []

        def submit(request: RunRequest = request, together: threading.Barrier = together) -> None:
            together.wait()
            try:
                service.runs.submit(request, Trigger())
            except ConflictError:
                outcomes.append("refused")  # noqa: B023 - joined below, in the same turn

        thread = threading.Thread(target=submit)
        thread.start()
        together.wait()
        try:
            service.projects.archive(request.project)
        except ConflictError:
            outcomes.append("kept")
        thread.join()
        is_archived = service.projects.get(request.project).archived_at is not None
        there = service.runs.list(project=request.project)
        assert (is_archived, len(there), outcomes) in ((True, 0, ["refused"]), (False, 1, ["kept"]))
