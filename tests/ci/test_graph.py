"""The states of jobs: ``advance`` against an interpreter that is as simple as the rules are."""

from __future__ import annotations

import random
from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ci.graph import ENDED, JobNode, JobStop, State, Stop, advance, outcome, to_be_ended
from ci.reasons import why_waiting
from tests.toolkit.jobgraphs import above, random_graph, settled, signalled, state_of_run


def job(name: str, needs: str = "", **members: object) -> JobNode:
    return msgspec.convert({"name": name, "needs": needs.split(), **members}, JobNode)


def after(jobs: Sequence[JobNode], **options: object) -> dict[str, State]:
    """All states once nothing changes any more."""
    changed = {node.name: node.state for node in jobs} | advance(jobs, **options)  # type: ignore[arg-type]
    moved = [msgspec.structs.replace(node, state=changed[node.name]) for node in jobs]
    assert not advance(moved, **options)  # type: ignore[arg-type] # it settles in one call
    return changed


def test_what_needs_nothing_is_queued_at_once() -> None:
    assert after([job("a"), job("b", "a"), job("c")]) == {"a": "queued", "b": "waiting", "c": "queued"}


@pytest.mark.parametrize(
    ("state", "may_fail", "expected"),
    [
        ("succeeded", False, ("queued", "skipped", "queued")),
        ("reused", False, ("queued", "skipped", "queued")),
        ("failed", False, ("skipped", "queued", "queued")),
        ("failed", True, ("queued", "skipped", "queued")),
        ("error", False, ("skipped", "queued", "queued")),
        ("error", True, ("skipped", "skipped", "queued")),
        ("cancelled", False, ("skipped", "skipped", "queued")),
        ("skipped", False, ("skipped", "skipped", "queued")),
        ("running", False, ("waiting", "waiting", "waiting")),
    ],
)
def test_after_says_what_has_to_have_become_of_needs(state: State, may_fail: bool, expected: tuple[State, ...]) -> None:
    jobs = [
        job("a", state=state, may_fail=may_fail), job("s", "a"), job("f", "a", after="failure"),
        job("x", "a", after="always"),
    ]  # fmt: skip
    found = after(jobs)
    assert (found["s"], found["f"], found["x"]) == expected


def test_after_counts_all_jobs_before() -> None:
    jobs = [
        job("a", state="failed"),
        job("b", "a", after="always", state="succeeded"),
        job("s", "b"),
        job("f", "b", after="failure"),
    ]
    found = after(jobs)
    assert (found["s"], found["f"]) == ("skipped", "queued")


def test_cancelling_leaves_what_cleans_up_after_something_that_began() -> None:
    jobs = [
        job("a", state="running", has_run=True), job("b", "a"), job("clean", "a", after="always"),
        job("tell", "b", after="always"), job("f", "a", after="failure"),
    ]  # fmt: skip
    assert to_be_ended(jobs, stop="ending") == ["a"]
    first = after(jobs, stop="ending")
    assert first == {"a": "running", "b": "cancelled", "clean": "waiting", "tell": "cancelled", "f": "cancelled"}
    ended = [msgspec.structs.replace(one, state="cancelled" if one.name == "a" else first[one.name]) for one in jobs]
    second = after(ended, stop="ending")
    assert second["clean"] == "queued"
    running = [
        msgspec.structs.replace(one, state="running" if one.name == "clean" else second[one.name]) for one in ended
    ]
    assert to_be_ended(running, stop="ending") == []
    assert to_be_ended(running, stop="now") == ["clean"]
    assert after(ended, stop="now")["clean"] == "cancelled"


def test_first_failure_stops_the_others_where_the_file_says_so() -> None:
    jobs = [job("a", state="failed"), job("b", state="running"), job("c"), job("d", "b")]
    assert to_be_ended(jobs) == []
    assert to_be_ended(jobs, stop_on_failure=True) == ["b"]
    assert after(jobs, stop_on_failure=True)["c"] == "cancelled"
    allowed = [msgspec.structs.replace(jobs[0], may_fail=True), *jobs[1:]]
    assert after(allowed, stop_on_failure=True)["c"] == "queued"


