"""The page of a run: its jobs as a tree, and the chosen one with its log; its parts, polled as long as they change."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from typing import Any, Final

import msgspec
from flask import Blueprint, Response, g, redirect, request

from pipelines.errors import ConflictError, NotFoundError
from pipelines.model import Run
from pipelines.runs.gates import Approver
from pipelines.runs.jobs import JobView, PipelineView
from web.backing import service
from web.guard import require
from web.guard.notes import leave_unnoted
from web.pages import run_log, run_panes
from web.pages.frame import fresh, number_argument, page
from web.pages.run_panes import NOTICES, at, polled_view, view_of
from web.pages.run_view import ALL, View

blueprint: Final = Blueprint("run_job_pages", __name__)


@blueprint.get("/runs/<int:number>")
def show_run(number: int) -> Response:
    """The page of a run, with what one wants to see first."""
    run, jobs = service().runs.get(number), service().jobs.list(number)
    asked = number_argument("job")  # marks at commits lead to jobs so
    place, step = run_panes.choose(run, jobs) if asked is None else (asked, -1)
    return _show(run, place, step)


@blueprint.get("/runs/<int:number>/all")
def show_all(number: int) -> Response:
    """The page of the run, with the output of all jobs."""
    return _show(service().runs.get(number), ALL)


@blueprint.get("/runs/<int:number>/jobs/<int:place>")
def show_job(number: int, place: int) -> Response:
    """The page of the run, with this job chosen, or a stage of it."""
    return _show(service().runs.get(number), place, stage=request.args.get("stage", "")[:200])


@blueprint.get("/runs/<int:number>/jobs/<int:place>/<int:step>")
def show_step(number: int, place: int, step: int) -> Response:
    """The page of the run, with a job's step chosen: its number from 1."""
    run = service().runs.get(number)
    at(service().jobs.list(number), place)
    if not any(found.index == step - 1 for found in service().runs.steps(number, place)):
        raise NotFoundError(f"job {place} of run {number} has no step {step}")
    return _show(run, place, step - 1)


def _show(run: Run, place: int, step: int = -1, stage: str = "") -> Response:
    jobs, pipeline = service().jobs.list(run.number), service().jobs.pipeline(run.number)
    view = view_of(run.number, jobs, place, step, stage)
    part = request.headers.get("Shiplap-Part")  # of the script, which changes the page when something else is chosen
    if part == "pane":
        return page("run_pane.html", run=run, pipeline=pipeline, view=view, **_pane(run, jobs, pipeline, view))
    around = run_panes.tree(run, jobs, pipeline, view) | run_panes.strip(run, jobs, view)
    if part == "around":
        return page("run_around.html", run=run, **around)
    shown = run_panes.head(run, pipeline) | around | _pane(run, jobs, pipeline, view)
    return page("run.html", done=NOTICES.get(request.args.get("done", ""), ""), **shown)


def _pane(run: Run, jobs: Sequence[JobView], pipeline: PipelineView | None, view: View) -> dict[str, Any]:
    return run_panes.about(run, jobs, pipeline, view) | run_panes.log(run, jobs, view)


@blueprint.get("/runs/<int:number>/head")
def show_head(number: int) -> Response:
    """The part of the page about the run as a whole, for as long as that changes."""
    run, pipeline = service().runs.get(number), service().jobs.pipeline(number)
    shown = run_panes.head(run, pipeline)
    return fresh("run_head.html", (shown["run"], pipeline, shown["course"], shown["trail"]), **shown)


@blueprint.get("/runs/<int:number>/strip")
def show_strip(number: int) -> Response:
    """The timeline and the graph, for as long as they change."""
    run, jobs = service().runs.get(number), service().jobs.list(number)
    shown = run_panes.strip(run, jobs, polled_view(number, jobs))
    basis = (run.state, shown["boxes"], shown["strip"], shown["view"])
    return fresh("run_strip.html", basis, run=run, **shown)


