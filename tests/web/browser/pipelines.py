"""Runs of pipelines for the browser's tests, written in a worker's way. What no end is told of stays open."""

from __future__ import annotations

import heapq
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from sqlalchemy.engine import Connection

from ci.ends import JobOutcome
from ci.graph import JobNode
from ci.reports.model import Case, Reports
from core.events import BuildPlanned, StepFinished, StepInfo, StepOutput, StepStarted
from core.masking import Masker
from pipelines.model import Claim, GitSource, RunRequest, Trigger
from pipelines.runs.claims import Claims
from pipelines.runs.graphs import RunPlan
from pipelines.runs.logwriter import LogWriter
from pipelines.runs.pipelines import Pipelines, PlannedRun, PlannedWork
from pipelines.runs.reports import JobReports, keep_reports
from pipelines.runs.runs import Runs
from pipelines.service import Service

COMMIT = "5d" * 20
JOBS = (
    JobNode("lint"),
    JobNode("gen"),
    JobNode("test (3.11)", needs=("gen",), matrix="test"),
    JobNode("test (3.12)", needs=("gen",), matrix="test"),
    JobNode("test (3.13)", needs=("gen",), matrix="test"),
    JobNode("browser", needs=("gen",), may_fail=True),
    JobNode("docs", needs=("lint",)),
    JobNode("app", needs=("lint", "test (3.11)", "test (3.12)", "test (3.13)")),
    JobNode("deploy", needs=("app",)),
    JobNode("clean", needs=("gen", "app"), after="always"),
)
GOOD = JobOutcome("succeeded", exit_code=0)
BAD = JobOutcome("failed", "exit code 3: 10.12 is not 10.13", "failure", 3)
ENDS: Mapping[str, JobOutcome] = {
    **{node.name: GOOD for node in JOBS},
    "test (3.13)": BAD,
    "browser": JobOutcome("failed", "exit code 1: there is no browser", "failure", 1),
}
NO_TIME: Mapping[str, float] = MappingProxyType({})
LEFT_OUT = {"release": "it is not for push"}


LASTS_S: Mapping[str, float] = {
    "lint": 7.0, "gen": 11.0, "test (3.11)": 41.0, "test (3.12)": 44.0, "test (3.13)": 39.0, "browser": 24.0,
    "docs": 19.0, "clean": 2.0,
}  # fmt: skip

CASES = tuple(Case(f"tests.{part}", f"test_{at}", "passed", at / 7) for part in ("cart", "pay") for at in range(20))
REPORTS: Mapping[str, Reports] = {
    "test (3.12)": Reports((*CASES, Case("tests.test_pay", "test_again", "passed", 2.0, "timed out", "", True)), 81.5),
    "test (3.13)": Reports(
        (
            *CASES,
            Case("tests.test_version", "test_order[3.13]", "failed", 0.25, "10.12 is not 10.13", "E   assert 3\n" * 9),
            Case("tests.test_version", "test_disk", "skipped", 0.0, "no disk"),
        ),
        82.25,
        "# Versions\n\n3.13 is *new*.\n",
        ("reports/x.xml cannot be read: line 3: mismatched tag",),
    ),
}


