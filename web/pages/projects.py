"""Projects: the list, one project with its history, and its forge's deliveries. ``projects_settings`` changes them."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from flask import Blueprint, g, redirect, request
from werkzeug.wrappers import Response

from pipelines.forges.known import FORGES
from pipelines.hooks.planning import by_hand
from pipelines.model import Project
from pipelines.runs.history import history, newest
from pipelines.sources.senders import user_sender
from pipelines.statuses.outbox import list_statuses
from web.addresses import public_url
from web.backing import service
from web.guard import note, require
from web.guard.rights import visible
from web.pages.frame import number_argument, page
from web.pages.projects_chart import draw

blueprint: Final = Blueprint("projects", __name__, url_prefix="/projects")

_LIMIT: Final = 50
_SHOWN: Final = 8
_BODY_BYTES: Final = 1 << 18


@blueprint.get("")
def list_projects() -> Response:
    """All projects, with the outcome of the newest run."""
    seen = visible(g.rights)
    found = [project for project in service().projects.list() if seen is None or project.name in seen]
    runs = {project.name: newest(service().database, project.name) for project in found}
    latest = {project.name: next(iter(service().deliveries.list(project.name, limit=1)), None) for project in found}
    return page("projects.html", projects=found, runs=runs, latest=latest)


@blueprint.get("/<name>")
def show_project(name: str) -> Response:
    """One project: its runs, what waits for a decision, and deliveries."""
    project = service().projects.get(name)
    points = history(service().database, name)
    return page(
        "project.html",
        **frame_of(project),
        newest=newest(service().database, name),
        chart=draw(points),
        points=points[::-1],
        approvals=service().approvals.list(name, state="waiting"),
        deliveries=service().deliveries.list(name, limit=_SHOWN),
        statuses=list_statuses(service().database, name, limit=_SHOWN),
        badge=f"{public_url(service())}/badge/{name}.svg",
        schedules=service().schedules.list(name),
        notice=_NOTICES.get(request.args.get("done", "")),
    )


_NOTICES: Final = {
    "rejected": "The commit will not be built.",
    "saved": "The settings are saved.",
}


@blueprint.post("/<name>/build")
@require("member")
def build(name: str) -> Response:
    """Build the newest commit of a branch, without waiting for a push."""
    project = service().projects.get(name)
    branch = request.form.get("branch", "").strip()
    wanted = by_hand(project, branch, g.user.name, user_sender(g.user.name))
    run = service().runs.submit(wanted.request, wanted.trigger)
    note(service(), "build branch", f"project={name} run={run.number}", wanted.trigger.branch)
    return redirect(f"/runs/{run.number}", 303)


@blueprint.get("/<name>/deliveries")
def list_deliveries(name: str) -> Response:
    """The forge's deliveries, the newest first."""
    project = service().projects.get(name)
    found = service().deliveries.list(name, before=number_argument("before"), limit=_LIMIT)
    older = found[-1].id if len(found) == _LIMIT else None
    return page("project_deliveries.html", **frame_of(project), deliveries=found, older=older)


@blueprint.get("/<name>/deliveries/<int:number>")
@require("member")
def show_delivery(name: str, number: int) -> Response:
    """One delivery: headers, body, and what came of it."""
    project = service().projects.get(name)
    found = service().deliveries.get(name, number)
    body = None if found.body is None else _readable(found.body)
    return page("project_delivery.html", **frame_of(project), delivery=found.delivery, headers=found.headers, body=body)


@blueprint.post("/<name>/deliveries/<int:number>/redeliver")
@require("member")
def redeliver(name: str, number: int) -> Response:
    """Act on a delivery once more, and show the new one."""
    made = service().receiver.redeliver(name, number)
    note(service(), "redeliver", f"project={name} delivery={number}", made.reason)
    return redirect(f"/projects/{name}/deliveries/{made.id}", 303)


@blueprint.post("/<name>/approvals/<int:number>/approve")
@require("member")
def approve(name: str, number: int) -> Response:
    """Build one commit of a fork."""
    commit = request.form.get("commit", "")
    run = service().approvals.approve(name, number, commit, g.user.name)
    note(service(), "approve commit", f"project={name} run={run.number}", commit)
    return redirect(f"/runs/{run.number}", 303)


@blueprint.post("/<name>/approvals/<int:number>/reject")
@require("member")
def reject(name: str, number: int) -> Response:
    """Do not build a commit of a fork."""
    commit = request.form.get("commit", "")
    service().approvals.reject(name, number, commit, g.user.name)
    note(service(), "reject commit", f"project={name}", commit)
    return redirect(f"/projects/{name}?done=rejected", 303)


def frame_of(project: Project) -> dict[str, Any]:
    """The members that every page of a project shows."""
    return {"project": project, "hook": project.hook, "forges": tuple(sorted(FORGES))}


def _readable(body: bytes) -> str:
    """JSON indented; anything else as it came."""
    try:
        text = msgspec.json.format(body, indent=2)
    except msgspec.DecodeError:
        text = body
    return text[:_BODY_BYTES].decode("utf-8", "replace")
