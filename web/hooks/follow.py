"""POST /hooks/PROJECT/follow: the log of a run that a push started, for the bare repository's hook.

    {"delivery": ID, "run": 12, "after": 0}      signed as the push was; after: the last line that is known already

The answer is lines: ``N TEXT`` for line N of the log, ``-`` every now and then, and ``end TEXT`` when the run has
ended. The jobs of a pipeline follow the run's own log, with their names in front: N is then the job's place times
10^9, and the line's number. Where a commit has several pipelines, all of their runs are shown, each job with its
pipeline in front; the places of each further run begin 1000 higher, and how it ended is the line of its place 0.
Whoever comes back says ``"seen": {"2": 17}`` beside ``after``: by place, the last line that is known. Only the runs of
one delivery can be asked for: the webhook's secret opens no others.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Final

import msgspec
from flask import Blueprint, Response

from pipelines.errors import NotFoundError as NoDeliveryError
from pipelines.logs.lines import LogLine
from pipelines.model import FINAL_STATES, Run
from pipelines.runs.together import planned_together
from registry.server.listening.vouching import vouch
from web.addresses import run_url
from web.backing import hub, service
from web.errors import NotFoundError, RequestError, UnavailableError
from web.hooks.joblines import LINES_OF_A_JOB, PLACES_OF_A_RUN, lines_of_jobs
from web.hooks.receive import refusals, signed_request
from web.loghub import Hub

if TYPE_CHECKING:
    from pipelines.service import Service

blueprint: Final = Blueprint("follow", __name__)

_AT_ONCE: Final = 100  # each takes one of the web process's threads
_MAX_LINES: Final = 100_000
_MAX_TEXT: Final = 4000  # characters of one line
_HEARTBEAT_S: Final = 10.0
_SILENT: Final = ("plan", "progress")
_MOST_SEEN: Final = 50 * 257  # jobs of all pipelines
_following: Final = threading.BoundedSemaphore(_AT_ONCE)


class _Wanted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    delivery: Annotated[str, msgspec.Meta(max_length=200)]
    run: Annotated[int, msgspec.Meta(ge=1, le=2**53)]
    after: Annotated[int, msgspec.Meta(ge=0, le=2**53)] = 0
    seen: Annotated[dict[int, Annotated[int, msgspec.Meta(ge=0, le=2**53)]], msgspec.Meta(max_length=_MOST_SEEN)] = {}


_wanted: Final = msgspec.json.Decoder(_Wanted)
_line: Final = msgspec.json.Decoder(LogLine)


@blueprint.post("/hooks/<project>/follow")
@blueprint.post("/hooks/<project>/<forge>/follow")
def follow(project: str, forge: str = "") -> Response:
    """Stream the log. forge: the hook's own address may end in it; it is ignored."""
    del forge
    body, headers = signed_request()
    try:
        wanted = _wanted.decode(body)
    except msgspec.DecodeError as error:
        raise RequestError(f"the body is not a question for a log: {error}") from error
    try:
        with refusals():
            runs = service().receiver.started(project, headers, body, wanted.delivery)
    except NoDeliveryError as error:
        raise NotFoundError(error.message) from error
    if wanted.run not in runs:
        raise NotFoundError(f"delivery {wanted.delivery} started no run {wanted.run}")
    if not _following.acquire(blocking=False):
        raise UnavailableError("too many pushes are followed at once")
    vouch()
    response = Response(_lines(service(), hub(), wanted), content_type="text/plain; charset=utf-8")
    response.headers["X-Accel-Buffering"] = "no"
    response.call_on_close(_following.release)
    return response


def _lines(known: Service, followed: Hub, wanted: _Wanted) -> Iterator[bytes]:
    number = wanted.run
    url = run_url(known, number)
    yield b"-\n"  # also sends the headers at once
    left = _MAX_LINES
    for told in itertools.chain(_own_lines(known, followed, wanted), _jobs_lines(known, followed, wanted)):
        yield b"".join(told[:left]) or b"-\n"
        left -= len(told)
        if left <= 0:
            yield f"end More than {_MAX_LINES} lines: the rest is at {url}\n".encode()
            return
    if followed.stopping:
        return
    yield from _ends_of_others(known, wanted)
    run = known.runs.get(number)
    if run.state in FINAL_STATES:
        yield f"end {_end(run)}  {url}\n".encode()


def _ends_of_others(known: Service, wanted: _Wanted) -> Iterator[bytes]:
    """How the runs of the commit's other pipelines ended."""
    for index, (number, _) in enumerate(planned_together(known.database, wanted.run)):
        run, place = known.runs.get(number), index * PLACES_OF_A_RUN
        if place and place not in wanted.seen and run.state in FINAL_STATES:
            yield f"{place * LINES_OF_A_JOB + 1} {_end(run)}  {run_url(known, number)}\n".encode()


def _end(run: Run) -> str:
    why = " ".join(run.reason.split())
    return f"Run {run.number}: {run.state}{': ' if why else ''}{why}"


def _own_lines(known: Service, followed: Hub, wanted: _Wanted) -> Iterator[list[bytes]]:
    """The log of the run's first job. It may be the only one."""
    if wanted.after >= LINES_OF_A_JOB:  # as a hook says it that knows nothing of jobs
        return
    for piece in followed.follow(known.runs.job(wanted.run).number, wanted.after):
        yield [text for event in piece.split(b"\n\n") if (text := _told(event))]


def _jobs_lines(known: Service, followed: Hub, wanted: _Wanted) -> Iterator[list[bytes]]:
    """The logs of the other jobs, once there are any. An empty list is sent every now and then."""
    said_at = time.monotonic()
    seen = {**wanted.seen, **dict([divmod(wanted.after, LINES_OF_A_JOB)])}
    runs = planned_together(known.database, wanted.run)
    for place, name, lines in lines_of_jobs(known, runs, seen, lambda: followed.stopping):
        if lines or time.monotonic() - said_at >= _HEARTBEAT_S:
            said_at = time.monotonic()
            found = [(place * LINES_OF_A_JOB + number, _line.decode(data)) for number, data in lines]
            yield [text for number, line in found if (text := _text(number, line, f"{name} | "))]


def _told(event: bytes) -> bytes:
    """The line for an event of the log, if the event says something to people."""
    head, _, data = event.partition(b"\ndata: ")
    if not head.startswith(b"id: "):
        return b""
    line = _line.decode(data)
    return _text(line.n, line)


def _text(number: int, line: LogLine, front: str = "") -> bytes:
    """A line as the hook shows it; empty for one that says nothing to people. number: by which it comes back."""
    if line.kind in _SILENT:
        return b""
    text = f"{front}=> {line.text}" if line.kind == "start" else f"{front}{line.text}"
    return b"%d %s\n" % (number, text[:_MAX_TEXT].replace("\n", " ").encode(errors="replace"))
