"""A run in memory: what starts when, and with what; and that every run ends, whatever jobs do and whoever ends it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from ci.ends import JobOutcome
from ci.errors import CiError, JobCancelledError
from ci.graph import ENDED, State, advance, jobs_before
from ci.handover import nodes_of
from ci.local.ending import EndRequests
from ci.local.runner import Enter, LocalRun, RunRequest
from ci.local.selecting import selected
from ci.local.watching import JobEnd, RunEnd
from ci.model import After, Job, Matrix, Need, Pipeline, Retry
from ci.outcome import Given, JobTools
from ci.planning import Plan, PlannedJob
from ci.retrying import is_tried_again
from containers.spec import ContainerSpec
from core.digests import DiffID
from core.errors import ShiplapError
from core.events import Monitor, NullMonitor
from tests.toolkit.bounds import stretched

SUCCEEDED = JobOutcome("succeeded")
FAILED = JobOutcome("failed", "exit code 1", "failure", 1)


def planned(name: str, needs: str = "", base: str = "", **members: Any) -> PlannedJob:
    return PlannedJob(name, base or name, Job(run=("true",), **members), tuple(needs.split()), {})


class Watched:
    """Notes what a run tells."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []

    def monitor(self, job: str) -> Monitor:
        del job
        return NullMonitor()

    def started(self, job: str, attempt: int) -> None:
        self.told.append((job, f"started {attempt}"))

    def failed_once(self, job: str, message: str) -> None:
        self.told.append((job, f"again: {message}"))

    def ended(self, job: str, end: JobEnd) -> None:
        self.told.append((job, end.state))

    def ending(self, reason: str) -> None:
        self.told.append(("", reason))


class Fake:
    """An ``execute`` that does what it was told. It keeps what each attempt was given.

    does: by job, what it does; by default it succeeds.
    """

    def __init__(self, **does: Callable[[Given, JobTools], JobOutcome]) -> None:
        self.does = does
        self.given: dict[str, list[Given]] = {}
        self.most = 0
        self._running = 0
        self._lock = threading.Lock()

    def __call__(self, planned: PlannedJob, given: Given, tools: JobTools) -> JobOutcome:
        with self._lock:
            self.given.setdefault(planned.name, []).append(given)
            self._running += 1
            self.most = max(self.most, self._running)
        try:
            return self.does[planned.name](given, tools) if planned.name in self.does else SUCCEEDED
        finally:
            with self._lock:
                self._running -= 1


def run(
    jobs: Sequence[PlannedJob],
    execute: Fake,
    *,
    watched: Watched | None = None,
    requests: EndRequests | None = None,
    parallel: int = 4,
    given: Given | None = None,
    enter: Enter | None = None,
    **pipeline: Any,
) -> RunEnd:
    request = RunRequest(Pipeline("main", {}, {}, **pipeline), Plan(tuple(jobs), {}), given or Given(), parallel)
    return LocalRun(request, execute, no_tools, watched or Watched(), requests or EndRequests(), enter).run()


def no_tools(cancelled: threading.Event) -> JobTools:
    return JobTools(cast(Any, None), cast(Any, None), cancelled=cancelled)


def states(end: RunEnd) -> dict[str, State]:
    return {name: job.state for name, job in end.jobs.items()}


def until_cancelled(given: Given, tools: JobTools) -> JobOutcome:
    del given
    assert tools.cancelled is not None
    assert tools.cancelled.wait(stretched(30)), "nobody ended it"
    raise JobCancelledError("ended")


def until_killed(given: Given, tools: JobTools) -> JobOutcome:
    del given
    assert tools.killed is not None
    assert tools.killed.wait(stretched(30)), "nobody killed it"
    raise JobCancelledError("killed")


