"""A build on a server: send the context, queue a run, show it as if it were built here."""

from __future__ import annotations

import os
import re
import sys
import tempfile
import threading
import time
from base64 import b64encode
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any, Final

from builder.contexts.opening import open_source
from builder.errors import BuildCancelledError
from cli.building.queue import QueueOptions
from cli.building.report import BuildReport
from cli.remote.errors import RemoteBuildError, RemoteCancelledError, RunLostError
from cli.remote.following import Follower, cancel_when
from cli.remote.http import Client
from cli.remote.manifest import describe
from cli.remote.onlooking import PlainOnlooker
from cli.remote.pipeline import runs_of_pipelines, show_pipelines
from cli.remote.sending import send_context
from cli.remote.servers import Server, require_private
from cli.remote.wording import dockerfile_hint
from cli.signals import Received, cancelling
from core.digests import Digest
from core.events import (
    BuildPlanned,
    Event,
    StepFinished,
    StepInfo,
    StepOutput,
    StepProgress,
    StepStarted,
    Warned,
)
from core.settings import RemoteSettings
from pipelines.endings import ended as ended_words
from pipelines.logs.lines import LogLine, to_event

_GIT: Final = re.compile(r"(https?|ssh|git|file)://|[\w.-]+@[\w.-]+:")
_TAIL_LINES: Final = 200
_OWN_STEP: Final = StepInfo(0, "[internal] send build context")
_AWAY_STEP: Final = StepInfo(998, "[internal] wait for the service")  # after all other steps, whose number grows


@dataclass(frozen=True, slots=True)
class RemoteRequest:
    """A build that a service is to do.

    options: as the API's BuildOptions.
    context, file: as ``shiplap build`` takes them.
    secrets: content by ID.
    """

    context: str
    file: str | None
    options: dict[str, Any]
    queueing: QueueOptions
    secrets: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RemoteResult:
    """The result of a run, in the shape of a local build's result."""

    config_digest: Digest
    manifest_digest: Digest
    executed: int
    cached: int
    names: tuple[str, ...]


def submit(client: Client, request: RemoteRequest, report: BuildReport, cancelled: threading.Event) -> dict[str, Any]:
    """Send the context and queue the run. Returns the run as in the API. Raises ShiplapErrors of all kinds."""
    if request.secrets:
        require_private(client.server, "a secret")
    body: dict[str, Any] = {
        "source": _source(client, request, report, cancelled),
        "options": request.options,
        **request.queueing.members(),
    }
    if request.secrets:
        body["secrets"] = {name: b64encode(value).decode() for name, value in request.secrets.items()}
    if cancelled.is_set():
        raise BuildCancelledError("cancelled before the run was queued")
    run: dict[str, Any] = client.call("POST", "/runs", body)
    return run


def build_remotely(server: Server, request: RemoteRequest, report: BuildReport) -> RemoteResult | None:
    """Build on ``server``, with ``report`` shown to its end. None: these were pipelines, whose jobs have succeeded.

    Raises RemoteCancelledError; RemoteBuildError when the build failed; other errors when it could not begin.
    """
    cancelled = threading.Event()
    with ExitStack() as stack:
        received = stack.enter_context(cancelling(cancelled, at_once=lambda: None))
        shows = stack.enter_context(ExitStack())
        shows.enter_context(report)
        try:
            with Client(server) as client:
                run = submit(client, request, report, cancelled)
            number = int(run["number"])
            onlooker = _Onlooker(number, report, cancelled, received)
            shown = _Shown(report)
            follower = Follower(server, number, until_jobs=True, onlooker=onlooker, begun=shown.begin)
            cancel_when(cancelled, follower, server, number, onlooker.leave)
            ended = follow(follower, shown)
            if follower.has_jobs:
                shows.close()  # what is shown now are lines of jobs
                runs = runs_of_pipelines(server, number)
                for other in runs.keys() - {number}:
                    cancel_when(cancelled, follower, server, other, onlooker.leave)
                ended = show_pipelines(server, runs, PlainOnlooker())
                _check(ended, shown)
        except BuildCancelledError as error:
            raise RemoteCancelledError(error.message, exit_code=received.exit_code) from error
        if ended["state"] == "cancelled":
            told = ended_words("cancelled", ended["reason"])
            raise RemoteCancelledError(f"run {ended['number']} was {told}", exit_code=received.exit_code)
    return None if follower.has_jobs else _result(ended)


