"""Projects: settings, webhooks, deliveries, approvals, commit statuses, history."""

from __future__ import annotations

from typing import Annotated, Final, TypeAlias

import msgspec

from pipelines.changes import of_secret
from pipelines.hooks.approvals import Approval, ApprovalState
from pipelines.hooks.deliveries import Delivery
from pipelines.model import HookSettings, Project, Run
from pipelines.projects.defaultnames import Origin, all_names
from pipelines.projects.projects import MAX_WEIGHT
from pipelines.projects.tags import TagFacts
from pipelines.runs.history import Point, history
from pipelines.runs.jobtimes import times_of
from pipelines.statuses.outbox import SentStatus, list_statuses
from web.addresses import public_url
from web.calls import Call, Streamed
from web.endpoints import Api
from web.guard import note
from web.guard.rights import bounded, visible
from web.metrics import exposition_of
from web.views.names import Commit, ProjectName

api: Final = Api("projects")

Id: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=2**53)]
_NO_PROJECT: Final = {404: "There is no such project"}
_NOTHING: Final = {404: "There is no such thing in this project"}
_DECIDED: Final = {**_NOTHING, 409: "It was decided before, or is for another commit"}
_BODY_SHOWN: Final = 1 << 20


class ProjectList(msgspec.Struct, frozen=True):
    """By name."""

    projects: list[Project]


class ProjectQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which projects are listed.

    archived: archived ones, and no others.
    """

    archived: bool = False


class ProjectSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A project's settings.

    concurrency: how many runs at once, 0 is no limit.
    keep_runs, keep_days: retention, 0 keeps for ever.
    weight: of the project's share of the workers.
    keep_failed: whether what failed jobs left is kept for an hour, for a shell in it.
    """

    concurrency: Annotated[int, msgspec.Meta(ge=0, le=10_000)] = 0
    tag_template: Annotated[str, msgspec.Meta(min_length=1, max_length=500)] = Project("").tag_template
    keep_runs: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)] = 200
    keep_days: Annotated[int, msgspec.Meta(ge=0, le=100_000)] = 30
    hook: HookSettings = HookSettings()
    weight: Annotated[int, msgspec.Meta(ge=1, le=MAX_WEIGHT)] = 1
    keep_failed: bool = False


