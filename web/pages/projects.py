"""Projects: the list, one project with its history, and its forge's deliveries. ``projects_settings`` changes them."""

from __future__ import annotations

import time
from typing import Any, Final

import msgspec
from flask import Blueprint, g, redirect, request
from werkzeug.wrappers import Response

from core.errors import InvalidReferenceError
from core.references import Reference
from pipelines.forges.known import FORGES
from pipelines.hooks.deliveries import Delivery
from pipelines.hooks.planning import by_hand
from pipelines.model import Project, Run
from pipelines.runs.history import newest
from pipelines.runs.listing import RunFilter
from pipelines.runs.rollups import DAY_S, Head, RefKind, count_heads, days, heads_of
from pipelines.runs.strips import branch_strips, strips
from pipelines.sources.senders import user_sender
from pipelines.statuses.outbox import list_statuses
from web.addresses import public_url
from web.backing import service
from web.guard import note, require
from web.guard.rights import visible
from web.pages.frame import fresh, number_argument, page
from web.pages.strip import draw_strip
from web.pages.trends import SPANS, Trends, as_csv, columns, panels

blueprint: Final = Blueprint("projects", __name__, url_prefix="/projects")

_LIMIT: Final = 50
_HEADS: Final = 12
_SHORT: Final = 10
_GOOD: Final = 5
_TESTS: Final = 5
_STOP_POLLING: Final = 286  # htmx's own
_FORGES: Final = {
    "github": "GitHub", "gitlab": "GitLab", "gitea": "Gitea", "forgejo": "Forgejo", "bitbucket": "Bitbucket",
    "plain": "the repository's hook",
}  # fmt: skip
_SHOWN: Final = 8
_BODY_BYTES: Final = 1 << 18


@blueprint.get("")
def list_projects() -> Response:
    """Projects with the outcome of the newest run: those that are not archived, or those that are."""
    seen = visible(g.rights)
    every = [project for project in service().projects.list() if seen is None or project.name in seen]
    groups: dict[str, list[Project]] = {"": [], "archived": []}
    for project in every:
        groups["" if project.archived_at is None else "archived"].append(project)
    show = "archived" if request.args.get("show") == "archived" else ""
    found = groups[show]
    runs = {project.name: newest(service().database, project.name) for project in found}
    latest = {project.name: next(iter(service().deliveries.list(project.name, limit=1)), None) for project in found}
    now = time.time()
    return page(
        "projects.html",
        projects=found,
        show=show,
        counts={name: len(each) for name, each in groups.items()},
        runs=runs,
        latest=latest,
        strips=strips(service().database, [project.name for project in found]),
        draw=lambda strip: draw_strip(strip, now),
    )


@blueprint.get("/<name>")
def show_project(name: str) -> Response:
    """One project: its branches, trends, tests, images, what waits for a decision, and deliveries."""
    project = service().projects.get(name)
    found = _trends(name, SPANS[0])
    heads = heads_of(service().database, name, ("branch", "pull"), limit=_HEADS)
    good = list(service().listing.page(RunFilter(project=name, state="succeeded"), limit=_GOOD).runs)
    outputs = service().outputs.of_run(good[0].number) if good else {}
    deliveries = service().deliveries.list(name, limit=_SHOWN)
    return page(
        "project.html",
        **frame_of(project),
        **_of_heads(name, heads),
        newest=newest(service().database, name),
        strip=strips(service().database, [name])[name],
        draw=lambda strip: draw_strip(strip, time.time()),
        panels=panels(found),
        total=sum(found.succeeded) + sum(found.failed),
        span=SPANS[0],
        tests=service().reports.of_project(name)[:_TESTS],
        good=good[0] if good else None,
        outputs=[(place, each) for place, found in outputs.items() for each in found][:_SHOWN],
        made=_made(good),
        connecting=_is_connecting(project, deliveries),
        **_connecting(project, deliveries),
        approvals=service().approvals.list(name, state="waiting"),
        deliveries=deliveries,
        statuses=list_statuses(service().database, name, limit=_SHOWN),
        badge=f"{public_url(service())}/badge/{name}.svg",
        schedules=service().schedules.list(name),
        notice=_NOTICES.get(request.args.get("done", "")),
    )


@blueprint.get("/<name>/branches")
def list_branches(name: str) -> Response:
    """The branches that have runs, the newest first."""
    return _list_heads(name, "branches", "Branches", ("branch",))


@blueprint.get("/<name>/pulls")
def list_pulls(name: str) -> Response:
    """The pull requests that have runs, the newest first."""
    return _list_heads(name, "pulls", "Pull requests", ("pull",))