def follow(follower: Follower, shown: _Shown) -> dict[str, Any]:
    """Show a run until it has ended; the run. It is empty once it has jobs, which go on.

    Raises RemoteBuildError when a step failed, RunLostError for others.
    """
    for batch in follower.batches():
        for line, event in _events(batch):
            if event is not None:
                shown.emit(event)
            elif "attempt" in line.text and shown.began:
                shown.emit(Warned(line.text))
    if follower.has_jobs:
        return {}
    ended = follower.ended
    assert ended is not None
    _check(ended, shown)
    return ended


def _events(lines: Sequence[LogLine]) -> Iterator[tuple[LogLine, Event | None]]:
    """The events of lines, each with its line or the first of them: what a step printed at one moment is one event."""
    for _, same in groupby(lines, key=_moment):
        first, *others = same
        event = to_event(first)
        if others and isinstance(event, StepOutput):
            text = "\n".join([first.text, *(line.text for line in others)])
            event = event._replace(data=f"{text}\n".encode())
        yield first, event


def _moment(line: LogLine) -> tuple[float, int, int]:
    """What lines have in common that can be shown as one piece of output; of others, what no other line has."""
    return (line.at, line.step, line.stream) if line.kind == "output" else (0.0, -1, -line.n)


def _check(ended: dict[str, Any], shown: _Shown) -> None:
    """Raise RemoteBuildError for a run that failed, RunLostError for one that was given up."""
    result = ended.get("result") or {}
    if ended["state"] == "failed":
        hint = dockerfile_hint(ended)
        told = (result.get("error") or ended["reason"] or "the build failed") + (f"\nhint: {hint}" if hint else "")
        raise RemoteBuildError(told, shown.failed, shown.tail())
    if ended["state"] == "error":
        reason = result.get("error") or ended["reason"] or "the service could not run it"
        raise RunLostError(
            f"run {ended['number']} was given up: {reason}", hint=f"shiplap runs retry {ended['number']}"
        )


def is_repository(context: str) -> bool:
    """Whether a context is the URL of a git repository, which the service fetches itself."""
    return _GIT.match(context) is not None


def _source(client: Client, request: RemoteRequest, report: BuildReport, cancelled: threading.Event) -> dict[str, str]:
    if is_repository(request.context):
        url, _, rest = request.context.partition("#")
        ref, _, subdirectory = rest.partition(":")
        return {"type": "git", "url": url, "ref": ref, "subdirectory": subdirectory}
    began = time.monotonic()
    report.emit(BuildPlanned((_OWN_STEP,)))
    report.emit(StepStarted(0, time.time()))
    cache = RemoteSettings.from_environ(host="").cache / "contexts"
    with tempfile.TemporaryDirectory(prefix="shiplap-") as scratch:
        source = open_source(request.context, request.file, stdin=sys.stdin.buffer, scratch=Path(scratch))
        with source.context:
            manifest = describe(source, request.context, request.file, cache=cache if source.context.key else None)
            digest = send_context(
                client,
                manifest,
                progress=lambda sent, total: report.emit(StepProgress(0, "sending files", sent, total)),
                cancelled=cancelled,
            )
    request.options["file"] = manifest.dockerfile
    report.emit(StepFinished(0, "done", time.monotonic() - began, time.time()))
    return {"type": "context", "context": digest}


