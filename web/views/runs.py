"""Runs: submit, look, follow, cancel, retry."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from typing import Annotated, Final, TypeAlias, cast

import msgspec

from ci.params import in_words
from pipelines.errors import ConflictError
from pipelines.logs.reading import LogLine
from pipelines.model import FINAL_STATES, AnyRunState, ContextSource, GitSource, Run, RunRequest, Step, Trigger
from pipelines.runs.listing import RunFilter
from pipelines.runs.together import planned_together
from pipelines.sources.git import parse_url, repositories
from web.calls import Call, Streamed
from web.endpoints import Api
from web.errors import InvalidRequestError, MissingContextError
from web.guard.rights import visible
from web.loghub import HEARTBEAT

api: Final = Api("runs")

Number: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=2**53, description="A run's number")]
_NO_RUN: Final = {404: "There is no such run"}
RUN: Final = "/runs/{0.number}"
_ASK_AGAIN_S: Final = 10.0
"""How long a follower goes on seeing the log after losing the right to it."""
_END_PAUSE_S: Final = 1.0


class RunQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which runs are listed.

    branch: exactly.
    by: who started it, by the whole name in whatever case.
    text: in whatever case, anywhere in what started it, its source, its image names; or its number.
    before: only runs with smaller numbers, to page through the list.
    """

    project: Annotated[str, msgspec.Meta(max_length=200)] | None = None
    state: AnyRunState | None = None
    branch: Annotated[str, msgspec.Meta(max_length=1000)] = ""
    by: Annotated[str, msgspec.Meta(max_length=200)] = ""
    text: Annotated[str, msgspec.Meta(max_length=200)] = ""
    before: Number | None = None
    limit: Annotated[int, msgspec.Meta(ge=1, le=500)] = 50


class RetryQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What of a run is done again.

    failed: only what did not succeed, and what comes after that.
    """

    failed: bool = False


class PipelineRun(msgspec.Struct, frozen=True):
    """A run, and the pipeline that it is of; empty: it is of none, or is not planned yet."""

    run: int
    pipeline: str


class PipelineRuns(msgspec.Struct, frozen=True):
    """Runs of one commit, in the order of their pipelines' files."""

    runs: list[PipelineRun]


class RunList(msgspec.Struct, frozen=True):
    """Newest first."""

    runs: list[Run]


class StepList(msgspec.Struct, frozen=True):
    """Of the latest attempt, in Dockerfile order."""

    steps: list[Step]


class LogQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which lines of a log are wanted.

    first: the number of the first line that is wanted.
    """

    first: Annotated[int, msgspec.Meta(ge=1, le=2**53)] = 1
    limit: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 1000


class SearchQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is looked for in a log.

    text: what lines must contain, in any case of letters. first: the number of the first line to look at.
    """

    text: Annotated[str, msgspec.Meta(min_length=1, max_length=1000)]
    first: Annotated[int, msgspec.Meta(ge=1, le=2**53)] = 1
    limit: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 200


class FollowQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """From where a log is followed.

    after: the last line that is known already; the header Last-Event-ID beats it.
    """

    after: Annotated[int, msgspec.Meta(ge=0, le=2**53)] = 0


class TextQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which part of a log's text is wanted.

    offset, limit: which bytes of the text are wanted; without a limit all that come after.
    """

    offset: Annotated[int, msgspec.Meta(ge=0, le=2**53)] = 0
    limit: Annotated[int, msgspec.Meta(ge=1, le=2**53)] | None = None


class LinePage(msgspec.Struct, frozen=True):
    """Lines of a log.

    next: where the next page begins, null when there is nothing after these lines yet.
    """

    lines: list[LogLine]
    next: int | None


@api.endpoint("POST", "/runs", scope="build", status=201, location=RUN, errors={409: "The context is not uploaded"})
def submit_run(call: Call, body: RunRequest) -> Run:
    """Queue a run.

    The source is an uploaded context (POST /contexts), or a git repository that the worker fetches.
    """
    call.require("build", body.project)
    source = body.source
    sender = call.caller.sender if call.caller is not None else ""
    if isinstance(source, ContextSource) and not call.service.contexts.has(source.context, sender):
        raise MissingContextError(
            f"the context {source.context[:19]} is not here, or not all of it", hint="send it first: POST /contexts"
        )
    if isinstance(source, GitSource):
        parse_url(source.url, repositories(call.service.settings))
    run = call.service.runs.submit(body, Trigger(by=call.actor, sender=sender))
    if body.params:
        address = call.request.remote_addr or ""
        call.service.audit.add(
            call.actor, "run with", f"run={run.number}", in_words(body.params), address=address, project=run.project
        )
    return run


@api.endpoint("GET", "/runs", scope="read")
def list_runs(call: Call, query: RunQuery) -> RunList:
    """List runs, the newest first."""
    if query.project is not None:
        call.require("read", query.project)
    found = call.service.runs.list(
        project=query.project,
        state=query.state,
        wanted=RunFilter(branch=query.branch, by=query.by, text=query.text),
        before=query.before,
        limit=query.limit,
        projects=visible(call.rights),
    )
    return RunList(found)


@api.endpoint("GET", "/runs/{run}", scope="read", errors=_NO_RUN)
def show_run(call: Call, run: Number) -> Run:
    """Show a run: its state, why it waits, and how it ended."""
    return call.service.runs.get(run)


@api.endpoint("GET", "/runs/{run}/pipelines", scope="read", errors=_NO_RUN)
def list_pipelines(call: Call, run: Number) -> PipelineRuns:
    """List the runs of a commit's pipelines, which were planned together: this one, and those of the others."""
    found = planned_together(call.service.database, run)
    return PipelineRuns([PipelineRun(number, pipeline) for number, pipeline in found])


