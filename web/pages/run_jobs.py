"""The page of a pipeline's run: the graph of its jobs, all of them over time, and the chosen one with its log."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from typing import Any, Final, NamedTuple
from urllib.parse import urlencode

from flask import Blueprint, Response, g, redirect, request

from ci.graph import ENDED
from pipelines.errors import ConflictError, NotFoundError
from pipelines.model import FIRST_PLACE, Run
from pipelines.runs.gates import Approver
from pipelines.runs.jobs import JobView, PipelineView
from web.backing import service
from web.guard import require
from web.guard.notes import leave_unnoted
from web.pages import run_log
from web.pages.frame import fresh, number_argument, page
from web.pages.graph import HEIGHT, lay_out, related
from web.pages.jobwords import shown_box, shown_job
from web.pages.run_log import ShownLog
from web.pages.timeline import draw, draw_jobs

blueprint: Final = Blueprint("run_job_pages", __name__)

_WIDEST: Final = 40  # boxes; of a larger graph, what has to do with the chosen job is shown
_GOING: Final = ("running", "queued", "blocked", "waiting")


def show_pipeline(run: Run, pipeline: PipelineView, place: int | None, notice: str | None) -> Response:
    """The page. place: of the chosen job; None: the page chooses."""
    jobs = service().jobs.list(run.number)
    chosen = _choose(jobs) if place is None else _at(jobs, place)
    view = _view(run.number, jobs, chosen.place)
    return page(
        "run_pipeline.html",
        run=run,
        pipeline=pipeline,
        notice=notice,
        log=_log(chosen),
        images=[],
        **{**_shown(run, jobs, view), **_graph(jobs, view)},
        **_job(chosen, jobs),
    )


@blueprint.get("/runs/<int:number>/jobs/<int:place>")
def show_job(number: int, place: int) -> Response:
    """The page of the run, with this job chosen."""
    run, pipeline = service().runs.get(number), service().jobs.pipeline(number)
    if pipeline is None:
        return _to(f"/runs/{number}")
    return show_pipeline(run, pipeline, place, None)


@blueprint.get("/runs/<int:number>/graph")
def show_graph(number: int) -> Response:
    """The graph, for as long as states change."""
    run, jobs = service().runs.get(number), service().jobs.list(number)
    shown = _graph(jobs, _view(number, jobs, number_argument("job") or FIRST_PLACE))
    return fresh("run_graph.html", (run.state, shown["boxes"], shown["view"]), run=run, **shown)


@blueprint.get("/runs/<int:number>/jobs")
def show_jobs(number: int) -> Response:
    """All jobs over time, for as long as that grows."""
    run, jobs = service().runs.get(number), service().jobs.list(number)
    shown = _shown(run, jobs, _view(number, jobs, number_argument("job") or FIRST_PLACE))
    beat = 0 if run.is_final else int(time.time())
    basis = (run.state, jobs, shown["view"], beat)
    return fresh("run_jobs.html", basis, run=run, pipeline=service().jobs.pipeline(number), **shown)


@blueprint.get("/runs/<int:number>/jobs/<int:place>/about")
def show_about(number: int, place: int) -> Response:
    """The chosen job and its steps, for as long as they change."""
    run, jobs = service().runs.get(number), service().jobs.list(number)
    job = _at(jobs, place)
    shown = _job(job, jobs)
    beat = int(time.time()) if job.state == "running" else 0
    basis = (run.is_final, job, shown["steps"], shown["gate"], shown["why_not"], beat)
    return fresh("run_job.html", basis, run=run, **shown)


@blueprint.get("/runs/<int:number>/jobs/<int:place>/log/matches")
def find_in_log(number: int, place: int) -> Response:
    """As ``web.pages.run`` has it."""
    return run_log.matches(service().jobs.number(number, place))


@blueprint.get("/runs/<int:number>/jobs/<int:place>/log/steps")
def map_log(number: int, place: int) -> Response:
    """As ``web.pages.run`` has it."""
    return run_log.spans(service().jobs.number(number, place))


@blueprint.post("/runs/<int:number>/jobs/<int:place>/retry")
@require("member")
def retry_job(number: int, place: int) -> Response:
    """Queue a run that does this job again, and what comes after it."""
    job = _at(service().jobs.list(number), place)
    if job.kind != "job":
        raise ConflictError(f"job {place} of run {number} is none of a pipeline", hint="retry the run")
    return _to(f"/runs/{service().runs.retry(number, by=g.user.name, redo=(job.name,)).number}?done=again")


@blueprint.post("/runs/<int:number>/jobs/<int:place>/cancel")
@require("member")
def cancel_job(number: int, place: int) -> Response:
    """End this job, and what needs it; one that ended in the meantime is just as good."""
    with contextlib.suppress(ConflictError):
        service().jobs.cancel(number, str(place), by=g.user.name)
    return _to(f"/runs/{number}/jobs/{place}#job")


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
    return _to(f"/runs/{number}/jobs/{place}#job")


def _to(address: str) -> Response:
    answer = redirect(address, 303)
    assert isinstance(answer, Response)
    return answer


def _choose(jobs: Sequence[JobView]) -> JobView:
    """What one wants to see first: what failed, else what runs, else what comes next, else the last that ran."""
    failed = [job for job in jobs if job.state == "error" or (job.state == "failed" and not job.may_fail)]
    for wanted in (failed, *([job for job in jobs if job.state == state] for state in _GOING)):
        if wanted:
            return wanted[0]
    return next((job for job in reversed(jobs) if job.started_at is not None), jobs[-1])


def _at(jobs: Sequence[JobView], place: int) -> JobView:
    """Raises NotFoundError."""
    found = next((job for job in jobs if job.place == place), None)
    if found is None:
        raise NotFoundError(f"this run has no job {place}")
    return found


class View(NamedTuple):
    """What of a run is shown, as the address says it.

    chosen: the place of a job. opened: matrices. is_whole: also of a large graph all is shown.
    """

    run: int
    chosen: int
    opened: tuple[str, ...] = ()
    is_whole: bool = False

    @property
    def query(self) -> list[tuple[str, str]]:
        return [*(("open", name) for name in self.opened), *([("whole", "1")] if self.is_whole else [])]

    def part(self, name: str) -> str:
        """The address of a part of the page, for polling."""
        return f"/runs/{self.run}/{name}?{urlencode([('job', str(self.chosen)), *self.query])}"

    def page(self, place: int, fragment: str) -> str:
        """The address of the page with a job chosen."""
        query = f"?{urlencode(self.query)}" if self.query else ""
        return f"/runs/{self.run}/jobs/{place}{query}#{fragment}"

    def opening(self, matrix: str) -> str:
        return self._replace(opened=(*self.opened, matrix)).page(self.chosen, "graph")

    def closing(self, matrix: str) -> str:
        left = tuple(name for name in self.opened if name != matrix)
        return self._replace(opened=left).page(self.chosen, "graph")

    def whole(self) -> str:
        return self._replace(is_whole=True).page(self.chosen, "graph")


def _view(run: int, jobs: Sequence[JobView], chosen: int) -> View:
    """As the request's address has it. chosen: the place of the chosen job."""
    matrices = {job.matrix for job in jobs if job.matrix}
    opened = dict.fromkeys(name for name in request.args.getlist("open") if name in matrices)
    return View(run, chosen, tuple(opened), "whole" in request.args)


