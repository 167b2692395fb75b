"""What the page of a run shows: its head, the strip, the tree, and what is chosen. ``run_jobs`` has the addresses."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from flask import g, request

from ci.graph import ENDED
from ci.reports.model import Case
from core.references import Reference
from pipelines.errors import ConflictError, NotFoundError
from pipelines.model import FIRST_PLACE, Run, Step
from pipelines.runs.histories import History
from pipelines.runs.jobs import JobView, PipelineView
from pipelines.runs.strips import SHOWN, Strip, branch_strips
from web.backing import service
from web.guard.rights import may
from web.pages import run_log
from web.pages.frame import number_argument
from web.pages.graph import HEIGHT, lay_out, related
from web.pages.jobwords import shown_box, shown_job
from web.pages.run_log import ShownLog
from web.pages.run_strip import strip_of
from web.pages.run_tree import grow, is_open_by_itself, steps_of_stage
from web.pages.run_view import ALL, View
from web.pages.strip import draw_strip
from web.pages.trail import own_registries, trail_of_run
from web.runcomparison import step_name

_WIDEST: Final = 40  # boxes; of a larger graph, what has to do with the chosen job is shown
_GOING: Final = ("running", "blocked", "queued", "waiting")
_MOST_OPEN: Final = 24  # jobs the steps of which are in the tree

NOTICES: Final = {
    "cancelled": "It was cancelled.",
    "cancelling": "The worker was told to stop it.",
    "again": "This is the new run.",
}


def view_of(run: int, jobs: Sequence[JobView], place: int, step: int = -1, stage: str = "") -> View:
    """As the request's address has it. place, step, stage: what is chosen. Raises NotFoundError."""
    if place != ALL:
        at(jobs, place)
    matrices = {job.matrix for job in jobs if job.matrix}
    places = {str(job.place): job.place for job in jobs}
    opened = dict.fromkeys(name for name in request.args.getlist("open") if name in matrices)
    more, less = (
        dict.fromkeys(places[text] for text in request.args.getlist(name) if text in places)
        for name in ("more", "less")
    )
    return View(run, place, step, stage, tuple(opened), "whole" in request.args, tuple(more), tuple(less))


def polled_view(run: int, jobs: Sequence[JobView]) -> View:
    """As the address of a part of the page has it. Raises NotFoundError."""
    place, step = number_argument("job"), number_argument("step")
    chosen = FIRST_PLACE if place is None else place
    return view_of(run, jobs, chosen, -1 if step is None else step, request.args.get("stage", "")[:200])


def choose(run: Run, jobs: Sequence[JobView]) -> tuple[int, int]:
    """The place and the step that one wants to see first; step -1: all of the job.

    That is the first step that failed, else what runs, else a gate that asks, else what comes next, else the last job
    that ran.
    """
    failed = [job for job in jobs if job.state == "error" or (job.state == "failed" and not job.may_fail)]
    if failed:
        steps = service().runs.steps(run.number, failed[0].place)
        return failed[0].place, next((step.index for step in steps if step.state == "failed"), -1)
    for state in _GOING:
        going = [job for job in jobs if job.state == state]
        if going:
            return going[0].place, -1
    return next((job for job in reversed(jobs) if job.started_at is not None), jobs[-1]).place, -1


def at(jobs: Sequence[JobView], place: int) -> JobView:
    """The job at a place. Raises NotFoundError."""
    found = next((job for job in jobs if job.place == place), None)
    if found is None:
        raise NotFoundError(f"this run has no job {place}")
    return found


def head(run: Run, pipeline: PipelineView | None) -> dict[str, Any]:
    """What is said of the run as a whole. No number of lines is in it, for that grows all the time."""
    basis = msgspec.structs.replace(run, lines=0, log_bytes=0)
    trail = trail_of_run(run)
    return {"run": basis, "pipeline": pipeline, "trail": trail, "elsewhere": _elsewhere(run), **_recent(run)}


def _recent(run: Run) -> dict[str, Any]:
    """The last runs of the run's branch, drawn, what it changed there, and the run before. Nothing without one."""
    branch = run.trigger.branch
    if not branch or run.trigger.pull_request:
        return {"recent": None, "course": "", "earlier": 0, "usual_s": None}
    found = branch_strips(service().database, run.project, [branch], SHOWN)[branch]
    earlier = max((brief.number for brief in found.runs if brief.number < run.number and brief.is_final), default=0)
    return {
        "recent": draw_strip(found, time.time()),
        "course": course(found, run.number, branch),
        "earlier": earlier if run.is_final else 0,
        "usual_s": found.usual_s,
    }