class WebhookSecret(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A webhook's secret.

    secret: one that the forge has already; without it a random one is made.
    """

    secret: Annotated[str, msgspec.Meta(max_length=500)] = ""


class Webhook(msgspec.Struct, frozen=True):
    """What the forge is to be given. secret: it is shown this once, and kept encrypted."""

    url: str
    secret: str


class StatusToken(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A token for marks at the forge.

    token: for the forge's API, to mark commits; empty forgets the stored one.
    """

    token: Annotated[str, msgspec.Meta(max_length=500)]


class PageQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which part of a list is wanted.

    before: only what has a smaller id.
    """

    before: Id | None = None
    limit: Annotated[int, msgspec.Meta(ge=1, le=300)] = 50


class DeliveryList(msgspec.Struct, frozen=True):
    """The newest first."""

    deliveries: list[Delivery]


class DeliveryDetails(msgspec.Struct, frozen=True):
    """A delivery with what was sent.

    headers: without secrets. body: its first megabyte as text; null for what was refused.
    """

    delivery: Delivery
    headers: dict[str, str]
    body: str | None


class ApprovalQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which approvals are listed.

    state: only those in it.
    """

    state: ApprovalState | None = None


class ApprovalList(msgspec.Struct, frozen=True):
    """The newest first."""

    approvals: list[Approval]


class Decision(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What somebody decided about a commit.

    commit: the one that was looked at, as the approval has it.
    """

    commit: Commit


class StatusList(msgspec.Struct, frozen=True):
    """The newest first."""

    statuses: list[SentStatus]


class HistoryQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which runs count for the figures.

    branch: only its runs.
    """

    branch: Annotated[str, msgspec.Meta(max_length=255)] | None = None
    limit: Annotated[int, msgspec.Meta(ge=1, le=500)] = 60


class History(msgspec.Struct, frozen=True):
    """Runs that ended, the oldest first."""

    runs: list[Point]


class TemplateQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A template of names that is to be tried.

    template: of names; the other members stand for a run's. default: whether the branch is the default one.
    """

    template: Annotated[str, msgspec.Meta(max_length=500)]
    branch: Annotated[str, msgspec.Meta(max_length=255)] = ""
    tag: Annotated[str, msgspec.Meta(max_length=255)] = ""
    commit: Annotated[str, msgspec.Meta(max_length=64)] = ""
    default: bool = False


class ImageNames(msgspec.Struct, frozen=True):
    """What an image would be called."""

    names: list[str]


@api.endpoint("GET", "/projects", scope="read")
def list_projects(call: Call, query: ProjectQuery) -> ProjectList:
    """List projects: those that are not archived, or only archived ones."""
    seen = visible(call.rights)
    found = (each for each in call.service.projects.list() if (each.archived_at is not None) == query.archived)
    return ProjectList([each for each in found if seen is None or each.name in seen])


@api.endpoint("GET", "/projects/{project}", scope="read", errors=_NO_PROJECT)
def show_project(call: Call, project: ProjectName) -> Project:
    """Show a project."""
    return call.service.projects.get(project)


@api.endpoint("PUT", "/projects/{project}", scope="maintain")
def put_project(call: Call, project: ProjectName, body: ProjectSettings) -> Project:
    """Set up a project, or change all of its settings.

    The webhook's secret and the token for statuses are not among these: they stay as they are. Concurrency and weight
    also stay, unless an administrator of the service sends them. Only such an administrator sets a project up.
    """
    settings = Project(
        project, body.concurrency, body.tag_template, body.keep_runs, body.keep_days, body.hook,
        weight=body.weight, keep_failed=body.keep_failed,
    )  # fmt: skip
    changes = call.service.projects.put(bounded(call.service, call.rights, settings))
    note(call.service, "put project", f"project={project}", actor=call.actor, changes=changes)
    return call.service.projects.get(project)


@api.endpoint(
    "DELETE", "/projects/{project}", scope="admin", status=204,
    errors={**_NO_PROJECT, 409: "A run of it has not ended"},
)  # fmt: skip
def delete_project(call: Call, project: ProjectName) -> None:
    """Delete a project with its runs, logs, deliveries and secrets."""
    call.service.projects.remove(project)


@api.endpoint(
    "PUT", "/projects/{project}/archive", scope="maintain", errors={**_NO_PROJECT, 409: "A run of it has not ended"}
)
def archive_project(call: Call, project: ProjectName) -> Project:
    """Archive a project: it takes no pushes, no images and no runs, and stands in no list of projects.

    Its runs and images stay readable. It may be archived already.
    """
    call.service.projects.archive(project)
    note(call.service, "archive project", f"project={project}", actor=call.actor)
    return call.service.projects.get(project)


@api.endpoint("DELETE", "/projects/{project}/archive", scope="maintain", errors=_NO_PROJECT)
def unarchive_project(call: Call, project: ProjectName) -> Project:
    """Make an archived project one like others again. It need not be archived."""
    call.service.projects.unarchive(project)
    note(call.service, "unarchive project", f"project={project}", actor=call.actor)
    return call.service.projects.get(project)


@api.endpoint("POST", "/projects/{project}/webhook", scope="maintain", status=201, errors=_NO_PROJECT)
def create_webhook(call: Call, project: ProjectName, body: WebhookSecret) -> Webhook:
    """Give the project's webhook a new secret. An earlier one opens nothing any more."""
    had = call.service.projects.get(project).has_webhook_secret
    secret = call.service.projects.set_webhook_secret(project, body.secret)
    changes = of_secret("webhook secret", had=had, has=True)
    note(call.service, "create webhook", f"project={project}", actor=call.actor, changes=changes)
    return Webhook(f"{public_url(call.service)}/hooks/{project}", secret)


@api.endpoint("PUT", "/projects/{project}/status-token", scope="maintain", status=204, errors=_NO_PROJECT)
def put_status_token(call: Call, project: ProjectName, body: StatusToken) -> None:
    """Store the token with which commits are marked at the forge. It is encrypted, and never shown."""
    had = call.service.projects.get(project).has_status_token
    call.service.projects.set_status_token(project, body.token)
    changes = of_secret("status token", had=had, has=bool(body.token))
    note(call.service, "put status token", f"project={project}", actor=call.actor, changes=changes)


@api.endpoint("GET", "/projects/{project}/deliveries", scope="read", errors=_NO_PROJECT)
def list_deliveries(call: Call, project: ProjectName, query: PageQuery) -> DeliveryList:
    """List what the forge sent, and what came of it."""
    name = call.service.projects.get(project).name
    return DeliveryList(list(call.service.deliveries.list(name, before=query.before, limit=query.limit)))


@api.endpoint("GET", "/projects/{project}/deliveries/{delivery}", scope="build", errors=_NOTHING)
def show_delivery(call: Call, project: ProjectName, delivery: Id) -> DeliveryDetails:
    """Show a delivery with its headers and body."""
    found = call.service.deliveries.get(project, delivery)
    body = None if found.body is None else found.body[:_BODY_SHOWN].decode("utf-8", "replace")
    return DeliveryDetails(found.delivery, found.headers, body)


@api.endpoint(
    "POST", "/projects/{project}/deliveries/{delivery}/redeliver", scope="build", status=201,
    errors={**_NOTHING, 409: "It was refused, and its body not kept"},
)  # fmt: skip
def redeliver(call: Call, project: ProjectName, delivery: Id) -> Delivery:
    """Act on a delivery once more, by the settings of now."""
    return call.service.receiver.redeliver(project, delivery)


@api.endpoint("GET", "/projects/{project}/approvals", scope="read", errors=_NO_PROJECT)
def list_approvals(call: Call, project: ProjectName, query: ApprovalQuery) -> ApprovalList:
    """List the commits of pull requests from forks, and what was decided about them."""
    name = call.service.projects.get(project).name
    return ApprovalList(list(call.service.approvals.list(name, state=query.state)))


@api.endpoint("POST", "/projects/{project}/approvals/{approval}/approve", scope="build", status=201, errors=_DECIDED)
def approve(call: Call, project: ProjectName, approval: Id, body: Decision) -> Run:
    """Build a commit of a fork: this one, and none that comes after it."""
    return call.service.approvals.approve(project, approval, body.commit, call.actor)


@api.endpoint("POST", "/projects/{project}/approvals/{approval}/reject", scope="build", status=204, errors=_DECIDED)
def reject(call: Call, project: ProjectName, approval: Id, body: Decision) -> None:
    """Do not build a commit of a fork."""
    call.service.approvals.reject(project, approval, body.commit, call.actor)


@api.endpoint("GET", "/projects/{project}/statuses", scope="read", errors=_NO_PROJECT)
def list_commit_statuses(call: Call, project: ProjectName) -> StatusList:
    """List the statuses of commits that the forge has got, or is to get."""
    return StatusList(list_statuses(call.service.database, call.service.projects.get(project).name))


@api.endpoint("GET", "/projects/{project}/history", scope="read", errors=_NO_PROJECT)
def show_history(call: Call, project: ProjectName, query: HistoryQuery) -> History:
    """Show how long the project's runs took, and what the cache answered."""
    name = call.service.projects.get(project).name
    return History(history(call.service.database, name, branch=query.branch, limit=query.limit))


@api.endpoint(
    "GET", "/projects/{project}/metrics", scope="read", media="text/plain; version=0.0.4; charset=utf-8",
    errors=_NO_PROJECT,
)  # fmt: skip
def read_project_metrics(call: Call, project: ProjectName) -> Streamed:
    """Read how long the project's jobs waited and took, as histograms by pipeline and job, for Prometheus.

    Each job counts when it ends by itself, and stays counted; a fork's does not count. All of a matrix is one; of more
    than 200 jobs those that came later are counted together, without names.
    """
    name = call.service.projects.get(project).name
    return Streamed(iter([exposition_of(times_of(call.service.database, name))]))


@api.endpoint("GET", "/projects/{project}/image-names", scope="read")
def preview_names(call: Call, project: ProjectName, query: TemplateQuery) -> ImageNames:
    """Show what a tag template makes of a run. The project need not exist."""
    registry = call.service.settings.registry or "registry.example"
    facts = TagFacts(project, 1, registry, query.branch, query.tag, query.commit)
    origin = Origin(query.branch, query.default, query.tag, commit=query.commit)
    return ImageNames([name.familiar for name in all_names(query.template, facts, origin)])
