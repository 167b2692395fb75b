"""Who gets into which job, on both databases: the row decides, once, for one host, and not for long."""

from __future__ import annotations

import contextlib
import json
import threading
import time

import pytest
from msgspec.structs import replace
from sqlalchemy import update

from ci.conditions import Event
from ci.ends import JobOutcome
from ci.failedfiles import FailedFiles
from ci.model import Limits
from ci.parsing import parse_pipeline
from ci.planning import plan
from core.settings import ServiceSettings
from core.trust import of_branch, of_fork, protected
from pipelines.errors import ConflictError, NotFoundError
from pipelines.model import Claim
from pipelines.runs.shellpipes import PIECE_BYTES
from pipelines.runs.shells import ASKED_S, Asker, Granted, ShellTerms, note_failed_files
from pipelines.schema import jobs, runs, shells
from pipelines.service import Service
from tests.pipelines.test_pipelines import LAYER, begun, node
from tests.toolkit.bounds import eventually

HERE, THERE = "a" * 32, "b" * 32
PLACE = 2  # of the one job, behind the plan
MAINTAINER, BUILDER = Asker("ana", "192.0.2.7", True), Asker("ben", "", False)
FILES = FailedFiles((LAYER,), (LAYER,), (("A", "b"),), "/work", "", (0, 0), True, Limits())


def started(service: Service) -> Claim:
    begun(service, node("a"))
    claim = service.claims.take("w", (), HERE)
    assert claim is not None
    return claim


def failed(service: Service, files: FailedFiles | None = FILES, until: float = 3600.0) -> int:
    """The number of a run whose job has failed."""
    claim = started(service)

    def store(connection):  # type: ignore[no-untyped-def]
        if files is not None:
            note_failed_files(connection, claim.number, HERE, files, time.time() + until)

    service.claims.finish(claim, "failed", "exit code 1", JobOutcome("failed"), store=store)
    return claim.run.number


def set_domain(service: Service, run: int, label: str) -> None:
    with service.database.write() as connection:
        connection.execute(update(runs).where(runs.c.number == run).values(domain=label))


def opened(service: Service, run: int, who: Asker = MAINTAINER, host: str = HERE) -> Granted | None:
    return service.shells.open(service.shells.ask(run, PLACE, who, ShellTerms()).id, host)


def test_who_gets_into_which_job(service: Service) -> None:
    run = failed(service)
    for label, files, needed in (
        (protected("app").label, FILES, "maintain"),
        (of_branch("app", "x").label, FILES, "build"),
        (of_branch("app", "x").label, replace(FILES, had_secrets=True), "maintain"),
        (of_fork("app", 3).label, FILES, "build"),
    ):
        set_domain(service, run, label)
        with service.database.write() as connection:
            note_failed_files(connection, service.jobs.number(run, PLACE), HERE, files, time.time() + 60)
        assert service.shells.needed(run, PLACE) == needed, label
        if needed == "maintain":
            with pytest.raises(ConflictError, match="another one's by now"):  # the view asked before, of another state
                service.shells.ask(run, PLACE, BUILDER, ShellTerms())
            continue
        shell = opened(service, run, BUILDER)
        assert shell is not None
        assert not shell.has_secrets
        service.shells.end(shell.id, 0)
        shell = opened(service, run, MAINTAINER)
        assert shell is not None
        assert shell.has_secrets is (label == of_branch("app", "x").label), "a fork's has none, whoever asks"
        service.shells.end(shell.id, 0)
    running = started(service)
    assert service.shells.needed(running.run.number, PLACE) == "maintain"
    with pytest.raises(ConflictError, match="no job of a pipeline"):
        service.shells.needed(run, 1)
    with pytest.raises(NotFoundError):
        service.shells.needed(run, 9)
    (job,) = plan(parse_pipeline(b"jobs: {a: {build: {context: .}}}"), Event("push")).jobs
    with service.database.write() as connection:
        its = update(jobs).where(jobs.c.run == running.run.number, jobs.c.place == PLACE)
        connection.execute(its.values(spec=json.dumps(job.to_data())))
    with pytest.raises(ConflictError, match="builds an image"):
        service.shells.needed(running.run.number, PLACE)


def test_what_is_not_kept_or_no_longer_is_no_way_in(service: Service) -> None:
    with pytest.raises(ConflictError, match=r"is not kept$"):
        service.shells.needed(failed(service, None), PLACE)
    run = failed(service, until=0.0)
    with pytest.raises(ConflictError, match="any longer"):
        service.shells.ask(run, PLACE, MAINTAINER, ShellTerms())
    run = failed(service)
    shell = service.shells.ask(run, PLACE, MAINTAINER, ShellTerms()).id
    with service.database.write() as connection:  # another attempt began, as by somebody's hand
        connection.execute(update(jobs).where(jobs.c.run == run, jobs.c.place == PLACE).values(attempt=2))
    assert service.shells.open(shell, HERE) is None
    assert service.shells.get(run, shell).reason == "the job has gone on by now"