def course(strip: Strip, number: int, branch: str) -> str:
    """Whether a run of a branch broke it, is one more that fails, or mended it: by the run that ended before it."""
    ended = [brief for brief in strip.runs if brief.is_final and brief.state not in ("cancelled", "error")]
    at = next((at for at, brief in enumerate(ended) if brief.number == number), 0)
    if not at:
        return ""
    before, now = ended[at - 1], ended[at]
    failed = [before.state == "failed", now.state == "failed"]
    if failed == [False, True]:
        return f"broke {branch}: #{before.number} was green"
    if failed == [True, False]:
        return f"mended {branch}: #{before.number} had failed"
    if failed == [True, True]:
        began = next((other for other in range(at, -1, -1) if ended[other].state != "failed"), -1) + 1
        earlier = " or before" if not began and len(strip.runs) >= SHOWN else ""
        return f"{branch} fails since #{ended[began].number}{earlier}"
    return ""


def tree(run: Run, jobs: Sequence[JobView], pipeline: PipelineView | None, view: View) -> dict[str, Any]:
    """The rows of the tree."""
    lines = sum(job.lines for job in jobs)
    left_out = pipeline.left_out if pipeline is not None else {}
    steps = _steps_shown(run, jobs, view)
    return {"view": view, "tree": grow(jobs, steps, view, left_out, lines=lines, now=time.time())}


def strip(run: Run, jobs: Sequence[JobView], view: View) -> dict[str, Any]:
    """The timeline, and the graph; hidden: how many jobs the graph leaves out."""
    of_pipeline = [job for job in jobs if job.place > FIRST_PLACE]
    shown, graph = of_pipeline, lay_out(of_pipeline, view.opened)
    if len(graph.boxes) > _WIDEST and not view.is_whole:
        shown = related(of_pipeline, next((job.name for job in of_pipeline if job.place == view.chosen), ""))
        graph = lay_out(shown, view.opened)
    boxes = [shown_box(box, [shown[index] for index in box.jobs], view.chosen) for box in graph.boxes]
    return {
        "view": view,
        "strip": strip_of(run, jobs, _steps_shown(run, jobs, view), view, time.time()),
        "graph": graph,
        "boxes": boxes,
        "box_height": HEIGHT,
        "hidden": len(of_pipeline) - len(shown),
    }


def about(run: Run, jobs: Sequence[JobView], pipeline: PipelineView | None, view: View) -> dict[str, Any]:
    """What is known of the chosen job: why it failed, what it made, what one may do with it. Nothing of all output."""
    if view.chosen == ALL:
        return {"job": None, "gate": None}
    job = at(jobs, view.chosen)
    is_failed = job.state in ("failed", "error")
    steps = service().runs.steps(job.run, job.place) if is_failed else ()
    report = next((each for each in service().reports.of_run(job.run) if each.place == job.place), None)
    return {
        "job": job,
        "told": shown_job(job),
        "reason": job.reason if pipeline is not None or run.result is None else run.result.error or job.reason,
        "reused": _reused(job),
        "needed": [other for other in jobs if other.name in job.needs],
        "is_open": job.state not in ENDED,
        "outputs": service().outputs.of_run(job.run).get(job.place, ()) if job.kind == "job" else (),
        "report": report,
        "failed_test": _failed_test(job) if is_failed and report is not None and report.tests.failed else None,
        "passed": [
            other.name for other in jobs if job.matrix and other.matrix == job.matrix and other.state == "succeeded"
        ],
        "following": [other.name for other in jobs if job.name in other.needs],
        **_gate(job),
        **_shells(job, run.project),
        **run_log.failure(service().jobs.number(job.run, job.place), steps, with_tail=is_failed),
    }


