"""Processes that are killed in the middle of a transaction on a pipeline: it is as if they had never begun it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import select

from core.settings import ServiceSettings
from pipelines.model import HookSettings, Project, RunRequest
from pipelines.runs.pipelines import PLANNING
from pipelines.schema import run_images, statuses
from pipelines.service import Service
from tests.pipelines.test_pipelines import SOURCE, TRIGGER, begun, claimed, end, node, pipeline, states, write

_CHECKOUT = Path(__file__).parents[2]
_PROGRAM = """
import os, signal, sys
from pathlib import Path
from ci.ends import JobOutcome
from core.settings import ServiceSettings
from pipelines.service import Service
from pipelines.statuses import outbox
from tests.pipelines.test_pipelines import claimed, node, nothing, pipeline

def die(*_, **__):
    sys.stdout.write("in the transaction")
    sys.stdout.flush()
    os.kill(os.getpid(), signal.SIGKILL)

where, root, database, redis, *more = sys.argv[1:]
with Service.open(ServiceSettings(Path(root), database, redis)) as service:
    if where == "when a gate is answered":
        import pipelines.runs.gates, pipelines.runs.states
        from pipelines.runs.gates import Approver
        follow = pipelines.runs.states.follow_job
        pipelines.runs.gates.follow_job = lambda *arguments: (follow(*arguments), die())
        service.gates.answer(int(more[0]), 3, Approver("ana", "ana"), is_yes=True)
    claim = claimed(service, "dead")
    if where == "while it plans":
        service.pipelines.write(
            claim, [pipeline(node("a")), ("second", die)], mark="shiplap", own_secrets={}, store=nothing
        )
    import pipelines.runs.claims, pipelines.runs.states
    follow = pipelines.runs.states.follow_job
    def follow_and_die(*arguments):
        follow(*arguments)  # all is written but the commit
        die()
    pipelines.runs.claims.follow_job = follow_and_die
    if where == "when a group hands over":
        pipelines.runs.claims.follow_job = follow
        import pipelines.runs.groups
        pipelines.runs.groups._give = die  # the place is free, and nobody has it yet
        service.claims.finish(claim, "succeeded", "", JobOutcome("succeeded"), store=nothing)
    if where == "when a job ends":
        service.claims.finish(claim, "succeeded", "", JobOutcome("succeeded"), store=nothing)
    if where == "when a job is tried again":
        service.claims.try_again(claim, "no", store=nothing)
    if where == "when a job is given back":
        service.claims.release(claim.number, claim.attempt, "no")
"""


def die_in(settings: ServiceSettings, where: str, *more: str) -> None:
    """Let a process begin a transaction, and be killed before it commits."""
    ended = subprocess.run(
        [sys.executable, "-c", _PROGRAM, where, settings.root, settings.database_url, settings.redis_url, *more],
        cwd=_CHECKOUT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (ended.returncode, ended.stdout) == (-9, "in the transaction"), ended.stderr


@pytest.fixture(autouse=True)
def project(service: Service) -> None:
    service.projects.put(Project("app", hook=HookSettings(forge="gitea", repository=SOURCE.url)))


def marks(service: Service) -> list[tuple[str, str]]:
    with service.database.read() as connection:
        rows = connection.execute(select(statuses.c.context, statuses.c.state).order_by(statuses.c.id))
        return [(row.context, row.state) for row in rows]


@pytest.mark.parametrize("where", ["when a job ends", "when a job is tried again", "when a job is given back"])
def test_kill_leaves_the_job_to_the_reaper_and_nothing_is_doubled(
    service: Service, settings: ServiceSettings, where: str
) -> None:
    number = begun(service, node("a"), node("b", "a"), statuses="jobs")
    die_in(settings, where)
    assert states(service, number) == {PLANNING: "succeeded", "a": "running", "b": "waiting"}
    view = service.jobs.get(number, "a")
    assert (view.attempt, view.worker, view.is_flaky) == (1, "dead", False)
    assert marks(service)[-1] == ("shiplap/main/a", "running")
    job = service.jobs.number(number, view.place)
    assert service.claims.release(job, 1, "worker dead stopped answering") is not None
    again = claimed(service)
    assert (again.name, again.attempt, again.failures) == ("a", 2, 0)
    end(service, again)
    run = end(service, claimed(service))
    assert (run.state, states(service, number)["b"]) == ("succeeded", "succeeded")
    assert marks(service).count(("shiplap/main", "success")) == 1


def test_kill_while_it_plans_leaves_no_run_of_any_pipeline(service: Service, settings: ServiceSettings) -> None:
    run = service.runs.submit(RunRequest(SOURCE, "app"), TRIGGER)
    die_in(settings, "while it plans")
    assert [each.number for each in service.runs.list()] == [run.number]
    assert states(service, run.number) == {"build": "running"}
    assert [context for context, _ in marks(service)] == ["shiplap", "shiplap"]
    with service.database.read() as connection:
        assert connection.execute(select(run_images)).all() == []
    service.claims.release(service.jobs.number(run.number, 1), 1, "worker dead stopped answering")
    numbers = write(service, claimed(service), pipeline(node("a")), pipeline(node("b"), name="second"))
    assert [states(service, number) for number in numbers] == [
        {PLANNING: "succeeded", "a": "queued"}, {PLANNING: "succeeded", "b": "queued"},
    ]  # fmt: skip