@blueprint.get("/<name>/connect")
def show_connecting(name: str) -> Response:
    """A part of the page: how far connecting the forge has come. Once it is done, htmx asks no more."""
    project = service().projects.get(name)
    deliveries = service().deliveries.list(name, limit=_SHOWN)
    shown = _connecting(project, deliveries)
    if _is_connecting(project, deliveries):
        return fresh("project_connect.html", (name, shown["steps"]), **shown)
    last = page("project_connect.html", **shown)
    last.status_code = _STOP_POLLING
    return last


@blueprint.get("/<name>/trends")
def show_trends(name: str) -> Response:
    """How the runs went, a day a point, as charts and as a table."""
    project = service().projects.get(name)
    span = _span()
    found = _trends(name, span)
    return page(
        "project_trends.html",
        **frame_of(project),
        counts=count_heads(service().database, name),
        trends=found,
        panels=panels(found),
        total=sum(found.succeeded) + sum(found.failed),
        spans=SPANS,
        span=span,
    )


@blueprint.get("/<name>/trends.csv")
def save_trends_csv(name: str) -> Response:
    """The same days as a table to take along."""
    service().projects.get(name)
    return Response(as_csv(_trends(name, _span())), mimetype="text/csv")


@blueprint.get("/<name>/trends.json")
def save_trends_json(name: str) -> Response:
    """The same days in columns."""
    service().projects.get(name)
    return Response(msgspec.json.encode(_trends(name, _span())), mimetype="application/json")


_NOTICES: Final = {
    "rejected": "The commit will not be built.",
    "saved": "The settings are saved.",
    "unarchived": "The project takes pushes, images and runs again.",
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


def _list_heads(name: str, current: str, title: str, kinds: tuple[RefKind, ...]) -> Response:
    project = service().projects.get(name)
    text = request.args.get("text", "").strip()[:200]
    after = number_argument("after")
    found = heads_of(service().database, name, kinds, after=after, limit=_LIMIT, text=text)
    return page(
        "project_heads.html",
        **frame_of(project),
        **_of_heads(name, found),
        current=current,
        title=title,
        text=text,
        older=found[-1].run if len(found) == _LIMIT else None,
    )


def _of_heads(name: str, heads: list[Head]) -> dict[str, Any]:
    """What tables of branches and pull requests show."""
    branches = [head.name for head in heads if head.kind == "branch"]
    now = time.time()
    return {
        "heads": heads,
        "strips": branch_strips(service().database, name, branches, _SHORT) if branches else {},
        "draw_short": lambda strip: draw_strip(strip, now, places=_SHORT),
        "counts": count_heads(service().database, name),
    }


def _trends(name: str, span: int) -> Trends:
    today = int(time.time() // DAY_S)
    return columns(days(service().database, today - span + 1, projects=[name]), today, span)


def _span() -> int:
    wanted = number_argument("days")
    return wanted if wanted in SPANS else SPANS[0]


def _made(good: list[Run]) -> list[tuple[Run, str, str]]:
    """Images of the last runs that succeeded: run, name, and the address of its page; empty: it is elsewhere."""
    found: dict[str, tuple[Run, str, str]] = {}
    for run in good:
        for name in run.result.names if run.result else ():
            found.setdefault(name, (run, name, image_address(request.host, name)))
    return list(found.values())[:_GOOD]


def _is_connecting(project: Project, deliveries: list[Delivery]) -> bool:
    """Whether a forge is to say something, and no push of it was built yet."""
    return bool(project.hook.repository and project.has_webhook_secret) and not any(each.runs for each in deliveries)


def _connecting(project: Project, deliveries: list[Delivery]) -> dict[str, Any]:
    """The steps until the first push is built: state, what, and what else there is to say."""
    forge = _FORGES.get(project.hook.forge, "the forge")
    came = [each for each in deliveries if each.outcome != "refused"]
    refused = deliveries[0] if deliveries and deliveries[0].outcome == "refused" else None
    built = next((each for each in came if each.runs), None)
    last = came[0] if came else None
    address = f"{public_url(service())}/hooks/{project.name}"
    where = f"URL {address}; the secret was shown when it was made, the settings make another"
    if refused:
        heard = ("failed", f"{forge} called, and was refused", refused.reason)
    elif last:
        heard = ("succeeded", f"{forge} called: {last.event or 'a delivery'} received", "" if built else last.reason)
    else:
        heard = ("running", f"waiting for {forge} to call …", where)
    run = f"push received: run #{built.runs[0]}" if built else "push something to the repository"
    steps = [
        ("succeeded", "the webhook has a secret here", ""),
        heard,
        ("succeeded" if built else "running" if came else "waiting", run, ""),
    ]
    return {"forge": forge, "steps": steps}


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


def image_address(host: str, name: str) -> str:
    """Where the pages have an image of this name; empty for one of a registry elsewhere, and for no name."""
    try:
        reference = Reference.parse(name)
    except InvalidReferenceError:
        return ""
    if reference.domain not in {host, *service().registries()} or not reference.tag:
        return ""
    return f"/images/{reference.path}/-/{reference.tag}"
