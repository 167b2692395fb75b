"""The jobs of a run: what there is, and the steps and the log of each."""

from __future__ import annotations

from typing import Annotated, Final, TypeAlias

import msgspec

from pipelines.errors import NotFoundError
from pipelines.model import Run
from pipelines.runs.gates import Approver, GateView
from pipelines.runs.jobs import JobView
from web.calls import Call, Streamed
from web.endpoints import Api
from web.views.runs import (
    RUN,
    FollowQuery,
    LinePage,
    LogQuery,
    Number,
    SearchQuery,
    StepList,
    TextQuery,
    last_event_id,
    line_page,
    log_events,
)

api: Final = Api("jobs")

Name: TypeAlias = Annotated[str, msgspec.Meta(max_length=600, description="A job's place in its run, or its name")]
_NO_JOB: Final = {404: "There is no such run or job"}


class Comment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What goes with an answer. comment: why, for people."""

    comment: Annotated[str, msgspec.Meta(max_length=1000)] = ""


class JobList(msgspec.Struct, frozen=True):
    """In their order: the first one planned the others, or is the build that the run is."""

    jobs: list[JobView]


@api.endpoint("GET", "/runs/{run}/jobs", scope="read", errors={404: "There is no such run"})
def list_jobs(call: Call, run: Number) -> JobList:
    """List the jobs of a run, with their states and what each needs."""
    return JobList(list(call.service.jobs.list(run)))


@api.endpoint("GET", "/runs/{run}/jobs/{job}", scope="read", errors=_NO_JOB)
def show_job(call: Call, run: Number, job: Name) -> JobView:
    """Show a job: its state, and how it ended."""
    return call.service.jobs.get(run, job)


@api.endpoint("GET", "/runs/{run}/jobs/{job}/steps", scope="read", errors=_NO_JOB)
def list_job_steps(call: Call, run: Number, job: Name) -> StepList:
    """List the steps of a job's latest attempt."""
    return StepList(list(call.service.runs.steps(run, call.service.jobs.get(run, job).place)))


@api.endpoint("GET", "/runs/{run}/jobs/{job}/log", scope="read", errors=_NO_JOB)
def read_job_log(call: Call, run: Number, job: Name, query: LogQuery) -> LinePage:
    """Read any part of a job's log, as GET /runs/{run}/log reads a run's."""
    found = call.service.jobs.get(run, job)
    number = call.service.jobs.number(run, found.place)
    return line_page(call.service.logs.read(number, query.first, query.limit), query.limit, found.lines)


@api.endpoint("GET", "/runs/{run}/jobs/{job}/log/search", scope="read", errors=_NO_JOB)
def search_job_log(call: Call, run: Number, job: Name, query: SearchQuery) -> LinePage:
    """Find the lines of a job's log that contain a text, as GET /runs/{run}/log/search finds a run's."""
    number = call.service.jobs.number(run, call.service.jobs.get(run, job).place)
    return line_page(call.service.logs.search(number, query.text, first=query.first, limit=query.limit), query.limit)


@api.endpoint("GET", "/runs/{run}/jobs/{job}/log/text", scope="read", media="text/plain; charset=utf-8", errors=_NO_JOB)
def read_job_log_text(call: Call, run: Number, job: Name, query: TextQuery) -> Streamed:
    """Read a job's log so far, or any part of it by bytes."""
    number = call.service.jobs.number(run, call.service.jobs.get(run, job).place)
    return Streamed(call.service.logs.text(number, query.offset, query.limit))


@api.endpoint("GET", "/runs/{run}/jobs/{job}/events", scope="read", media="text/event-stream", errors=_NO_JOB)
def follow_job(call: Call, run: Number, job: Name, query: FollowQuery) -> Streamed:
    """Follow a job's log to its end, as server-sent events, as GET /runs/{run}/events follows a run's.

    When the job has ended, a last event named ``end`` has the job as data.
    """
    place = call.service.jobs.get(run, job).place
    last = last_event_id(call)
    number = call.service.jobs.number(run, place)

    def end() -> bytes:
        return msgspec.json.encode(call.service.jobs.get(run, str(place)))

    return Streamed(log_events(call, run, number, query.after if last is None else last, end))


@api.endpoint(
    "POST", "/runs/{run}/jobs/{job}/cancel", scope="build", errors={**_NO_JOB, 409: "They have ended already"}
)
def cancel_job(call: Call, run: Number, job: Name) -> JobList:
    """Cancel a job and what needs it. The name of a job with a matrix means all of it.

    What runs gets SIGTERM, and SIGKILL after the grace of its job; jobs that clean up after it are still done. The
    second time these are ended, too, and what runs is killed. The answer has the jobs that were meant.
    """
    if call.service.jobs.chosen(run, job)[0].kind == "build":  # the run is nothing else, or is not planned yet
        call.service.runs.cancel(run, by=call.actor)
        return JobList(list(call.service.jobs.chosen(run, job)))
    return JobList(list(call.service.jobs.cancel(run, job, by=call.actor)))


@api.endpoint("GET", "/runs/{run}/jobs/{job}/gate", scope="read", errors={404: "There is no such gate"})
def show_gate(call: Call, run: Number, job: Name) -> GateView:
    """Show what a gate asks, who may answer, what changed since it was approved last, and what came of it."""
    return _gate(call, run, call.service.jobs.get(run, job))


@api.endpoint(
    "POST", "/runs/{run}/jobs/{job}/approve", scope="maintain", noted=False,
    errors={**_NO_JOB, 409: "Nothing waits for an answer"},
)  # fmt: skip
def approve_gate(call: Call, run: Number, job: Name, body: Comment) -> GateView:
    """Let a gate open: the jobs after it go on. Whoever answers first decides.

    A gate may ask certain people only, and not the author of the run. Both are in GET /runs/{run}/jobs/{job}/gate.
    """
    return _answer(call, run, job, body, is_yes=True)


@api.endpoint(
    "POST", "/runs/{run}/jobs/{job}/refuse", scope="maintain", noted=False,
    errors={**_NO_JOB, 409: "Nothing waits for an answer"},
)  # fmt: skip
def refuse_gate(call: Call, run: Number, job: Name, body: Comment) -> GateView:
    """Let a gate fail: what needs it is skipped."""
    return _answer(call, run, job, body, is_yes=False)


@api.endpoint(
    "POST", "/runs/{run}/jobs/{job}/retry", scope="build", status=201, location=RUN,
    errors={**_NO_JOB, 409: "The run has not ended yet"},
)  # fmt: skip
def retry_job(call: Call, run: Number, job: Name) -> Run:
    """Queue a new run that does a job again, and what comes after it. The name of a job with a matrix means all of it.

    What they need is taken over where it succeeded and is still there, and else done again. What has nothing to do with
    them is taken over where it succeeded, and else left out.
    """
    wanted = call.service.jobs.chosen(run, job)
    redo = tuple(view.name for view in wanted) if wanted[0].kind == "job" else ()
    return call.service.runs.retry(run, by=call.actor, redo=redo)


def _answer(call: Call, run: int, job: str, body: Comment, *, is_yes: bool) -> GateView:
    view = call.service.jobs.get(run, job)
    user = call.caller.user if call.caller is not None else None
    by = Approver(call.actor, user or "", call.request.remote_addr or "")
    call.service.gates.answer(run, view.place, by, is_yes=is_yes, comment=body.comment)
    return _gate(call, run, view)


def _gate(call: Call, run: int, job: JobView) -> GateView:
    found = call.service.gates.view(run, job.place)
    if found is None:
        raise NotFoundError(f"job {job.name} of run {run} is no gate: it asks nobody")
    return found
