"""Which jobs of a run are done again, taken over or left out when it is retried: by hand, and for any graph."""

from __future__ import annotations

import random

import pytest

from ci.graph import JobNode, jobs_before
from ci.takeover import Parts, parts_of

GRAPH = (
    JobNode("make"), JobNode("use", needs=("make",)), JobNode("last", needs=("use",)), JobNode("other"),
    JobNode("tell", needs=("other",), after="always"),
)  # fmt: skip


def parts(wanted: tuple[str, ...], *succeeded: str, away: tuple[str, ...] = ()) -> Parts:
    return parts_of(GRAPH, wanted, succeeded, is_here=lambda name: name not in away)


def named(found: Parts) -> tuple[str, ...]:
    return tuple(" ".join(sorted(names)) for names in found)


def test_what_did_not_succeed_is_done_again_with_what_comes_after_it() -> None:
    found = parts((), "make", "last", "tell")
    assert named(found) == ("last other tell use", "make", "", "")


def test_job_is_done_again_and_what_failed_beside_it_is_left_out() -> None:
    found = parts(("use",), "make", "use", "last", "tell")
    assert named(found) == ("last use", "make", "other tell", "")
    found = parts(("use",), "make", "use", "last", "other", "tell")
    assert named(found) == ("last use", "make other tell", "", "")


def test_what_a_job_needs_is_done_again_where_it_failed_or_is_gone() -> None:
    assert parts(("last",), "make").redone == {"use", "last"}
    found = parts(("last",), "make", "use", "last", "other", "tell", away=("make", "other"))
    assert named(found) == ("last make use", "other tell", "", "make")


@pytest.mark.parametrize("seed", range(300))
def test_any_graph_is_shared_out_so_that_the_run_can_be_done(seed: int) -> None:
    chance = random.Random(seed)
    names = [f"j{number}" for number in range(chance.randint(1, 12))]
    graph = [
        JobNode(name, needs=tuple(chance.sample(names[:at], chance.randint(0, min(at, 3)))))
        for at, name in enumerate(names)
    ]
    chance.shuffle(graph)
    before = jobs_before(graph)
    succeeded = {name for name in names if chance.random() < 0.7}
    away = {name for name in succeeded if chance.random() < 0.2}
    wanted = tuple(chance.sample(names, chance.randint(0, min(len(names), 2))))
    found = parts_of(graph, wanted, succeeded, is_here=lambda name: name not in away)
    assert found.redone | found.taken | found.left_out == set(names)
    assert len(found.redone) + len(found.taken) + len(found.left_out) == len(names)
    assert found.taken <= succeeded
    assert set(wanted) <= found.redone
    for name in found.redone:
        assert before[name].isdisjoint(found.left_out), "it needs what the run does not have"
        assert not before[name] & found.taken & away, "it needs what is not here"
    for name in found.taken:
        assert before[name] <= found.taken, "it is older than what it comes after"
    if not wanted:
        assert not found.left_out
        assert set(names) - succeeded <= found.redone