def _shown(run: Run, jobs: Sequence[JobView], view: View) -> dict[str, Any]:
    """All jobs over time."""
    timeline = draw_jobs(jobs, run.finished_at or time.time())
    return {"view": view, "timeline": timeline, "rows": [(lane, shown_job(lane.job)) for lane in timeline.lanes]}


def _graph(jobs: Sequence[JobView], view: View) -> dict[str, Any]:
    """The graph. hidden: how many jobs it leaves out."""
    of_pipeline = [job for job in jobs if job.place > FIRST_PLACE]
    shown, graph = of_pipeline, lay_out(of_pipeline, view.opened)
    if len(graph.boxes) > _WIDEST and not view.is_whole:
        shown = related(of_pipeline, next((job.name for job in of_pipeline if job.place == view.chosen), ""))
        graph = lay_out(shown, view.opened)
    boxes = [shown_box(box, [shown[index] for index in box.jobs], view.chosen) for box in graph.boxes]
    return {
        "view": view, "graph": graph, "boxes": boxes, "box_height": HEIGHT, "hidden": len(of_pipeline) - len(shown)
    }  # fmt: skip


def _job(job: JobView, jobs: Sequence[JobView]) -> dict[str, Any]:
    """The chosen job and its steps."""
    steps = service().runs.steps(job.run, job.place)
    number = service().jobs.number(job.run, job.place)
    is_failed = job.state in ("failed", "error")
    return {
        "job": job,
        "told": shown_job(job),
        "reused": _reused(job),
        "needed": [other for other in jobs if other.name in job.needs],
        "is_open": job.state not in ENDED,
        "outputs": service().outputs.of_run(job.run).get(job.place, ()) if job.kind == "job" else (),
        "report": next((view for view in service().reports.of_run(job.run) if view.place == job.place), None),
        "following": [other.name for other in jobs if job.name in other.needs],
        **_gate(job),
        "steps": steps,
        "groups": draw(steps, job.started_at, job.finished_at or time.time()).groups,
        **run_log.failure(number, steps if is_failed else (), with_tail=is_failed),
    }


def _gate(job: JobView) -> dict[str, Any]:
    """What a gate asks, and why whoever looks may not answer though they maintain the project."""
    if not job.is_gate:
        return {"gate": None, "why_not": ""}
    user = g.user.name if g.get("user") is not None else ""
    return {
        "gate": service().gates.view(job.run, job.place),
        "why_not": service().gates.why_not(job.run, job.place, user) if job.state == "blocked" else "",
    }


def _reused(job: JobView) -> tuple[str, str]:
    """The run that did a reused job, and the address of the job there: empty where there is none (any more)."""
    run = job.reused_from
    if not (run.isascii() and run.isdigit()):
        return run, ""
    try:
        return run, f"/runs/{run}/jobs/{service().jobs.get(int(run), job.name).place}#job"
    except NotFoundError:
        return run, ""


def _log(job: JobView) -> ShownLog:
    address = f"/runs/{job.run}/jobs/{job.place}"
    return ShownLog(
        f"/api/v1{address}", address, address, job.lines, is_live=job.state not in ENDED,
        is_failed=job.state in ("failed", "error"), file=f"run-{job.run}-job-{job.place}.log",
    )  # fmt: skip