def test_matrix_runs_as_many_at_once_as_it_says_and_ends_at_its_first_failure() -> None:
    jobs = [job(f"t{n}", matrix="t", max_parallel=2, fail_fast=True) for n in range(4)]
    assert list(after(jobs).values()) == ["queued", "queued", "waiting", "waiting"]
    states: list[State] = ["succeeded", "running", "waiting", "waiting"]
    moved = [msgspec.structs.replace(one, state=state) for one, state in zip(jobs, states, strict=True)]
    assert list(after(moved).values()) == ["succeeded", "running", "queued", "waiting"]
    lost = [msgspec.structs.replace(moved[0], state="failed"), *moved[1:]]
    assert to_be_ended(lost) == ["t1"]
    assert list(after(lost).values()) == ["failed", "running", "cancelled", "cancelled"]


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        (["queued", "waiting"], "queued"), (["running", "waiting"], "running"), (["succeeded", "waiting"], "running"),
        (["succeeded", "blocked", "waiting"], "blocked"), (["succeeded", "queued", "blocked"], "running"),
        (["succeeded", "left out", "reused"], "succeeded"),
        (["succeeded", "failed", "skipped"], "failed"), (["failed", "error"], "error"),
        (["failed", "error", "cancelled"], "cancelled"), (["blocked", "waiting"], "blocked"),
    ],
)  # fmt: skip
def test_state_of_a_run_comes_from_its_jobs(states: list[State], expected: str) -> None:
    assert outcome([job(f"j{n}", state=state) for n, state in enumerate(states)]).state == expected


def test_allowed_failure_is_a_warning() -> None:
    found = outcome([job("a", state="failed", may_fail=True), job("b", state="succeeded")])
    assert (found.state, found.has_warnings, found.has_ended) == ("succeeded", True, True)


def test_what_cleans_up_waits_until_all_before_it_has_ended() -> None:
    """A need that was cancelled while it waited has ended; what that waited for has not."""
    jobs = [
        job("a", state="running", has_run=True), job("b", "a"), job("d", state="succeeded", has_run=True),
        job("clean", "b d", after="always"),
    ]  # fmt: skip
    first = after(jobs, stop="ending")
    assert first == {"a": "running", "b": "cancelled", "d": "succeeded", "clean": "waiting"}
    now = [msgspec.structs.replace(one, state=first[one.name]) for one in jobs]
    assert why_waiting(now[3], now) == "waits for a"
    now[0] = msgspec.structs.replace(now[0], state="cancelled")
    assert after(now, stop="ending")["clean"] == "queued"


@settings(max_examples=400, deadline=None)
@given(st.randoms(use_true_random=False), st.booleans(), st.data())
def test_any_graph_ends_as_the_rules_say(chance: random.Random, stop_on_failure: bool, data: st.DataObject) -> None:
    jobs = random_graph(chance)
    if not any(one.matrix for one in jobs):  # the order says which job of a matrix comes first, and nothing else
        jobs = data.draw(st.permutations(jobs))
    states: dict[str, State] = {one.name: "waiting" for one in jobs}
    stops: dict[str, JobStop] = {one.name: "" for one in jobs}
    began: set[str] = set()
    stop: Stop = ""
    starts: dict[str, int] = {}

    def now() -> list[JobNode]:
        return [
            msgspec.structs.replace(
                one, state=states[one.name], has_run=one.name in began, stop=stops[one.name]
            )
            for one in jobs
        ]  # fmt: skip

    for _ in range(200):
        expected = settled(now(), stop=stop, stop_on_failure=stop_on_failure)
        assert set(to_be_ended(now(), stop=stop, stop_on_failure=stop_on_failure)) == signalled(
            now(), stop=stop, stop_on_failure=stop_on_failure
        )
        states |= advance(now(), stop=stop, stop_on_failure=stop_on_failure)
        assert states == expected
        for one in jobs:
            if states[one.name] == "queued":
                assert all(states[up.name] in ENDED for up in above(one, jobs)), "nothing before it is still going on"
        free = [name for name, state in states.items() if state in ("queued", "running")]
        if not free:
            break
        chosen = data.draw(st.sampled_from(free))
        if states[chosen] == "queued":
            states[chosen] = "running"
            began.add(chosen)
            starts[chosen] = starts.get(chosen, 0) + 1
        else:  # it ends, or its worker dies and it is queued again
            ends: list[State] = ["succeeded", "reused", "failed", "error", "cancelled", "queued"]
            weight = ends if starts[chosen] < 3 else ends[:-1]
            states[chosen] = data.draw(st.sampled_from(weight))
        stop = data.draw(st.sampled_from([stop, stop, stop, stop, "ending" if not stop else "now"]))
        if data.draw(st.integers(0, 9)) == 0:
            stops[data.draw(st.sampled_from(list(stops)))] = data.draw(st.sampled_from(["with", "term", "now"]))
    assert all(state in ENDED for state in states.values())
    last = now()
    assert outcome(last).state == state_of_run(last).replace("warnings", "succeeded")
    assert outcome(last).has_warnings == any(one.state == "failed" and one.may_fail for one in last)
    assert not advance(last, stop=stop, stop_on_failure=stop_on_failure)