def test_jobs_get_what_all_jobs_before_them_leave() -> None:
    layers = {name: DiffID(f"sha256:{name * 64}") for name in "abc"}
    execute = Fake(
        a=lambda *_: JobOutcome("succeeded", outputs=layers["a"], exports={"V": "1"}),
        b=lambda *_: JobOutcome("reused", outputs=layers["b"], image="sha256:image"),
        c=lambda *_: JobOutcome("failed", "x", outputs=layers["c"], exports={"V": "2"}),
    )
    jobs = [
        planned("d", "b c", after="always"), planned("b", "a"), planned("a"), planned("c", may_fail=True),
        planned("lonely"),
    ]  # fmt: skip
    common = Given(facts={"SHIPLAP_EVENT": "local"}, secrets={"S": b"value"})
    run(jobs, execute, given=common)
    (got,) = execute.given["d"]
    assert got.outputs == (("b", layers["b"]), ("a", layers["a"]))  # as in the file; nothing of what failed
    assert got.before == {"b": frozenset("a"), "a": frozenset()}
    assert (got.exports, got.images) == ({"a": {"V": "1"}}, {"b": "sha256:image"})
    assert execute.given["lonely"] == [common]


def test_at_most_as_many_run_at_once_as_was_said() -> None:
    def slow(*_: object) -> JobOutcome:
        time.sleep(0.02)
        return SUCCEEDED

    jobs = [planned(f"j{n}") for n in range(8)]
    execute = Fake(**{job.name: slow for job in jobs})
    run(jobs, execute, parallel=2)
    assert execute.most == 2
    limited = [planned(f"t ({n})", base="t", matrix=Matrix(lists={"N": ("1",)}, max_parallel=1)) for n in range(4)]
    execute = Fake(**{job.name: slow for job in limited})
    run(limited, execute, parallel=4)
    assert execute.most == 1


def test_job_that_failed_is_tried_again_as_often_as_it_says() -> None:
    watched = Watched()
    execute = Fake(a=lambda given, _: SUCCEEDED if given.attempt == 3 else FAILED)
    end = run([planned("a", retry=Retry(3)), planned("b", "a")], execute, watched=watched)
    assert states(end) == {"a": "succeeded", "b": "succeeded"}
    assert [given.attempt for given in execute.given["a"]] == [1, 2, 3]
    assert (end.jobs["a"].attempts, end.jobs["a"].is_flaky, end.has_warnings) == (3, True, True)
    assert watched.told[:3] == [("a", "started 1"), ("a", "again: exit code 1"), ("a", "started 2")]
    end = run([planned("a", retry=Retry(1)), planned("b", "a")], Fake(a=lambda *_: FAILED))
    assert (end.jobs["a"].state, end.jobs["a"].attempts) == ("failed", 2)
    assert (end.jobs["b"].state, end.jobs["b"].attempts) == ("skipped", 0)


def test_what_execute_raises_ends_the_job_alone() -> None:
    def raising(error: Exception) -> Callable[[Given, JobTools], JobOutcome]:
        def does(given: Given, tools: JobTools) -> JobOutcome:
            raise error

        return does

    execute = Fake(
        file=raising(CiError("no such image")),
        machine=raising(ShiplapError("no disk")),
        other=raising(OSError(5, "io")),
    )
    end = run(
        [planned("file"), planned("machine"), planned("other"), planned("next", "machine"), planned("free")], execute
    )
    assert states(end) == {
        "file": "failed", "machine": "error", "other": "error", "next": "skipped", "free": "succeeded",
    }  # fmt: skip
    assert end.jobs["next"].message == "machine, which has to succeed before it, ended by an error"
    assert end.outcome.state == "error"


def test_bug_of_ours_is_raised_when_every_thread_has_ended() -> None:
    ended = threading.Event()

    def waits(given: Given, tools: JobTools) -> JobOutcome:
        try:
            return until_killed(given, tools)
        finally:
            ended.set()

    def bug(*_: object) -> JobOutcome:
        raise KeyError("ours")

    with pytest.raises(KeyError, match="ours"):
        run([planned("a"), planned("b")], Fake(a=waits, b=bug))
    assert ended.is_set()


