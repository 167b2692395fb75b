"""The states of jobs: ``advance`` against an interpreter that is as simple as the rules are."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ci.graph import ENDED, STARTED, JobNode, State, Stop, advance, outcome, to_be_ended


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


@st.composite
def graphs(draw: st.DrawFn) -> list[JobNode]:
    """Any graph: jobs need some of those before them."""
    count = draw(st.integers(1, 7))
    found = []
    for n in range(count):
        needs = draw(st.lists(st.integers(0, n - 1), unique=True, max_size=3)) if n else []
        found.append(
            JobNode(
                f"j{n}", needs=tuple(f"j{need}" for need in needs), may_fail=draw(st.booleans()),
                after=draw(st.sampled_from(["success", "success", "failure", "always"])),
            )
        )  # fmt: skip
    return draw(st.permutations(found))


def simple(jobs: Sequence[JobNode], states: dict[str, State], stop: Stop, began: set[str]) -> dict[str, State]:
    """The rules, one job at a time, until nothing changes."""
    nodes = {one.name: one for one in jobs}

    def ancestors(name: str) -> set[str]:
        direct = set(nodes[name].needs)
        return direct.union(*(ancestors(need) for need in direct))

    states = dict(states)
    while True:
        before = dict(states)
        for name, one in nodes.items():
            if states[name] not in ("waiting", "queued", "blocked"):
                continue
            cleans = one.after == "always" and any(need in began or states[need] in STARTED for need in one.needs)
            if stop == "now" or (stop == "ending" and not cleans):
                states[name] = "cancelled"
            elif states[name] == "waiting" and all(states[need] in ENDED for need in one.needs):
                above = ancestors(name)
                good = all(
                    states[up] in ("succeeded", "reused") or (states[up] == "failed" and nodes[up].may_fail)
                    for up in above
                )
                bad = any(states[up] in ("failed", "error") and not nodes[up].may_fail for up in above)
                starts = {"success": good, "failure": bad, "always": True}[one.after]
                states[name] = "queued" if starts else "skipped"
        if states == before:
            return states


@settings(max_examples=400, deadline=None)
@given(graphs(), st.data())
def test_any_graph_ends_as_the_rules_say(jobs: list[JobNode], data: st.DataObject) -> None:
    states: dict[str, State] = {one.name: "waiting" for one in jobs}
    began: set[str] = set()
    stop: Stop = ""
    starts: dict[str, int] = {}
    for _ in range(100):
        now = [msgspec.structs.replace(one, state=states[one.name], has_run=one.name in began) for one in jobs]
        expected = simple(now, states, stop, began)
        states |= advance(now, stop=stop)
        assert states == expected
        for one in jobs:
            if states[one.name] == "queued":
                assert all(states[need] in ENDED for need in one.needs), (
                    "no job is queued before what it needs has ended"
                )
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
        stop = data.draw(st.sampled_from([stop, stop, stop, "ending" if not stop else "now"]))
    assert all(state in ENDED for state in states.values())
    last = [msgspec.structs.replace(one, state=states[one.name]) for one in jobs]
    assert outcome(last).has_ended
    assert not advance(last, stop=stop)
