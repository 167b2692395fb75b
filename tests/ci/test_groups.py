"""Groups: whose turn it is, in a file, in the graph, and in a run on this machine."""

from __future__ import annotations

import random
import threading

import pytest
from msgspec.structs import replace

from ci.conditions import Event
from ci.errors import PipelineFileError
from ci.graph import JobNode, advance
from ci.groups import Member, Turn, turn
from ci.handover import nodes_of
from ci.model import Concurrency, Job
from ci.outcome import Given, JobTools
from ci.parsing import parse_pipeline
from ci.planning import PlannedJob, plan
from tests.ci.test_local_run import SUCCEEDED, Fake, run, states

FILE = """
concurrency: {group: "site-${SHIPLAP_BRANCH}", when_busy: replace}
jobs:
  a: {image: "x:1", run: a, concurrency: {group: "db-${SHIPLAP_EVENT}", limit: 2}}
  b: {image: "x:1", run: b, concurrency: {group: site-main}}
"""


def test_groups_of_a_file_have_their_values_and_a_job_in_the_run_s_own_has_none() -> None:
    event = Event("push", "main", facts={"SHIPLAP_BRANCH": "main", "SHIPLAP_EVENT": "push"})
    found = plan(parse_pipeline(FILE.encode()), event)
    assert found.concurrency == Concurrency("site-main", 1, "replace")
    assert [(node.group, node.limit) for node in nodes_of(found.jobs, "site-main")] == [("db-push", 2), ("", 1)]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{limit: 2}", "`concurrency` has no group"),
        ("{group: ''}", "expected the name of a group"),
        ("{group: x, limit: 0}", "a whole number from 1 to 1000"),
        ("{group: x, when_busy: stop}", "expected wait, replace or cancel"),
        ("{group: x, speed: 2}", 'no key of `concurrency` is called "speed"'),
        ("production", "`concurrency`: a map with group, limit, when_busy"),
        ("{group: '${NOBODY}'}", "nothing is called ${NOBODY}"),
        ("{group: '${b.X}'}", "is known only when b has run"),
    ],
)
def test_what_is_no_group_is_told(text: str, told: str) -> None:
    jobs = 'jobs: {a: {image: "x:1", run: a, needs: b%s}, b: {image: "x:1", run: b, exports: X}}\n'
    for whole in (f"concurrency: {text}\n{jobs % ''}", jobs % f", concurrency: {text}"):
        with pytest.raises(PipelineFileError) as raised:
            parse_pipeline(whole.encode())
        assert told in raised.value.render()


def test_name_that_a_branch_makes_too_long_or_empty_is_an_error_of_the_run() -> None:
    for branch in ("x" * 200, ""):
        text = FILE.replace("site-${", "${") if not branch else FILE
        with pytest.raises(PipelineFileError, match="group"):
            plan(parse_pipeline(text.encode()), Event("push", branch, facts={"SHIPLAP_BRANCH": branch}))


def waits(number: int, place: int = 2, **members: object) -> Member:
    return Member(number, place, True)._replace(**members)  # type: ignore[arg-type]


def holds(number: int, place: int = 2, **members: object) -> Member:
    return Member(number, place, False)._replace(**members)  # type: ignore[arg-type]


def test_turns() -> None:
    assert turn([]) == turn([holds(1)]) == Turn()
    assert turn([waits(3), waits(2), waits(2, 3)]).next == waits(2)
    assert turn([holds(1), waits(2)]).next is None
    assert turn([holds(1), waits(2, limit=2), waits(3)]).next == waits(2, limit=2)
    assert turn([holds(1), waits(2), waits(3, limit=5)]).next is None, "none overtakes"
    newest = waits(5, when_busy="replace")
    assert turn([holds(1), waits(2), waits(5, 1), newest]) == Turn(None, (waits(2),), (), newest)
    newest = waits(5, when_busy="cancel")
    found = turn([holds(1), holds(3, is_ending=True), holds(7), waits(4), newest])
    assert (found.replaced, found.ended) == ((waits(4),), (holds(1),)), "what is newer, or ends already, goes on"


def test_whole_run_that_is_held_begins_nothing_and_can_be_ended() -> None:
    jobs = [JobNode("a"), JobNode("b", needs=("a",), after="always"), JobNode("c", group="g")]
    assert advance(jobs, is_held=True) == {}
    assert advance(jobs, is_held=True, stop="ending") == dict.fromkeys("abc", "cancelled")
    assert advance(jobs) == {"a": "queued", "c": "blocked"}


def test_matrix_never_has_more_in_its_group_than_it_may_have_at_once() -> None:
    jobs = [JobNode(f"t{n}", matrix="t", max_parallel=2, group="g") for n in range(5)]
    assert advance(jobs) == {"t0": "blocked", "t1": "blocked"}


@pytest.mark.parametrize("limit", [1, 2])
def test_run_on_this_machine_keeps_to_its_groups(limit: int) -> None:
    lock, inside, most = threading.Lock(), [0], [0]

    def work(given: Given, tools: JobTools) -> object:
        del given, tools
        with lock:
            inside[0] += 1
            most[0] = max(most[0], inside[0])
        threading.Event().wait(random.random() / 100)
        with lock:
            inside[0] -= 1
        return SUCCEEDED

    group = Concurrency("g", limit)
    jobs = [PlannedJob(f"j{n}", f"j{n}", Job(run=("x",), concurrency=group), (), {}) for n in range(8)]
    jobs.append(replace(jobs[0], name="free", job=Job(run=("x",))))
    end = run(jobs, Fake(**{job.name: work for job in jobs[:-1]}))  # type: ignore[arg-type]
    assert set(states(end).values()) == {"succeeded"}
    assert most[0] == limit