def test_first_request_ends_what_runs_and_lets_clean_up_run() -> None:
    requests, watched = EndRequests(), Watched()

    def asks(given: Given, tools: JobTools) -> JobOutcome:
        requests.ask()
        return until_cancelled(given, tools)

    jobs = [
        planned("a"), planned("clean", "a", after="always"), planned("b", "a"), planned("tell", "b", after="always"),
        planned("f", "a", after="failure"),
    ]  # fmt: skip
    end = run(jobs, Fake(a=asks), watched=watched, requests=requests)
    assert states(end) == {
        "a": "cancelled",
        "clean": "succeeded",
        "b": "cancelled",
        "tell": "cancelled",
        "f": "cancelled",
    }
    assert end.jobs["b"].message == "the run was cancelled"
    assert end.outcome.state == "cancelled"
    assert [reason for job, reason in watched.told if not job] == [
        "what still runs is ended, and what cleans up is run; once more kills everything"
    ]


def test_what_cleans_up_waits_for_all_before_it() -> None:
    """``far`` is needed by ``never`` alone, which is cancelled at once; it may still let go of what is cleaned up."""
    requests, has_ended = EndRequests(), threading.Event()

    def far(given: Given, tools: JobTools) -> JobOutcome:
        try:
            return until_cancelled(given, tools)
        finally:
            has_ended.set()

    def near(given: Given, tools: JobTools) -> JobOutcome:
        requests.ask()
        return SUCCEEDED

    def clean(given: Given, tools: JobTools) -> JobOutcome:
        assert has_ended.is_set()
        return SUCCEEDED

    jobs = [planned("far"), planned("near"), planned("never", "far"), planned("clean", "never near", after="always")]
    end = run(jobs, Fake(far=far, near=near, clean=clean), requests=requests)
    assert states(end) == {"far": "cancelled", "near": "succeeded", "never": "cancelled", "clean": "succeeded"}


def test_second_request_kills_what_cleans_up() -> None:
    requests = EndRequests()

    def asks(given: Given, tools: JobTools) -> JobOutcome:
        requests.ask()
        return until_cancelled(given, tools)

    def cleans(given: Given, tools: JobTools) -> JobOutcome:
        assert tools.cancelled is not None
        assert not tools.cancelled.is_set()
        requests.ask()
        return until_killed(given, tools)

    jobs = [planned("a"), planned("clean", "a", after="always"), planned("more", "a clean", after="always")]
    end = run(jobs, Fake(a=asks, clean=cleans), requests=requests)
    assert states(end) == {"a": "cancelled", "clean": "cancelled", "more": "cancelled"}


def test_time_out_of_a_run_cancels_it() -> None:
    watched = Watched()
    jobs = [planned("a"), planned("clean", "a", after="always"), planned("b", "a")]
    end = run(jobs, Fake(a=until_cancelled), watched=watched, timeout_s=0.05)
    assert states(end) == {"a": "cancelled", "clean": "succeeded", "b": "cancelled"}
    assert end.jobs["a"].message == "the run's time was over"
    assert ("", "the run's time is over: what still runs is ended") in watched.told


def test_first_failure_stops_the_others_where_the_file_says_so() -> None:
    jobs = [planned("a"), planned("b"), planned("c", "b")]
    end = run(jobs, Fake(a=lambda *_: FAILED, b=until_cancelled), stop_on_failure=True)
    assert states(end) == {"a": "failed", "b": "cancelled", "c": "cancelled"}
    assert end.jobs["c"].message == "another job had failed"


def test_who_looks_at_a_failed_job_has_the_thread_of_the_run_and_all_the_time() -> None:
    seen: list[tuple[str, threading.Thread]] = []

    def enter(name: str, spec: ContainerSpec) -> None:
        assert spec.args == ("false",)
        seen.append((name, threading.current_thread()))
        time.sleep(0.3)  # more than the run may take: people are not counted

    def fails(given: Given, tools: JobTools) -> JobOutcome:
        assert tools.held is not None
        tools.held(ContainerSpec((), None, ("false",)))
        return FAILED

    jobs = [planned("a", may_fail=True), planned("b", "a")]
    end = run(jobs, Fake(a=fails), enter=enter, timeout_s=0.2)
    assert seen == [("a", threading.current_thread())]
    assert states(end) == {"a": "failed", "b": "succeeded"}


