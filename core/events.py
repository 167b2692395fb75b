"""What happens during a build, as events: the one source for the terminal, the log files and the service's streams.

Times are seconds since the epoch, durations are seconds of a monotonic clock. Output is bytes: it may be no text, and
an event may end in the middle of a character or a line.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, Protocol, TypeAlias

StepOutcome: TypeAlias = Literal["done", "cached", "failed", "cancelled"]


class StepInfo(NamedTuple):
    """One visible step. ``id`` is unique in a build and dense from 0.

    name: as shown: ``[build 2/5] RUN make``; internal steps have brackets too: ``[internal] load build context``.
    line: first line in the Dockerfile, 1-based; 0 for internal steps.
    """

    id: int
    name: str
    stage: str = ""
    line: int = 0


class BuildPlanned(NamedTuple):
    """The steps that this build may run, in Dockerfile order. Later plans (ONBUILD, pulled bases) may add steps."""

    steps: tuple[StepInfo, ...]


class StepStarted(NamedTuple):
    id: int
    at: float


class StepOutput(NamedTuple):
    """A piece of what a step printed.

    stream: 1 is the step's standard output, 2 its standard error.
    """

    id: int
    stream: Literal[1, 2]
    data: bytes
    at: float


class StepProgress(NamedTuple):
    """How far a transfer or an export has come; ``total`` is 0 when unknown."""

    id: int
    what: str
    current_bytes: int
    total_bytes: int


class MissReason(NamedTuple):
    """One reason why a step was not answered by the cache.

    kind: ``instruction``, ``arg``, ``env``, ``option`` (of what is not in the text: user, working directory, a flag
    with a variable), ``added``, ``changed``, ``removed``, ``mode``, ``owner`` (of files), ``base`` (the image below),
    ``parent`` (a step before it gave another result), ``source`` (what it mounts), ``never-built``, ``evicted``,
    ``audience`` (its result is there, and counts for others), ``no-cache``; of jobs also ``never-succeeded`` and
    ``version`` (of Shiplap).
    name: of the variable, option, file, image or step.
    old, new: before and now; None for what was or is not there, both None where there are no values to show.
    """

    kind: str
    name: str = ""
    old: str | None = None
    new: str | None = None


class StepFinished(NamedTuple):
    """A step has ended.

    reason: why it missed the cache, failed or was cancelled; None when there is nothing to tell.

    changes: the single reasons of a miss; of many files the first hundred.
    """

    id: int
    outcome: StepOutcome
    duration_s: float
    at: float
    reason: str | None = None
    changes: tuple[MissReason, ...] = ()


class Warned(NamedTuple):
    """Something that the user ought to know and that does not stop the build. line is 0 where there is none."""

    message: str
    line: int = 0
    rule: str = ""


Event: TypeAlias = BuildPlanned | StepStarted | StepOutput | StepProgress | StepFinished | Warned


class Monitor(Protocol):
    """Receives what a build tells while it goes on.

    Made by: whoever starts the build, before it, and for it alone.
    Threads: ``emit`` is called by any, by several at once.
    Ended by: its maker, after the build has returned; nothing is emitted then any more.
    ``emit`` must be quick, because the build waits for it, and must not raise.
    """

    def emit(self, event: Event) -> None: ...


class NullMonitor:
    """Drops every event."""

    def emit(self, event: Event) -> None:
        del event
