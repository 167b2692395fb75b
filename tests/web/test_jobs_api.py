"""The jobs of a run by the API: their states, and the steps and the log of each, by place or by name."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from sqlalchemy.engine import Connection

from ci.ends import JobOutcome
from ci.graph import JobNode
from core.masking import Masker
from pipelines.model import Claim, GitSource, RunRequest, Trigger
from pipelines.runs.graphs import RunPlan
from pipelines.runs.logwriter import LogWriter
from pipelines.runs.pipelines import PLANNING, PlannedRun, PlannedWork
from pipelines.runs.together import planned_together
from pipelines.service import Service
from tests.web.conftest import Api
from tests.web.test_api import submit
from web.hooks.joblines import lines_of_jobs

COMMIT = "a" * 40


def nothing(connection: Connection) -> None:
    """Stores the log of a job that printed nothing."""


def claimed(service: Service) -> Claim:
    claim = service.claims.take("w", ())
    assert claim is not None
    return claim


def planned(service: Service, *nodes: JobNode) -> int:
    """The number of a run of these jobs."""
    trigger = Trigger("push", branch="main", commit=COMMIT, default_branch="main")
    service.runs.submit(RunRequest(GitSource("https://git.example/app.git", "main"), "app"), trigger)
    found = PlannedRun("main", RunPlan(".shiplap.yml", COMMIT), tuple(PlannedWork(node, {}) for node in nodes))
    head = claimed(service)
    service.pipelines.write(head, [("main", lambda _: found)], mark="", own_secrets={}, store=nothing)
    return head.run.number


@pytest.fixture
def run(service: Service) -> int:
    """A run of two jobs; the first one has printed a line, and failed."""
    number = planned(service, JobNode("test (3.11)"), JobNode("tell", needs=("test (3.11)",), after="always"))
    claim = claimed(service)
    writer = LogWriter(claim, service.database, service.live, Masker(), lost=lambda: None)
    writer.status("hello")
    writer.close()
    outcome = JobOutcome("failed", "exit code 3", "failure", 3)
    service.claims.finish(claim, "failed", "exit code 3", outcome, store=writer.store)
    writer.end()
    return number


def test_jobs_are_listed_with_what_each_needs(api: Api, run: int) -> None:
    found = api("GET", f"/runs/{run}/jobs")["jobs"]
    assert [(job["place"], job["name"], job["kind"], job["state"]) for job in found] == [
        (1, PLANNING, "plan", "succeeded"), (2, "test (3.11)", "job", "failed"), (3, "tell", "job", "queued"),
    ]  # fmt: skip
    assert found[2]["needs"] == ["test (3.11)"]
    assert (found[1]["reason"], found[1]["exit_code"], found[2]["exit_code"]) == ("exit code 3", 3, None)


def test_job_is_found_by_its_place_and_by_its_name(api: Api, run: int) -> None:
    by_name = api("GET", f"/runs/{run}/jobs/{quote('test (3.11)')}")
    assert by_name == api("GET", f"/runs/{run}/jobs/2")
    api("GET", f"/runs/{run}/jobs/9", status=404)
    api("GET", f"/runs/{run}/jobs/test", status=404)
    api("GET", "/runs/99/jobs", status=404)


def test_log_and_steps_are_the_job_s_own(api: Api, run: int) -> None:
    assert [line["text"] for line in api("GET", f"/runs/{run}/jobs/2/log")["lines"]] == ["hello"]
    assert api("GET", f"/runs/{run}/jobs/3/log")["lines"] == []
    assert api.send("GET", f"/runs/{run}/jobs/2/log/text").get_data() == b"hello\n"
    assert api("GET", f"/runs/{run}/jobs/2/steps") == {"steps": []}
    events = api.send("GET", f"/runs/{run}/jobs/2/events").get_data()
    assert b'"hello"' in events
    assert b"event: end\ndata: {" in events


def events(api: Api, path: str, **headers: str) -> Iterator[tuple[str, Any]]:
    """Server-sent events as they come: name and data; of lines, the id and the line. Heartbeats are left out."""
    for piece in api.send("GET", path, headers=headers).iter_encoded():
        for text in piece.decode().split("\n\n"):
            head, _, data = text.partition("\ndata: ")
            if data:
                yield head.partition(": ")[2], json.loads(data)


def test_events_of_a_run_tell_each_change_of_its_jobs_and_then_its_end(api: Api, service: Service, run: int) -> None:
    told = events(api, f"/runs/{run}/events")

    def next_states() -> list[str]:
        name, found = next(told)
        assert name == "jobs"
        assert found == api("GET", f"/runs/{run}/jobs")["jobs"]
        return [job["state"] for job in found]

    assert next_states() == ["succeeded", "failed", "queued"]
    claim = claimed(service)
    assert next_states() == ["succeeded", "failed", "running"]
    service.claims.finish(claim, "succeeded", "", JobOutcome("succeeded"), store=nothing)
    assert next_states() == ["succeeded", "failed", "succeeded"]
    assert next(told) == ("end", api("GET", f"/runs/{run}"))
    assert list(told) == []


def test_events_of_a_job_are_its_own_lines_and_go_on_after_the_last_that_was_had(api: Api, service: Service) -> None:
    number = planned(service, JobNode("slow"), JobNode("other"))
    slow, other = claimed(service), claimed(service)
    writers = {
        claim.name: LogWriter(claim, service.database, service.live, Masker(), lost=lambda: None)
        for claim in (slow, other)
    }
    for text in ("one", "two"):
        for name, writer in writers.items():
            writer.status(f"{name} {text}")
    told = events(api, f"/runs/{number}/jobs/{slow.name}/events")
    assert [(name, line["text"]) for name, line in itertools.islice(told, 2)] == [("1", "slow one"), ("2", "slow two")]
    writers["slow"].status("slow three")
    assert next(told)[1]["text"] == "slow three"
    writers["slow"].close()
    outcome = JobOutcome("failed", "exit code 3", "failure", 3)
    service.claims.finish(slow, "failed", "exit code 3", outcome, store=writers["slow"].store)
    writers["slow"].end()
    name, job = next(told)
    assert (name, job["name"], job["state"]) == ("end", "slow", "failed")
    assert list(told) == [], "the run goes on, and its job has ended"
    again = events(api, f"/runs/{number}/jobs/slow/events", **{"Last-Event-ID": "2"})
    assert [(name, found.get("text")) for name, found in again] == [("3", "slow three"), ("end", None)]
    writers["other"].close()


def test_job_is_cancelled_by_its_name_once(api: Api, run: int) -> None:
    (job,) = api("POST", f"/runs/{run}/jobs/tell/cancel")["jobs"]
    assert (job["state"], job["reason"]) == ("cancelled", "cancelled by token test")
    assert api("GET", f"/runs/{run}")["state"] == "cancelled"
    assert api("POST", f"/runs/{run}/jobs/tell/cancel", status=409)["error"]["code"] == "conflict"
    assert api("POST", f"/runs/{run}/jobs/tel/cancel", status=404)["error"]["hint"] == "did you mean tell?"


def test_name_with_a_slash_is_found(api: Api, service: Service) -> None:
    number = planned(service, JobNode("test (linux/arm64)", matrix="test"), JobNode("part/lint"))
    for name in ("test (linux/arm64)", "part/lint"):
        assert api("GET", f"/runs/{number}/jobs/{quote(name, safe='')}")["name"] == name
        assert api("GET", f"/runs/{number}/jobs/{quote(name, safe='')}/log") == {"lines": [], "next": None}
    (job,) = api("POST", f"/runs/{number}/jobs/test/cancel")["jobs"]
    assert job["state"] == "cancelled"


def test_retry_of_a_job_says_what_is_done_again(api: Api, run: int) -> None:
    assert api("POST", f"/runs/{run}/jobs/tell/retry", status=409)["error"]["hint"] == "cancel it first"
    api("POST", f"/runs/{run}/jobs/tell/cancel")
    again = api("POST", f"/runs/{run}/jobs/2/retry", status=201)
    assert (again["trigger"]["retry_of"], again["trigger"]["redo"]) == (run, ["test (3.11)"])
    failed = api("POST", f"/runs/{run}/retry?failed=true", status=201)
    assert (failed["trigger"]["retry_of"], failed["trigger"]["redo_failed"]) == (run, True)
    assert "redo" not in api("POST", f"/runs/{run}/retry", status=201)["trigger"]
    api("POST", f"/runs/{run}/retry?failed=perhaps", status=422)
    api("POST", f"/runs/{run}/jobs/nothing/retry", status=404)


def test_build_alone_is_cancelled_as_its_job(api: Api) -> None:
    number = submit(api)["number"]
    (job,) = api("POST", f"/runs/{number}/jobs/build/cancel")["jobs"]
    assert (job["state"], api("GET", f"/runs/{number}")["state"]) == ("cancelled", "cancelled")


def test_build_alone_is_a_run_s_one_job(api: Api) -> None:
    number = submit(api)["number"]
    (job,) = api("GET", f"/runs/{number}/jobs")["jobs"]
    assert (job["place"], job["name"], job["kind"], job["state"]) == (1, "build", "build", "queued")


def test_lines_of_all_jobs_go_on_where_somebody_left(service: Service, api: Api, run: int) -> None:
    alone = planned_together(service.database, run)
    assert api("GET", f"/runs/{run}/pipelines") == {"runs": [{"run": run, "pipeline": "main"}]}

    def come(seen: dict[int, int]) -> list[tuple[int, str, list[int]]]:
        found = itertools.takewhile(lambda each: each[0], lines_of_jobs(service, alone, seen, lambda: False))
        return [(place, name, [number for number, _ in lines]) for place, name, lines in found]

    assert come({}) == [(2, "test (3.11)", [1])]
    assert come({2: 1}) == []
    service.jobs.cancel(run, "tell")
    assert list(lines_of_jobs(service, alone, {2: 1}, lambda: False)) == [(0, "", [])]
    assert list(lines_of_jobs(service, alone, {}, lambda: True)) == []