@blueprint.get("/runs/<int:number>/tree")
def show_tree(number: int) -> Response:
    """The jobs and their steps, for as long as they change."""
    run, jobs = service().runs.get(number), service().jobs.list(number)
    shown = run_panes.tree(run, jobs, service().jobs.pipeline(number), polled_view(number, jobs))
    beat = 0 if run.is_final else int(time.time())
    return fresh("run_tree.html", (run.state, shown["tree"], shown["view"], beat), run=run, **shown)


@blueprint.get("/runs/<int:number>/about")
def show_about(number: int) -> Response:
    """What is known of the chosen job, for as long as that changes."""
    run, jobs = service().runs.get(number), service().jobs.list(number)
    pipeline = service().jobs.pipeline(number)
    view = polled_view(number, jobs)
    shown = run_panes.about(run, jobs, pipeline, view)
    run = msgspec.structs.replace(run, lines=0, log_bytes=0)
    job = shown["job"] and msgspec.structs.replace(shown["job"], lines=0)
    basis = (run.state, run.reason, run.result, job, shown["gate"], shown.get("why_not"), view)
    return fresh("run_about.html", basis, run=run, pipeline=pipeline, view=view, **shown)


@blueprint.get("/runs/<int:number>/lines")
def count_lines(number: int) -> Response:
    """How many lines the jobs have that printed anything, as JSON."""
    run = service().runs.get(number)
    told = {"jobs": run_panes.lines_of(service().jobs.list(number)), "is_live": not run.is_final}
    return Response(msgspec.json.encode(told), mimetype="application/json")


@blueprint.get("/runs/<int:number>/jobs/<int:place>/log/matches")
def find_in_log(number: int, place: int) -> Response:
    """The numbers of all lines that contain the text, as JSON."""
    return run_log.matches(service().jobs.number(number, place))


@blueprint.get("/runs/<int:number>/jobs/<int:place>/log/steps")
def map_log(number: int, place: int) -> Response:
    """The step of each line, as JSON: pairs of a step (-1: none) and its number of lines there."""
    return run_log.spans(service().jobs.number(number, place))


@blueprint.get("/runs/<int:number>/jobs/<int:place>/log/marks")
def mark_log(number: int, place: int) -> Response:
    """What stands out in the log, as JSON: errors, warnings, folds, and the step of each line."""
    return run_log.marks(service().jobs.number(number, place))


@blueprint.post("/runs/<int:number>/jobs/<int:place>/retry")
@require("member")
def retry_job(number: int, place: int) -> Response:
    """Queue a run that does this job again, and what comes after it."""
    job = at(service().jobs.list(number), place)
    if job.kind != "job":
        raise ConflictError(f"job {place} of run {number} is none of a pipeline", hint="retry the run")
    return _to(f"/runs/{service().runs.retry(number, by=g.user.name, redo=(job.name,)).number}?done=again")


@blueprint.post("/runs/<int:number>/jobs/<int:place>/cancel")
@require("member")
def cancel_job(number: int, place: int) -> Response:
    """End this job, and what needs it; one that ended in the meantime is just as good."""
    with contextlib.suppress(ConflictError):
        service().jobs.cancel(number, str(place), by=g.user.name)
    return _to(f"/runs/{number}/jobs/{place}")


@blueprint.post("/runs/<int:number>/jobs/<int:place>/approve")
@require("maintainer")
def approve_gate(number: int, place: int) -> Response:
    """Let the gate open."""
    return _answer(number, place, is_yes=True)


@blueprint.post("/runs/<int:number>/jobs/<int:place>/refuse")
@require("maintainer")
def refuse_gate(number: int, place: int) -> Response:
    """Let the gate fail."""
    return _answer(number, place, is_yes=False)


def _answer(number: int, place: int, *, is_yes: bool) -> Response:
    by = Approver(g.user.name, g.user.name, request.remote_addr or "")
    service().gates.answer(number, place, by, is_yes=is_yes, comment=request.form.get("comment", ""))
    leave_unnoted()  # it is in the trail by the transaction of the answer itself
    return _to(f"/runs/{number}/jobs/{place}")


def _to(address: str) -> Response:
    answer = redirect(address, 303)
    assert isinstance(answer, Response)
    return answer