def test_one_worker_of_the_host_opens_a_shell_once_and_soon(service: Service) -> None:
    run = failed(service)
    first = service.shells.ask(run, PLACE, MAINTAINER, ShellTerms(("id",))).id
    assert list(service.shells.asked_at(HERE)) == [first]
    assert list(service.shells.asked_at(THERE)) == []
    assert service.shells.open(first, THERE) is None
    found: list[Granted | None] = []
    several = [threading.Thread(target=lambda: found.append(service.shells.open(first, HERE))) for _ in range(4)]
    for each in several:
        each.start()
    for each in several:
        each.join()
    (granted,) = filter(None, found)
    assert (granted.files, granted.terms.command, granted.name) == (FILES, ("id",), "a")
    assert service.shells.is_open(first)
    service.shells.end(first, 3)
    service.shells.end(first, None, "later")
    view = service.shells.get(run, first)
    assert (view.state, view.exit_code, view.reason) == ("ended", 3, "")
    assert not service.shells.is_open(first)
    late = service.shells.ask(run, PLACE, MAINTAINER, ShellTerms()).id
    with service.database.write() as connection:
        connection.execute(update(shells).where(shells.c.id == late).values(asked_at=time.time() - ASKED_S - 1))
    assert service.shells.open(late, HERE) is None
    assert list(service.shells.asked_at(HERE)) == [], "no process is started for it, again and again"


def test_job_that_runs_is_marked_before_anybody_is_in_and_its_next_attempt_is_not(service: Service) -> None:
    claim = started(service)
    run = claim.run.number
    shell = service.shells.ask(run, PLACE, MAINTAINER, ShellTerms()).id
    assert not service.jobs.get(run, "a").was_entered
    assert list(service.shells.asked_in(claim.number, claim.attempt)) == [shell]
    assert service.shells.open(shell, HERE) is not None
    assert service.jobs.get(run, "a").was_entered
    service.claims.release(claim.number, claim.attempt, "its worker died")
    again = service.claims.take("w", (), HERE)
    assert again is not None
    assert not service.jobs.get(run, "a").was_entered
    late = service.shells.ask(run, PLACE, MAINTAINER, ShellTerms()).id
    service.claims.finish(again, "succeeded", "", JobOutcome("succeeded", outputs=LAYER), store=lambda _: None)
    assert service.shells.open(late, HERE) is None
    assert service.pipelines.results(run)["a"] is not None, "nobody was in"


def test_project_has_few_at_once_and_those_of_the_dead_do_not_count(service: Service) -> None:
    run = failed(service)
    asked = [service.shells.ask(run, PLACE, MAINTAINER, ShellTerms()).id for _ in range(4)]
    with pytest.raises(ConflictError, match="has 4 shells open"):
        service.shells.ask(run, PLACE, MAINTAINER, ShellTerms())
    with service.database.write() as connection:
        connection.execute(update(shells).where(shells.c.id == asked[0]).values(asked_at=time.time() - 100))
    assert service.shells.ask(run, PLACE, MAINTAINER, ShellTerms()).id > asked[-1]


def test_several_who_ask_at_the_same_moment_get_no_more(service: Service) -> None:
    numbers = [failed(service) for _ in range(8)]
    asked: list[int] = []

    def ask(run: int) -> None:
        with contextlib.suppress(ConflictError):
            asked.append(service.shells.ask(run, PLACE, MAINTAINER, ShellTerms()).id)

    several = [threading.Thread(target=ask, args=(run,)) for run in numbers]
    for each in several:
        each.start()
    for each in several:
        each.join()
    assert len(asked) == 4


def test_terminal_is_that_of_whoever_asked_and_one(service: Service) -> None:
    run = failed(service)
    shell = service.shells.ask(run, PLACE, MAINTAINER, ShellTerms()).id
    with pytest.raises(NotFoundError):
        service.shells.attach(run, shell, "ben")
    with pytest.raises(NotFoundError):
        service.shells.attach(run + 1, shell, "ana")
    service.shells.attach(run, shell, "ana")
    with pytest.raises(ConflictError):
        service.shells.attach(run, shell, "ana")
    (entry,) = service.audit.list(action="open shell")
    assert (entry.actor, entry.address, entry.project) == ("ana", "192.0.2.7", "app")


def test_streams_are_bounded_and_whoever_writes_waits(service: Service) -> None:
    worker, terminal = service.shell_pipes.end(1, "worker"), service.shell_pipes.end(1, "terminal")
    total, size = 200, PIECE_BYTES // 3 * 3
    sent: list[bool] = []

    def write() -> None:
        sent.extend(worker.say("data", b"%03d" % number * (size // 3)) for number in range(total))

    writing = threading.Thread(target=write, daemon=True)
    writing.start()
    eventually(lambda: len(sent) >= 32, why="the stream is full")
    time.sleep(0.1)
    assert len(sent) < 40, "nobody has read any of it"
    heard = b""
    while len(heard) < total * size:
        heard += b"".join(said.data for said in terminal.hear(5.0))
    assert [int(heard[at : at + 3]) for at in range(0, len(heard), size)] == list(range(total))
    writing.join()
    assert not worker.say("data", b"x") or terminal.hear(1.0)
    for _ in range(40):
        terminal.say("data", b"x", gives_up=lambda: True)
    assert len(worker.hear(1.0)) <= 32


def test_what_nobody_of_ours_wrote_is_passed_over(service: Service, settings: ServiceSettings) -> None:
    import redis

    with redis.Redis.from_url(settings.redis_url) as client:
        for fields in ({"kind": "open"}, {"x": "y"}, {"kind": b"\xff"}, {"kind": "tick"}):
            client.xadd("shiplap:shell:7:in", fields)
    assert [said.kind for said in service.shell_pipes.end(7, "worker").hear(1.0)] == ["tick"]