@dataclass
class Pipeline:
    """A run of a pipeline of ``service``.

    now: what its workers' clock says. lasts_s: how long jobs take by that, as far as they take any time.
    writers: of the jobs that are open, by name.
    """

    service: Service
    number: int
    now: float
    lasts_s: Mapping[str, float] = field(default_factory=dict)
    writers: dict[str, tuple[Claim, LogWriter]] = field(default_factory=dict)

    @property
    def claims(self) -> Claims:
        return Claims(self.service.database, self.service.live, clock=lambda: self.now)

    def go_on(self, ends: Mapping[str, JobOutcome]) -> None:
        """Take all jobs that a worker may take, and end those that ``ends`` has."""
        going: list[tuple[float, str]] = []
        while True:
            while (claim := self.claims.take("worker-1", ())) is not None:
                assert claim.run.number == self.number
                self._begin(claim)
                if claim.name in ends:
                    heapq.heappush(going, (self.now + self.lasts_s.get(claim.name, 0.0), claim.name))
            if not going:
                return
            self.now, name = heapq.heappop(going)
            self.end(name, ends[name])

    def _begin(self, claim: Claim) -> None:
        writer = LogWriter(claim, self.service.database, self.service.live, Masker(), lost=lambda: None)
        writer.emit(BuildPlanned((StepInfo(0, f"make {claim.name}", "", 0), StepInfo(1, "make sure", "", 0))))
        writer.emit(StepStarted(0, self.now))
        writer.emit(StepOutput(0, 1, f"this is {claim.name}\n".encode(), self.now))
        self.writers[claim.name] = claim, writer

    def say(self, job: str, text: str) -> None:
        self.writers[job][1].emit(StepOutput(0, 1, text.encode() + b"\n", self.now))

    def end(self, job: str, outcome: JobOutcome) -> None:
        claim, writer = self.writers.pop(job)
        took_s = self.lasts_s.get(job, 0.0)
        if outcome.state == "failed":
            writer.emit(StepFinished(0, "failed", took_s, self.now, outcome.message))
        else:
            writer.emit(StepFinished(0, "done", took_s, self.now, None))
        writer.close()

        def store(connection: Connection) -> None:
            writer.store(connection)
            if job in REPORTS:
                found = JobReports(job.partition(" ")[0], COMMIT, True, REPORTS[job])
                keep_reports(connection, claim, found, self.now)

        self.claims.finish(claim, outcome.state, outcome.message, outcome, store=store)
        writer.end()

    def close(self) -> None:
        """End what is still open."""
        if not self.service.runs.get(self.number).is_final:
            self.service.runs.cancel(self.number)
            self.service.runs.cancel(self.number)
        for claim, writer in self.writers.values():
            writer.close()
            self.service.claims.finish(claim, "cancelled", "", JobOutcome("failed"), store=writer.store)
            writer.end()


def plan(
    service: Service,
    ends: Mapping[str, JobOutcome],
    *,
    nodes: Sequence[JobNode] = JOBS,
    labels: Mapping[str, tuple[str, ...]] | None = None,
    began_s: float = 0.0,
    lasts_s: Mapping[str, float] = NO_TIME,
) -> Pipeline:
    """A run whose jobs ended as ``ends`` says, as far as it says.

    labels: of workers, by job. began_s: how long ago. lasts_s: how long jobs took.
    """
    trigger = Trigger(
        "push", "ada", branch="main", commit=COMMIT, title="Round prices half up", default_branch="main",
        url=f"https://git.example.org/shop/commit/{COMMIT}",
    )  # fmt: skip
    source = GitSource("https://git.example.org/shop.git", COMMIT)
    now = time.time() - began_s
    runs = Runs(
        service.database,
        service.queue,
        service.workers,
        service.order,
        service.secrets,
        service.borders,
        clock=lambda: now - 1.0,
    )
    number = runs.submit(RunRequest(source, "shop", priority=100), trigger).number
    return planned(service, number, ends, nodes=nodes, labels=labels, began_s=began_s, lasts_s=lasts_s)


def planned(
    service: Service,
    number: int,
    ends: Mapping[str, JobOutcome],
    *,
    nodes: Sequence[JobNode] = JOBS,
    labels: Mapping[str, tuple[str, ...]] | None = None,
    began_s: float = 0.0,
    lasts_s: Mapping[str, float] = NO_TIME,
) -> Pipeline:
    """``plan`` for a run that was submitted."""
    pipeline = Pipeline(service, number, time.time() - began_s, lasts_s)
    claim = pipeline.claims.take("worker-1", ())
    assert claim is not None
    assert claim.run.number == number
    works = tuple(PlannedWork(node, {}, (labels or {}).get(node.name, ())) for node in nodes)
    found = PlannedRun("main", RunPlan(".shiplap.yml", COMMIT, left_out=LEFT_OUT), works)

    def store(connection: Connection) -> None:
        """The planning has printed nothing."""

    pipeline.now += 1.0 if lasts_s else 0.0
    pipelines = Pipelines(service.database, service.secrets, service.runs, clock=lambda: pipeline.now)
    pipelines.write(claim, [("main", lambda _: found)], mark="", own_secrets={}, store=store)
    pipeline.go_on(ends)
    return pipeline
