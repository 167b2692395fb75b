"""POST /hooks/PROJECT/follow: the log of a run that a push started, for the bare repository's hook.

    {"delivery": ID, "run": 12, "after": 0}      signed as the push was; after: the last line that is known already

The answer is lines: ``N TEXT`` for line N of the log, ``-`` every now and then, and ``end TEXT`` when the run has
ended. Only the runs of one delivery can be asked for: the webhook's secret opens no others.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Final

import msgspec
from flask import Blueprint, Response

from pipelines.errors import NotFoundError as NoDeliveryError
from pipelines.logs.lines import LogLine
from pipelines.model import FINAL_STATES
from registry.server.listening.vouching import vouch
from web.addresses import run_url
from web.backing import hub, service
from web.errors import NotFoundError, RequestError, UnavailableError
from web.hooks.receive import refusals, signed_request
from web.loghub import Hub

if TYPE_CHECKING:
    from pipelines.service import Service

blueprint: Final = Blueprint("follow", __name__)

_AT_ONCE: Final = 100  # each takes one of the web process's threads
_MAX_LINES: Final = 100_000
_MAX_TEXT: Final = 4000  # characters of one line
_SILENT: Final = ("plan", "progress")
_following: Final = threading.BoundedSemaphore(_AT_ONCE)


class _Wanted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    delivery: Annotated[str, msgspec.Meta(max_length=200)]
    run: Annotated[int, msgspec.Meta(ge=1, le=2**53)]
    after: Annotated[int, msgspec.Meta(ge=0, le=2**53)] = 0


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
    response = Response(_lines(service(), hub(), wanted.run, wanted.after), content_type="text/plain; charset=utf-8")
    response.headers["X-Accel-Buffering"] = "no"
    response.call_on_close(_following.release)
    return response


def _lines(known: Service, followed: Hub, number: int, after: int) -> Iterator[bytes]:
    url = run_url(known, number)
    yield b"-\n"  # also sends the headers at once
    left = _MAX_LINES
    for piece in followed.follow(known.runs.job(number).number, after):
        told = [text for event in piece.split(b"\n\n") if (text := _told(event))]
        yield b"".join(told[:left]) or b"-\n"
        left -= len(told)
        if left <= 0:
            yield f"end More than {_MAX_LINES} lines: the rest is at {url}\n".encode()
            return
    if followed.stopping:
        return
    run = known.runs.get(number)
    if run.state in FINAL_STATES:
        why = " ".join(run.reason.split())
        yield f"end Run {number}: {run.state}{': ' if why else ''}{why}  {url}\n".encode()
    elif known.pipelines.pipeline_of(number):
        yield f"end Run {number}: its jobs are shown at {url}\n".encode()


def _told(event: bytes) -> bytes:
    """The line for an event of the log, if the event says something to people."""
    head, _, data = event.partition(b"\ndata: ")
    if not head.startswith(b"id: "):
        return b""
    line = _line.decode(data)
    if line.kind in _SILENT:
        return b""
    text = f"=> {line.text}" if line.kind == "start" else line.text
    return b"%d %s\n" % (line.n, text[:_MAX_TEXT].replace("\n", " ").encode(errors="replace"))