class _Onlooker:
    """Shows a step while the service is away, and ends the command if somebody wants it to end then."""

    def __init__(self, number: int, report: BuildReport, cancelled: threading.Event, received: Received) -> None:
        self._number = number
        self._report = report
        self._cancelled = cancelled
        self._received = received
        self._away_since = 0.0

    def away(self, text: str) -> None:
        """Raises RemoteCancelledError when nobody waits for the run any more."""
        if self._cancelled.is_set():
            raise self._unheard()
        self._away_since = time.monotonic()
        self._report.emit(BuildPlanned((_AWAY_STEP,)))
        self._report.emit(StepStarted(_AWAY_STEP.id, time.time()))
        self._report.emit(StepOutput(_AWAY_STEP.id, 2, f"{text}\n".encode(), time.time()))

    def back(self) -> None:
        took_s = time.monotonic() - self._away_since
        self._report.emit(StepFinished(_AWAY_STEP.id, "done", took_s, time.time()))

    def leave(self) -> None:
        """End the process from another thread: the one that follows the run may wait long for the service."""
        self._report.close()
        self._report.failed(self._unheard())
        os._exit(self._received.exit_code)

    def _unheard(self) -> RemoteCancelledError:
        return RemoteCancelledError(
            f"the service is away: run {self._number} may go on there",
            hint=f"when it answers again: shiplap runs cancel {self._number}",
            exit_code=self._received.exit_code,
        )


class _Shown:
    """Shows the server's events after our own step, so the ids of its steps are moved up by one.

    A line that has begun is shown without an end, as a build here would show it. When the whole line comes, only its
    new part follows.
    """

    def __init__(self, report: BuildReport) -> None:
        self._report = report
        self._infos: dict[int, StepInfo] = {}
        self._tails: dict[int, deque[bytes]] = {}
        self._begun: dict[tuple[int, int], str] = {}  # key: step and stream
        self.failed: StepInfo | None = None
        self.began = False

    def begin(self, line: LogLine) -> None:
        """Show a line that has begun or grown, or the progress of a transfer."""
        event = to_event(line)
        if isinstance(event, StepProgress):
            self._report.emit(event._replace(id=event.id + 1))
        if not isinstance(event, StepOutput) or not line.text:
            return
        key = event.id + 1, event.stream
        self._report.emit(StepOutput(*key, _more(self._begun.get(key, ""), line.text).encode(), event.at))
        self._begun[key] = line.text

    def emit(self, event: Event) -> None:
        if isinstance(event, BuildPlanned):
            steps = tuple(step._replace(id=step.id + 1) for step in event.steps)
            self._infos.update((step.id, step) for step in steps)  # a build announces its cache's steps later
            self._report.emit(BuildPlanned((_OWN_STEP, *steps)))
            return
        if isinstance(event, Warned):
            self._report.emit(event)
            return
        moved = event._replace(id=event.id + 1)
        if isinstance(moved, StepStarted):
            self.began = True
            self._end_lines(moved)
        elif isinstance(moved, StepOutput):
            last = moved.data.removesuffix(b"\n").rsplit(b"\n", _TAIL_LINES)
            self._tails.setdefault(moved.id, deque(maxlen=_TAIL_LINES)).extend(line + b"\n" for line in last)
            begun = self._begun.pop((moved.id, moved.stream), "")
            if begun:
                first, end, others = moved.data.decode().partition("\n")
                moved = moved._replace(data=f"{_more(begun, first)}{end}{others}".encode())
        elif isinstance(moved, StepFinished) and moved.outcome == "failed":
            self.failed = self._infos.get(moved.id)
        self._report.emit(moved)

    def _end_lines(self, start: StepStarted) -> None:
        """End the lines that a lost worker's attempt at the step left open."""
        for stream in (1, 2):
            if self._begun.pop((start.id, stream), ""):
                self._report.emit(StepOutput(start.id, 2 if stream == 2 else 1, b"\n", start.at))

    def tail(self) -> bytes:
        """The last lines of the step that failed."""
        return b"".join(self._tails.get(self.failed.id, ())) if self.failed else b""


def _more(begun: str, line: str) -> str:
    """The part of ``line`` that is not shown yet. begun: the line's last shown state. All of a different line is new.

    A carriage return begins the line anew, for displays as for terminals.
    """
    at = f"\r{line}".rfind(f"\r{begun}")
    return line[at + len(begun) :] if at >= 0 else f"\r{line}"


def _result(run: dict[str, Any]) -> RemoteResult:
    result = run.get("result") or {}
    return RemoteResult(
        Digest(result.get("image", "")),
        Digest(result.get("manifest", "")),
        result.get("executed", 0),
        result.get("cached", 0),
        tuple(result.get("names", ())),
    )
