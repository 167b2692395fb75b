"""Runs of pipelines for the browser's tests, written in a worker's way. What no end is told of stays open."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy.engine import Connection

from ci.ends import JobOutcome
from ci.graph import JobNode
from core.events import BuildPlanned, StepFinished, StepInfo, StepOutput, StepStarted
from core.masking import Masker
from pipelines.model import Claim, GitSource, RunRequest, Trigger
from pipelines.runs.graphs import RunPlan
from pipelines.runs.logwriter import LogWriter
from pipelines.runs.pipelines import PlannedRun, PlannedWork
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
LEFT_OUT = {"release": "it is not for push"}


@dataclass
class Pipeline:
    """A run of a pipeline of ``service``. writers: of the jobs that are open, by name."""

    service: Service
    number: int
    writers: dict[str, tuple[Claim, LogWriter]] = field(default_factory=dict)

    def go_on(self, ends: Mapping[str, JobOutcome]) -> None:
        """Take all jobs that a worker may take, and end those that ``ends`` has."""
        while (claim := self.service.claims.take("worker-1", ())) is not None:
            assert claim.run.number == self.number
            writer = LogWriter(claim, self.service.database, self.service.live, Masker(), lost=lambda: None)
            now = time.time()
            writer.emit(BuildPlanned((StepInfo(0, f"make {claim.name}", "", 0), StepInfo(1, "make sure", "", 0))))
            writer.emit(StepStarted(0, now))
            writer.emit(StepOutput(0, 1, f"this is {claim.name}\n".encode(), now))
            self.writers[claim.name] = claim, writer
            if claim.name in ends:
                self.end(claim.name, ends[claim.name])

    def say(self, job: str, text: str) -> None:
        self.writers[job][1].emit(StepOutput(0, 1, text.encode() + b"\n", time.time()))

    def end(self, job: str, outcome: JobOutcome) -> None:
        claim, writer = self.writers.pop(job)
        step = "failed" if outcome.state == "failed" else "done"
        writer.emit(StepFinished(0, step, 0.1, time.time(), outcome.message or None))  # type: ignore[arg-type]
        writer.close()
        self.service.claims.finish(claim, outcome.state, outcome.message, outcome, store=writer.store)
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
    title: str = "Round prices half up",
) -> Pipeline:
    """A run whose jobs ended as ``ends`` says, as far as it says. labels: of workers, by job."""
    trigger = Trigger(
        "push", "ada", branch="main", commit=COMMIT, title=title, default_branch="main",
        url=f"https://git.example.org/shop/commit/{COMMIT}",
    )  # fmt: skip
    source = GitSource("https://git.example.org/shop.git", COMMIT)
    number = service.runs.submit(RunRequest(source, "shop", priority=100), trigger).number
    return planned(service, number, ends, nodes=nodes, labels=labels)


def planned(
    service: Service,
    number: int,
    ends: Mapping[str, JobOutcome],
    *,
    nodes: Sequence[JobNode] = JOBS,
    labels: Mapping[str, tuple[str, ...]] | None = None,
) -> Pipeline:
    """``plan`` for a run that was submitted."""
    claim = service.claims.take("worker-1", ())
    assert claim is not None
    assert claim.run.number == number
    works = tuple(PlannedWork(node, {}, (labels or {}).get(node.name, ())) for node in nodes)
    found = PlannedRun("main", RunPlan(".shiplap.yml", COMMIT, left_out=LEFT_OUT), works)

    def store(connection: Connection) -> None:
        """The planning has printed nothing."""

    service.pipelines.write(claim, [("main", lambda _: found)], mark="", own_secrets={}, store=store)
    pipeline = Pipeline(service, number)
    pipeline.go_on(ends)
    return pipeline
