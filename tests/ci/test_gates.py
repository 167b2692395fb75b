"""Gates in a pipeline's file, in the graph, and in a run on this machine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ci.conditions import Event
from ci.ends import JobOutcome
from ci.errors import PipelineFileError
from ci.gates import duration_text, question
from ci.graph import JobNode, advance, outcome
from ci.handover import nodes_of
from ci.local.ending import EndRequests
from ci.local.gates import Answer, Decide
from ci.local.runner import LocalRun, RunRequest
from ci.local.watching import RunEnd
from ci.model import Gate, Job, Pipeline
from ci.outcome import Given
from ci.parsing import parse_pipeline
from ci.planning import Plan, PlannedJob, plan
from tests.ci.test_local_run import FAILED, Fake, Watched, no_tools, planned, states

FILE = """
jobs:
  app: {build: .}
  go-live: {needs: app, approve: {message: "Ship ${app.DIGEST} of ${SHIPLAP_BRANCH}?", by: ana, not_author: true}}
  deploy: {needs: go-live, image: "alpine:3.22", run: ./deploy.sh}
"""


def problems(text: str) -> str:
    with pytest.raises(PipelineFileError) as raised:
        parse_pipeline(text.encode())
    return raised.value.render()


def test_gate_is_a_question_or_a_map() -> None:
    jobs = parse_pipeline(FILE.encode()).pipeline.jobs
    asked = jobs["go-live"].approve
    assert asked is not None
    assert (asked.by, asked.not_author, asked.timeout_s) == (("ana",), True, 7 * 86400.0)
    short = "jobs: {go: {approve: Ship it?}, d: {needs: go, build: .}}"
    assert parse_pipeline(short.encode()).pipeline.jobs["go"].approve == Gate("Ship it?")


@pytest.mark.parametrize(
    ("gate", "told"),
    [
        ("{approve: ''}", "expected a question"),
        ("{approve: {by: ana}}", "`approve` has no message"),
        ("{approve: {message: x, timeout: 31d}}", "at most 30d"),
        ("{approve: {message: x, by: ['${SHIPLAP_AUTHOR}']}}", "expected the name of a member"),
        ("{approve: {message: x, by: []}}", "by"),
        ("{approve: x, image: 'alpine:3.22'}", "a job with `approve` has no use for `image`"),
        ("{approve: x, may_fail: true}", "a job with `approve` has no use for `may_fail`"),
        ("{approve: x, secrets: [KEY]}", "a job with `approve` has no use for `secrets`"),
        ("{approve: x, run: 'true'}", "a job has either"),
        ("{approve: 'Ship ${nobody.X}?'}", 'no job "nobody"'),
        ("{approve: [a, b]}", "expected"),
    ],
)
def test_what_is_no_gate_is_told_with_its_place(gate: str, told: str) -> None:
    assert told in problems(f"jobs: {{go: {gate}}}")


def test_defaults_and_variables_of_all_jobs_do_not_make_a_gate_wrong() -> None:
    text = (
        "env: {A: b}\ndefaults: {image: 'alpine:3.22', timeout: 5m}\njobs: {go: {approve: x}, b: {needs: go, run: a}}"
    )
    assert parse_pipeline(text.encode()).pipeline.jobs["go"].env == {}


def test_gate_that_nobody_needs_is_a_warning() -> None:
    found = parse_pipeline(b"jobs: {go: {approve: x}}").problems
    assert "nothing waits for the answer" in found.render()


def test_question_has_what_jobs_before_it_exported_and_by_is_never_replaced() -> None:
    found = plan(parse_pipeline(FILE.encode()), Event("push", "main", facts={"SHIPLAP_BRANCH": "main"}))
    gate = next(each for each in found.jobs if each.name == "go-live")
    gate = PlannedJob.from_data(gate.to_data(), {"SHIPLAP_BRANCH": "main"})
    assert question(gate, {"SHIPLAP_BRANCH": "main"}, {"app": {"DIGEST": "sha256:1"}}) == "Ship sha256:1 of main?"
    assert "${app.DIGEST}" in question(gate, {"SHIPLAP_BRANCH": "main"}, {})
    assert [node.is_gate for node in nodes_of(found.jobs)] == [False, True, False]


def test_gate_is_blocked_when_its_turn_has_come_and_the_run_when_nothing_else_goes_on() -> None:
    jobs = [JobNode("a", "succeeded"), JobNode("go", needs=("a",), is_gate=True), JobNode("b", needs=("go",))]
    assert advance(jobs) == {"go": "blocked"}
    jobs[1] = JobNode("go", "blocked", ("a",), is_gate=True)
    assert advance(jobs) == {}
    assert outcome(jobs).state == "blocked"
    assert outcome([*jobs, JobNode("other", "queued", has_run=True)]).state == "running"
    assert advance(jobs, stop="ending") == {"go": "cancelled", "b": "cancelled"}


def gate(name: str, needs: str = "", message: str = "Ship it?", **members: Any) -> PlannedJob:
    return PlannedJob(name, name, Job(approve=Gate(message, **members)), tuple(needs.split()), {})


def run(jobs: list[PlannedJob], execute: Fake, decide: Decide, requests: EndRequests | None = None) -> RunEnd:
    request = RunRequest(Pipeline("main", {}, {}), Plan(tuple(jobs), {}), Given(), 4)
    return LocalRun(request, execute, no_tools, Watched(), requests or EndRequests(), decide=decide).run()


def always(*, is_yes: bool) -> Decide:
    return lambda *_: Answer(is_yes, "said so")


def test_answer_lets_the_jobs_behind_it_go_on_or_skips_them() -> None:
    jobs = [planned("a"), gate("go", "a"), planned("b", "go"), planned("c", "go", after="failure")]
    yes, no = Fake(), Fake()
    assert states(run(jobs, yes, always(is_yes=True))) == {
        "a": "succeeded", "go": "succeeded", "b": "succeeded", "c": "skipped",
    }  # fmt: skip
    end = run(jobs, no, always(is_yes=False))
    assert states(end) == {"a": "succeeded", "go": "failed", "b": "skipped", "c": "succeeded"}
    assert (end.outcome.state, end.jobs["go"].message) == ("failed", "said so")
    assert "go" not in yes.given


def test_gate_asks_only_when_nothing_runs_and_not_after_a_failure() -> None:
    asked: list[str] = []
    running: list[int] = []

    def decide(job: str, *_: object) -> Answer:
        asked.append(job)
        running.append(execute.most)
        return Answer(True, "yes")

    execute = Fake(bad=lambda *_: FAILED)
    jobs = [planned("slow"), gate("first"), planned("bad"), gate("never", "bad"), planned("b", "first")]
    assert states(run(jobs, execute, decide))["never"] == "skipped"
    assert asked == ["first"]


def test_run_that_is_cancelled_at_its_gate_ends() -> None:
    requests = EndRequests()

    def decide(*_: object) -> None:
        requests.ask()

    end = run([gate("go"), planned("b", "go")], Fake(), decide, requests)
    assert states(end) == {"go": "cancelled", "b": "cancelled"}


def test_time_of_the_run_stands_still_while_a_gate_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr("ci.local.runner.time.monotonic", lambda: now[0])

    def decide(*_: object) -> Answer:
        now[0] += 86400
        return Answer(True, "a day later")

    end = run([gate("go"), planned("b", "go")], Fake(b=lambda *_: JobOutcome("succeeded")), decide)
    assert states(end) == {"go": "succeeded", "b": "succeeded"}


@pytest.mark.parametrize(
    ("seconds", "text"), [(604800, "7d"), (5400, "1h30m"), (90, "1m30s"), (0, "0s"), (90061, "1d1h1m1s")]
)
def test_durations_are_written_as_in_a_file(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


def test_whoever_starts_a_run_without_anybody_to_ask_gets_a_no() -> None:
    ask: Callable[..., Any] = LocalRun
    request = RunRequest(Pipeline("main", {}, {}), Plan((gate("go"),), {}), Given(), 1)
    end = ask(request, Fake(), no_tools, Watched(), EndRequests()).run()
    assert states(end) == {"go": "failed"}
