"""A service as a team has it after some days: runs with steps, times and logs, written without building anything.

``Stage.play`` writes a run in a worker's way, at times of its own. What a ``Play`` says is what the pages must show.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from core.events import BuildPlanned, Event, StepFinished, StepInfo, StepOutcome, StepOutput, StepProgress, StepStarted
from core.masking import Masker
from pipelines.model import (
    BuildOptions,
    Claim,
    ContextSource,
    GitSource,
    Run,
    RunRequest,
    RunResult,
    RunState,
    Trigger,
)
from pipelines.runs.claims import Claims
from pipelines.runs.logwriter import LogWriter
from pipelines.runs.runs import Runs
from pipelines.service import Service

CONTEXT = ContextSource("sha256:" + "0" * 64)
BY_HAND = Trigger()
PLAIN = BuildOptions()
HOSTILE = "<script>document.title='owned'</script><img src=x onerror=document.title='owned'>"


@dataclass(frozen=True)
class Act:
    """A step: when it began after the run did (negative: it never did), and what it printed. outcome None: it runs."""

    name: str
    stage: str
    begin_s: float
    duration_s: float
    outcome: StepOutcome | None = "done"
    reason: str | None = None
    output: Sequence[str] = ()
    line: int = 1


@dataclass(frozen=True)
class Play:
    """A run. began_s: how long ago. state "running" leaves it open."""

    acts: Sequence[Act]
    state: RunState = "succeeded"
    began_s: float = 3600.0
    reason: str = ""
    error: str = ""
    project: str = "web"
    trigger: Trigger = BY_HAND
    options: BuildOptions = PLAIN
    source: ContextSource | GitSource = CONTEXT
    names: Sequence[str] = ()
    manifest: str = "sha256:4b227777d4dd1fc61c6f884f48641d02b4d121d3fd328cb08b5531fcacdabf8a"


@dataclass
class Stage:
    """Writes runs into ``service``."""

    service: Service
    writers: dict[int, tuple[Claim, LogWriter]] = field(default_factory=dict)

    def play(self, play: Play) -> int:
        """Write the whole run, and return its number."""
        began = time.time() - play.began_s
        service = self.service
        runs = Runs(
            service.database,
            service.queue,
            service.workers,
            service.order,
            service.secrets,
            service.borders,
            clock=lambda: began - 0.4,
        )
        request = RunRequest(play.source, play.project, play.options, priority=100)
        number = runs.submit(request, play.trigger).number
        claim = Claims(service.database, service.live, clock=lambda: began).take("worker-1", ())
        assert claim is not None
        assert claim.run.number == number
        writer = LogWriter(claim, service.database, service.live, Masker(), lost=lambda: None)
        for event in _events(play, began):
            writer.emit(event)
        if play.state == "running":
            self.writers[number] = claim, writer
        else:
            self._end(claim, writer, play, began)
        return number

    def queue(self, project: str, trigger: Trigger = BY_HAND, *, labels: tuple[str, ...] = ()) -> int:
        """A run that waits."""
        return self.service.runs.submit(
            RunRequest(CONTEXT, project, worker_labels=labels, priority=-50), trigger
        ).number

    def begin(self, number: int, step: int, text: str) -> None:
        """A line that does not end yet."""
        self.writers[number][1].emit(StepOutput(step, 1, text.encode(), time.time()))

    def say(self, number: int, step: int, *lines: str) -> None:
        """More output of a run that is open."""
        for line in lines:
            self.writers[number][1].emit(StepOutput(step, 1, line.encode() + b"\n", time.time()))

    def move(self, number: int, step: int, what: str, current_bytes: int, total_bytes: int) -> None:
        """A transfer of a run that is open goes on."""
        self.writers[number][1].emit(StepProgress(step, what, current_bytes, total_bytes))

    def finish(self, number: int, step: int, state: RunState = "succeeded", reason: str = "") -> Run:
        """End the step and the run."""
        claim, writer = self.writers.pop(number)
        outcome: StepOutcome = "done" if state == "succeeded" else "cancelled" if state == "cancelled" else "failed"
        writer.emit(StepFinished(step, outcome, 1.0, time.time(), reason or None))
        writer.close()
        self.service.claims.finish(claim, state, reason, RunResult(), store=writer.store)
        writer.end()
        return self.service.runs.get(number)

    def close(self) -> None:
        """End what is still open."""
        for number in list(self.writers):
            self.finish(number, 0, "cancelled", "cancelled")

    def _end(self, claim: Claim, writer: LogWriter, play: Play, began: float) -> None:
        writer.close()
        ended = began + max((act.begin_s + act.duration_s for act in play.acts), default=0.0) + 0.1
        cached = sum(act.outcome == "cached" for act in play.acts)
        result = RunResult(
            image="sha256:" + "4e07408562bedb8b60ce05c1decfe3ad16b72230967de01f640b7e4729b49fce"[:64],
            manifest=play.manifest,
            names=tuple(play.names),
            executed=len(play.acts) - cached,
            cached=cached,
            duration_s=ended - began,
            error=play.error,
        )
        if play.state != "succeeded":
            result = RunResult(error=play.error, duration_s=ended - began)
        claims = Claims(self.service.database, self.service.live, clock=lambda: ended)
        claims.finish(claim, play.state, play.reason, result, store=writer.store)
        writer.end()


def _events(play: Play, began: float) -> Iterator[Event]:
    infos = tuple(StepInfo(index, act.name, act.stage, act.line) for index, act in enumerate(play.acts))
    yield BuildPlanned(infos)
    timed: list[tuple[float, int, Event]] = []
    for index, act in enumerate(play.acts):
        start = began + act.begin_s
        if act.begin_s < 0:  # waits
            continue
        timed.append((start, 0, StepStarted(index, start)))
        pause = act.duration_s / (len(act.output) + 1)
        for count, line in enumerate(act.output, 1):
            at = start + count * pause
            timed.append((at, 1, StepOutput(index, 1, line.encode() + b"\n", at)))
        if act.outcome is not None:
            end = start + act.duration_s
            timed.append((end, 2, StepFinished(index, act.outcome, act.duration_s, end, act.reason)))
    for _, _, event in sorted(timed, key=lambda item: item[:2]):
        yield event