@api.endpoint("GET", "/runs/{run}/steps", scope="read", errors=_NO_RUN)
def list_steps(call: Call, run: Number) -> StepList:
    """List the steps of a run's latest attempt, with cache states, times, sizes and where they stand in the log."""
    return StepList(list(call.service.runs.steps(run)))


@api.endpoint("POST", "/runs/{run}/cancel", scope="build", errors={**_NO_RUN, 409: "It has ended already"})
def cancel_run(call: Call, run: Number) -> Run:
    """Cancel a run: at once while it waits, within a second when it runs."""
    return call.service.runs.cancel(run, by=call.actor)


@api.endpoint(
    "POST", "/runs/{run}/retry", scope="build", status=201, location=RUN,
    errors={**_NO_RUN, 409: "It has not ended yet"},
)  # fmt: skip
def retry_run(call: Call, run: Number, query: RetryQuery) -> Run:
    """Queue a new run of the same request.

    With ``failed``, of a pipeline only what did not succeed is done again, and what comes after that. The results of
    the other jobs are taken over, with what they output; where that is not there any more, they are done again, too.
    """
    if not query.failed:
        return call.service.runs.retry(run, by=call.actor)
    if not call.service.jobs.has_failed(run):
        raise ConflictError(f"no job of run {run} has failed", hint="without `failed` all of it is done again")
    return call.service.runs.retry(run, by=call.actor, failed=True)


@api.endpoint("GET", "/runs/{run}/log", scope="read", errors=_NO_RUN)
def read_log(call: Call, run: Number, query: LogQuery) -> LinePage:
    """Read any part of a run's log, by line numbers, also while it grows.

    There may be fewer lines than asked for where they are long; ``next`` is where to go on.
    """
    job = call.service.runs.job(run)
    return line_page(call.service.logs.read(job.number, query.first, query.limit), query.limit, job.lines)


@api.endpoint("GET", "/runs/{run}/log/search", scope="read", errors=_NO_RUN)
def search_log(call: Call, run: Number, query: SearchQuery) -> LinePage:
    """Find the lines of a log that contain a text; ``next`` is where to look on when the limit cut the list."""
    job = call.service.runs.job(run).number
    return line_page(call.service.logs.search(job, query.text, first=query.first, limit=query.limit), query.limit)


@api.endpoint("GET", "/runs/{run}/log/text", scope="read", media="text/plain; charset=utf-8", errors=_NO_RUN)
def read_log_text(call: Call, run: Number, query: TextQuery) -> Streamed:
    """Read the log so far, or any part of it by bytes: plain text, one line for each line of the log."""
    job = call.service.runs.job(run).number
    return Streamed(call.service.logs.text(job, query.offset, query.limit))


@api.endpoint("GET", "/runs/{run}/events", scope="read", media="text/event-stream", errors=_NO_RUN)
def follow_run(call: Call, run: Number, query: FollowQuery) -> Streamed:
    """Follow a run's log to its end, as server-sent events.

    An event is a line as GET /runs/{run}/log has it; its id is the line's number. So after a broken connection,
    Last-Event-ID resumes exactly. When the run has ended, a last event named ``end`` has the run as data.

    Of a pipeline it is the log of its planning. Then events named ``jobs`` come, whenever one of its jobs has changed,
    with the list that GET /runs/{run}/jobs has as data.
    """
    job = call.service.runs.job(run)
    last = last_event_id(call)
    told = b""

    def news() -> bytes:
        nonlocal told
        found = call.service.jobs.list(run)
        before, told = told, msgspec.json.encode(found) if len(found) > 1 else b""
        return told if told != before else b""

    def end() -> bytes:
        found = call.service.runs.get(run)
        return msgspec.json.encode(found) if found.state in FINAL_STATES else b""

    return Streamed(log_events(call, run, job.number, query.after if last is None else last, end, news))


def line_page(found: list[tuple[int, bytes]], limit: int, last: int = 0) -> LinePage:
    """A page of the lines found. last: the last line that surely exists."""
    goes_on = len(found) == limit or (bool(found) and found[-1][0] < last)
    lines = [msgspec.Raw(data) for _, data in found]  # as they are stored: decoding took most of a page's time
    return LinePage(cast("list[LogLine]", lines), found[-1][0] + 1 if goes_on else None)


def last_event_id(call: Call) -> int | None:
    text = call.request.headers.get("Last-Event-ID", "")
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 17):
        raise InvalidRequestError(f"Last-Event-ID is {text[:40]!r}", hint="it is the number of a line")
    return int(text)


def log_events(
    call: Call, run: int, job: int, after: int, end: Callable[[], bytes], news: Callable[[], bytes] = bytes
) -> Iterator[bytes]:
    """The log of a job as events, and its end.

    job: its number among all.
    end: the data of the last event, once there is any: a pipeline goes on after its planning.
    news: data of events ``jobs`` until then, empty when there is nothing new.
    """
    yield b"retry: 1000\n\n"  # also sends the headers at once
    project, asked_at = call.service.runs.get(run).project, time.monotonic()
    for piece in itertools.chain(call.hub.follow(job, after), itertools.repeat(b"")):
        if time.monotonic() - asked_at >= _ASK_AGAIN_S:
            if not call.still_may("read", project):
                return
            asked_at = time.monotonic()
        if piece:
            yield piece
            continue
        if call.hub.stopping:
            return
        data = end()  # asked before the news, so that these are the last ones
        if changed := news():
            yield b"event: jobs\ndata: " + changed + b"\n\n"
        if data:
            yield b"event: end\ndata: " + data + b"\n\n"
            return
        time.sleep(_END_PAUSE_S)
        yield HEARTBEAT
