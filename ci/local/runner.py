"""A run in memory: jobs on threads, moved on by ``ci.graph.advance`` until every one has ended.

    LocalRun.run     one thread: it alone looks at states and changes them
      └─ execute     a thread for each running job, at most ``parallel``; each ends with a message to the one above

Nothing but messages passes between them: that a job ended, that one failed and somebody may look at it, that the run is
to end. A gate asks when nothing runs: what people see is the question, and no job's output in between.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from queue import Empty, SimpleQueue
from typing import NamedTuple, Protocol, TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from ci.ends import JobOutcome
from ci.errors import CiError, JobCancelledError
from ci.gates import question
from ci.graph import ENDED, JobNode, State, Stop, advance, jobs_before, outcome, to_be_ended
from ci.groups import Member, turn
from ci.handover import given_to, nodes_of
from ci.local.ending import EndRequests
from ci.local.gates import Decide, nobody
from ci.local.watching import JobEnd, RunEnd, Watcher
from ci.model import Pipeline
from ci.outcome import Given, JobTools
from ci.planning import Plan, PlannedJob
from ci.reasons import why_skipped
from ci.retrying import is_tried_again
from containers.spec import ContainerSpec
from core.errors import ShiplapError


class Execute(Protocol):
    """Does one attempt of a job: the function that a worker calls, too.

    Raises JobCancelledError once it was cancelled, other CiErrors for what the file got wrong, and ShiplapErrors and
    OSErrors for what the machine did.
    """

    def __call__(self, planned: PlannedJob, given: Given, tools: JobTools) -> JobOutcome: ...


ToolsFor: TypeAlias = Callable[[threading.Event], JobTools]
"""What an attempt is done with; the event is set once the attempt is to end."""

Enter: TypeAlias = Callable[[str, ContainerSpec], None]


class RunRequest(Struct, frozen=True):
    """A run.

    plan: its jobs.
    given: what all of them get: facts, source, secrets, ``.git``.
    parallel: how many run at once, at least one.
    """

    pipeline: Pipeline
    plan: Plan
    given: Given
    parallel: int


class _Running(NamedTuple):
    """An attempt that goes on."""

    cancelled: threading.Event
    killed: threading.Event


class _Ended(NamedTuple):
    """A thread has ended."""

    job: str
    result: Future[JobOutcome]


class _Asked(NamedTuple):
    """A thread wants ``work`` done by the thread of ``run``, and waits for ``done``."""

    work: Callable[[], None]
    done: threading.Event


_Message: TypeAlias = _Ended | _Asked | None
"""None: somebody asked the run to end."""


class LocalRun:
    """One run. Call ``run`` once.

    execute: does a job's attempt.
    tools: what an attempt is done with, but for its monitor and its events.
    requests: how somebody ends the run.
    enter: is given a job and its container when its command failed, in the thread of ``run``, and may run it once more;
        None: nobody wants to look.
    decide: answers for gates.
    """

    def __init__(
        self,
        request: RunRequest,
        execute: Execute,
        tools: ToolsFor,
        watcher: Watcher,
        requests: EndRequests,
        enter: Enter | None = None,
        decide: Decide = nobody,
    ) -> None:
        self._request = request
        self._execute = execute
        self._tools = tools
        self._watcher = watcher
        self._requests = requests
        self._enter = enter
        self._decide = decide
        group = request.plan.concurrency.group if request.plan.concurrency is not None else ""
        self._jobs = {planned.name: planned for planned in request.plan.jobs}
        self._nodes = {node.name: node for node in nodes_of(request.plan.jobs, group)}
        self._before = jobs_before(request.plan.jobs)
        self._outcomes: dict[str, JobOutcome] = {}
        self._ends: dict[str, JobEnd] = {}
        self._running: dict[str, _Running] = {}
        self._attempts: dict[str, int] = {}
        self._began_at: dict[str, float] = {}
        self._inbox: SimpleQueue[_Message] = SimpleQueue()
        self._told: Stop = ""
        self._ends_at = 0.0
        self._is_late = False

    def run(self) -> RunEnd:
        """Run every job to its end. Raises what a bug in ``execute`` raises, once every thread has ended."""
        began = time.monotonic()
        self._ends_at = began + self._request.pipeline.timeout_s
        self._requests.tell(lambda: self._inbox.put(None))
        with ThreadPoolExecutor(self._request.parallel, thread_name_prefix="job") as threads, self._all_end():
            self._advance()
            while len(self._ends) < len(self._jobs):
                self._start(threads)
                gate = self._open_gate()
                if gate:
                    self._ask(gate)
                else:
                    self._take(self._next())
                self._advance()
        nodes = list(self._nodes.values())
        ends = {name: self._ends[name] for name in self._jobs}
        return RunEnd(ends, outcome(nodes), time.monotonic() - began)

    @contextmanager
    def _all_end(self) -> Iterator[None]:
        """Whatever happens within: no job goes on behind it, and nobody waits for an answer."""
        try:
            yield
        finally:
            while self._running:
                for running in self._running.values():
                    running.cancelled.set()
                    running.killed.set()
                message = self._inbox.get()
                if isinstance(message, _Ended):
                    del self._running[message.job]
                elif message is not None:
                    message.done.set()

    def _next(self) -> _Message:
        """Wait for a message; None also when the run's time is over."""
        if self._stop():
            return self._inbox.get()
        try:
            return self._inbox.get(timeout=max(0.0, self._ends_at - time.monotonic()))
        except Empty:
            self._is_late = True
            return None

    def _take(self, message: _Message) -> None:
        match message:
            case _Ended(name, result):
                del self._running[name]
                self._settle(name, result)
            case _Asked(work, done):
                began = time.monotonic()
                try:
                    if not self._stop():
                        work()
                finally:
                    done.set()
                self._ends_at += time.monotonic() - began  # a run's time is its own, not that of people
            case None:
                pass

    def _open_gate(self) -> str:
        """The first gate that waits for an answer; empty while something runs."""
        if self._running or self._stop():
            return ""
        return next((name for name, node in self._nodes.items() if node.is_gate and node.state == "blocked"), "")

    def _ask(self, name: str) -> None:
        """Let somebody answer. The run's time stands still meanwhile."""
        planned, began = self._jobs[name], time.monotonic()
        given = given_to(name, self._before, self._outcomes, self._request.given)
        assert planned.job.approve is not None, "it is a gate"
        answer = self._decide(name, question(planned, given.facts, given.exports), planned.job.approve)
        self._ends_at += time.monotonic() - began
        if answer is not None and not self._stop():
            self._end(name, "succeeded" if answer.is_yes else "failed", answer.told)

    def _stop(self) -> Stop:
        """How far the run is to be ended, by somebody or by its time-out."""
        return self._requests.stop or ("ending" if self._is_late else "")

    def _advance(self) -> None:
        """Let ``ci.graph`` say what changes, and tell it; end what is not to go on."""
        nodes, stop = list(self._nodes.values()), self._stop()
        stops_on_failure = self._request.pipeline.stop_on_failure
        self._tell_of_end(stop)
        for name in to_be_ended(nodes, stop=stop, stop_on_failure=stops_on_failure):
            self._running[name].cancelled.set()
            if stop == "now":
                self._running[name].killed.set()
        for name, state in advance(nodes, stop=stop, stop_on_failure=stops_on_failure).items():
            self._nodes[name] = replace(self._nodes[name], state=state)
            if state in ENDED:
                self._end(name, state, self._why(name, state))
        self._hand_over()

    def _hand_over(self) -> None:
        """Give free places of groups to the jobs that wait for them."""
        places = {name: place for place, name in enumerate(self._nodes, 1)}
        for group in dict.fromkeys(node.group for node in self._nodes.values() if node.group):
            while True:
                members = {
                    Member(0, places[name], node.state == "blocked", limit=node.limit): name
                    for name, node in self._nodes.items()
                    if node.group == group and node.state in ("blocked", "queued", "running")
                }
                following = turn(members).next
                if following is None:
                    break
                name = members[following]
                self._nodes[name] = replace(self._nodes[name], state="queued")

    def _tell_of_end(self, stop: Stop) -> None:
        if stop == self._told:
            return
        self._told = stop
        if stop == "now":
            self._watcher.ending("everything is killed")
        elif self._is_late:
            self._watcher.ending("the run's time is over: what still runs is ended")
        else:
            self._watcher.ending("what still runs is ended, and what cleans up is run; once more kills everything")

    def _why(self, name: str, state: State) -> str:
        if state == "skipped":
            return why_skipped(
                self._nodes[name], [self._nodes[other] for other in self._jobs if other in self._before[name]]
            )
        if self._requests.stop:
            return "the run was cancelled"
        if self._is_late:
            return "the run's time was over"
        return "another job had failed"

    def _start(self, threads: ThreadPoolExecutor) -> None:
        for name, node in self._nodes.items():
            if len(self._running) >= self._request.parallel:
                return
            if node.state == "queued":
                self._begin(name, node, threads)

    def _begin(self, name: str, node: JobNode, threads: ThreadPoolExecutor) -> None:
        attempt = self._attempts[name] = self._attempts.get(name, 0) + 1
        self._began_at.setdefault(name, time.monotonic())
        self._nodes[name] = replace(node, state="running", has_run=True)
        running = _Running(threading.Event(), threading.Event())
        self._watcher.started(name, attempt)
        given = replace(given_to(name, self._before, self._outcomes, self._request.given), attempt=attempt)
        tools = self._tools(running.cancelled)._replace(
            monitor=self._watcher.monitor(name),
            cancelled=running.cancelled,
            killed=running.killed,
            held=None if self._enter is None else partial(self._hold, name, self._enter),
        )
        result = threads.submit(self._execute, self._jobs[name], given, tools)
        self._running[name] = running  # only now there is a thread that says when it has ended
        result.add_done_callback(lambda ended: self._inbox.put(_Ended(name, ended)))

    def _hold(self, name: str, enter: Enter, spec: ContainerSpec) -> None:
        """In the thread of a job: let the thread of ``run`` look, for it alone has the terminal and its signals."""
        done = threading.Event()
        self._inbox.put(_Asked(lambda: enter(name, spec), done))
        done.wait()

    def _settle(self, name: str, result: Future[JobOutcome]) -> None:
        """Take what came of an attempt. Raises what nobody expects."""
        try:
            found = result.result()
        except JobCancelledError:
            self._end(name, "cancelled", self._why(name, "cancelled"))
        except CiError as error:
            self._end(name, "failed", str(error), error=error)
        except (ShiplapError, OSError) as error:
            self._end(name, "error", str(error), error=error)
        else:
            if found.state == "failed" and self._is_tried_again(name, found):
                self._watcher.failed_once(name, found.message)
                self._nodes[name] = replace(self._nodes[name], state="queued")
            else:
                self._end(name, found.state, found.message, found)

    def _is_tried_again(self, name: str, found: JobOutcome) -> bool:
        return not self._stop() and is_tried_again(self._jobs[name].job.retry, found, self._attempts[name])

    def _end(
        self, name: str, state: State, message: str, found: JobOutcome | None = None, error: Exception | None = None
    ) -> None:
        if found is not None:
            self._outcomes[name] = found
        began = self._began_at.get(name)
        took = 0.0 if began is None else time.monotonic() - began
        self._nodes[name] = replace(self._nodes[name], state=state)
        self._ends[name] = end = JobEnd(state, message, took, self._attempts.get(name, 0), found, error)
        self._watcher.ended(name, end)