def test_nobody_looks_at_jobs_of_a_run_that_is_being_ended() -> None:
    requests = EndRequests()

    def fails(given: Given, tools: JobTools) -> JobOutcome:
        requests.ask()
        assert tools.held is not None
        tools.held(ContainerSpec((), None, ("false",)))
        raise JobCancelledError("ended")

    def enter(name: str, spec: ContainerSpec) -> None:
        raise AssertionError("nobody asked for this")

    assert states(run([planned("a")], Fake(a=fails), requests=requests, enter=enter)) == {"a": "cancelled"}


def test_bug_of_whoever_watches_is_raised_and_nobody_waits_for_ever() -> None:
    class Broken(Watched):
        def started(self, job: str, attempt: int) -> None:
            if job == "b":
                raise KeyError("ours")

    with pytest.raises(KeyError, match="ours"):
        run([planned("a"), planned("b")], Fake(a=until_killed), watched=Broken())


ENDS = ("succeeded", "reused", "failed", "wrong file", "machine", "long")


@st.composite
def runs(draw: st.DrawFn) -> tuple[list[PlannedJob], dict[str, list[str]]]:
    """Any graph, and what comes of each job's attempts."""
    jobs, does = [], {}
    for n in range(draw(st.integers(1, 7))):
        needs = draw(st.lists(st.integers(0, n - 1), unique=True, max_size=3)) if n else []
        after: After = draw(st.sampled_from(["success", "success", "failure", "always"]))
        matrix = None
        if draw(st.integers(0, 3)) == 0:
            matrix = Matrix(
                lists={"A": ("1",)}, max_parallel=draw(st.sampled_from([None, 1])), fail_fast=draw(st.booleans())
            )
        name = f"j{n}"
        job = Job(
            run=("true",), after=after, may_fail=draw(st.booleans()), matrix=matrix,
            needs=tuple(Need(f"j{need}", False, "") for need in needs), retry=Retry(draw(st.integers(0, 2))),
        )  # fmt: skip
        jobs.append(PlannedJob(name, "m" if matrix else name, job, tuple(f"j{need}" for need in needs), {}))
        does[name] = draw(st.lists(st.sampled_from(ENDS), min_size=3, max_size=3))
    return draw(st.permutations(jobs)), does