def log(run: Run, jobs: Sequence[JobView], view: View) -> dict[str, Any]:
    """The log of what is chosen; None: it can have none. title: of it. code: the step, where one is chosen."""
    if view.chosen == ALL and len(jobs) > 1:
        shown = ShownLog(
            "", "", view.address, sum(job.lines for job in jobs), is_live=not run.is_final, failed=None, file="",
            jobs=lines_of(jobs),
        )  # fmt: skip
        return {"log": shown, "title": "All output", "code": ""}
    job = jobs[0] if view.chosen == ALL else at(jobs, view.chosen)
    if job.is_gate:
        return {"log": None, "title": job.name, "code": ""}
    steps = service().runs.steps(job.run, job.place)
    chosen = (
        [view.step] if view.step >= 0 else steps_of_stage(job, steps, view.stage, time.time()) if view.stage else []
    )
    address = f"/runs/{job.run}/jobs/{job.place}"
    is_failed = job.state in ("failed", "error")
    failed = next((step.last_line for step in steps if step.state == "failed"), 0) if is_failed else None
    title = "All output" if view.chosen == ALL else "plan" if job.kind == "plan" else job.name
    return {
        "log": ShownLog(
            f"/api/v1{address}", address, view.address, job.lines, is_live=job.state not in ENDED, failed=failed,
            file=f"run-{job.run}-job-{job.place}.log", place=job.place, steps=chosen, began=job.started_at or 0.0,
        ),
        "title": title,
        "code": next((step_name(step) for step in steps if step.index == view.step), view.stage if chosen else ""),
    }  # fmt: skip


def lines_of(jobs: Sequence[JobView]) -> list[list[Any]]:
    """Of each job that printed anything its place, its name, how many lines it has, and when it began."""
    return [
        [job.place, "plan" if job.kind == "plan" else job.name, job.lines, job.started_at] for job in jobs if job.lines
    ]


def _steps_shown(run: Run, jobs: Sequence[JobView], view: View) -> Mapping[int, Sequence[Step]]:
    """By place the steps of the jobs that are open in the tree."""
    opened = [
        job
        for job in jobs
        if job.place not in view.less
        and not job.is_gate
        and (job.place in (*view.more, view.chosen) or is_open_by_itself(job) or len(jobs) == 1)
    ]
    wanted = [job for job in opened if job.place in (*view.more, view.chosen)]
    wanted += [job for job in opened if job not in wanted][: max(0, _MOST_OPEN - len(wanted))]
    return {job.place: service().runs.steps(run.number, job.place) for job in wanted}


def _failed_test(job: JobView) -> tuple[Case, History] | None:
    """The first test of a job that failed, and how it went before."""
    found = service().reports.of_job(job.run, job.place)
    case = next((case for case in found[1].ordered() if case.has_failed), None) if found is not None else None
    return None if case is None else (case, service().reports.histories(job.run, job.place, [case])[0])


def _elsewhere(run: Run) -> list[str]:
    """The names of the built image that are not of the registry here: no page shows them."""
    own = own_registries()
    return [name for name in (run.result.names if run.result else ()) if Reference.parse(name).domain not in own]


def _gate(job: JobView) -> dict[str, Any]:
    """What a gate asks, and why whoever looks may not answer though they maintain the project."""
    if not job.is_gate:
        return {"gate": None, "why_not": ""}
    user = g.user.name if g.get("user") is not None else ""
    return {
        "gate": service().gates.view(job.run, job.place),
        "why_not": service().gates.why_not(job.run, job.place, user) if job.state == "blocked" else "",
    }


def _shells(job: JobView, project: str) -> dict[str, str]:
    """Who had a shell in it while it ran; and, for who may, how and where to open one while that is possible."""
    by = ""
    if job.was_entered:
        found = service().shells.list(job.run, job.place)
        names = (each.by for each in found if each.kind == "running" and each.attempt == job.attempt and each.opened_at)
        by = ", ".join(dict.fromkeys(names)) or "somebody"
    command = address = ""
    if job.state in ("failed", "running") and job.kind == "job":
        with contextlib.suppress(ConflictError):
            if may(service().shells.needed(job.run, job.place), project):
                address = f"/runs/{job.run}/jobs/{job.place}/shell"
                command = f"shiplap runs shell {job.run} {job.place}" if job.state == "failed" else ""
    return {"entered_by": by, "shell_command": command, "shell_page": address}


def _reused(job: JobView) -> tuple[str, str]:
    """The run that did a reused job, and the address of the job there: empty where there is none (any more)."""
    run = job.reused_from
    if not (run.isascii() and run.isdigit()):
        return run, ""
    try:
        return run, f"/runs/{run}/jobs/{service().jobs.get(int(run), job.name).place}"
    except NotFoundError:
        return run, ""