@settings(max_examples=150, deadline=None)
@given(runs(), st.lists(st.integers(1, 12), max_size=2), st.integers(1, 4), st.booleans())
def test_any_run_ends_as_the_graph_says(
    made: tuple[list[PlannedJob], dict[str, list[str]]], asked: list[int], parallel: int, stop_on_failure: bool
) -> None:
    jobs, does = made
    by_name = {job.name: job for job in jobs}
    before = jobs_before(jobs)
    requests = EndRequests()
    ended: dict[str, State] = {}
    starts: dict[str, int] = {}
    busy: set[str] = set()
    lock = threading.Lock()
    count = 0

    class Watch(Watched):
        def started(self, job: str, attempt: int) -> None:
            assert job not in ended
            assert job not in busy
            busy.add(job)
            assert len(busy) <= parallel
            assert attempt <= by_name[job].job.retry.times + 1
            starts[job] = starts.get(job, 0) + 1
            assert all(need in ended for need in by_name[job].needs), "it began before what it needs had ended"
            above = {other: ended.get(other) for other in before[job]}  # one above a cancelled one may still be ending
            good = all(
                state in ("succeeded", "reused") or (state == "failed" and by_name[other].job.may_fail)
                for other, state in above.items()
            )
            if by_name[job].job.after == "success":
                assert good
            elif by_name[job].job.after == "failure":
                assert not good

        def failed_once(self, job: str, message: str) -> None:
            busy.discard(job)

        def ended(self, job: str, end: JobEnd) -> None:
            assert job not in ended, "it ended twice"
            busy.discard(job)
            ended[job] = end.state

    def execute(planned: PlannedJob, given: Given, tools: JobTools) -> JobOutcome:
        nonlocal count
        with lock:
            count += 1
            for _ in range(asked.count(count)):
                requests.ask()
        assert tools.cancelled is not None
        assert tools.killed is not None
        what = does[planned.name][given.attempt - 1]
        if tools.cancelled.wait(0.003 if what == "long" else 0.0):
            raise JobCancelledError("ended")
        if what == "wrong file":
            raise CiError("wrong")
        if what == "machine":
            raise ShiplapError("disk")
        if what == "failed":
            return FAILED
        return JobOutcome("reused", reused_from="1") if what == "reused" else SUCCEEDED

    request = RunRequest(
        Pipeline("main", {}, {}, stop_on_failure=stop_on_failure), Plan(tuple(jobs), {}), Given(), parallel
    )
    end = LocalRun(request, execute, no_tools, Watch(), requests).run()
    assert states(end) == ended
    assert set(ended) == set(by_name)
    assert all(state in ENDED for state in ended.values())
    assert end.outcome.has_ended
    last = [replace(node, state=ended[node.name], has_run=node.name in starts) for node in nodes_of(jobs)]
    assert not advance(last, stop=requests.stop, stop_on_failure=stop_on_failure)
    for job in jobs:
        if job.job.after == "always" and job.name not in starts:
            assert requests.stop or stop_on_failure or job.job.matrix is not None, "what cleans up always runs"


def test_job_runs_with_all_that_it_needs() -> None:
    jobs = (
        planned("lint"), planned("test (1)", base="test"), planned("test (2)", base="test"),
        replace(planned("app"), needs=("test (1)", "test (2)")), planned("clean", "app", after="always"),
    )  # fmt: skip
    plan = Plan(jobs, {"deploy": "it is not for local", "old (1)": "it is not for A=1"})
    assert selected(plan, ()) is plan
    for names, expected in {
        ("app",): ["test (1)", "test (2)", "app"], ("test",): ["test (1)", "test (2)"],
        ("test (2)", "lint"): ["lint", "test (2)"],
    }.items():  # fmt: skip
        found = selected(plan, names)
        assert [job.name for job in found.jobs] == expected
        assert not found.left_out
    for name, message, hint in (
        ("tset", 'there is no job "tset"', 'did you mean "test"?'),
        ("zzz", 'there is no job "zzz"', "there are lint, test, test (1), test (2), app, clean, deploy, old (1)"),
        ("deploy", '"deploy" is left out: it is not for local', "--event, --branch and --tag say what the run is of"),
        ("old", '"old" is left out: it is not for A=1', "--event, --branch and --tag say what the run is of"),
    ):
        with pytest.raises(CiError) as raised:
            selected(plan, (name,))
        assert (raised.value.message, raised.value.hint) == (message, hint)


@pytest.mark.parametrize(
    ("retry", "outcome", "attempts"),
    [
        (Retry(0), FAILED, 1), (Retry(2), FAILED, 3), (Retry(2), SUCCEEDED, 1),
        (Retry(2, ("failure",)), FAILED, 3), (Retry(2, ("timeout",)), FAILED, 1), (Retry(2, ("137", "1")), FAILED, 3),
        (Retry(2, ("137",)), FAILED, 1), (Retry(2), JobOutcome("failed", "no such image"), 1),
    ],
)  # fmt: skip
def test_retry_says_after_which_failures_there_is_another_attempt(
    retry: Retry, outcome: JobOutcome, attempts: int
) -> None:
    attempt = 1
    while is_tried_again(retry, outcome, attempt):
        attempt += 1
    assert attempt == attempts
