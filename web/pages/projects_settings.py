"""Making a project and changing it: repository, filters, secrets, tokens, members. For its maintainers."""

from __future__ import annotations

from typing import Any, Final

from flask import Blueprint, g, redirect, request
from werkzeug.wrappers import Response

from core.errors import ShiplapError
from pipelines.accounts.roles import PROJECT_ROLES, ProjectRole
from pipelines.changes import of_secret
from pipelines.errors import ConflictError, InvalidRequestError, NotFoundError
from pipelines.model import HookSettings, Project
from pipelines.owning.policies import SILENT
from pipelines.owning.policies import told as policy_told
from pipelines.projects.defaultnames import Origin, all_names
from pipelines.projects.tags import TagFacts
from web.addresses import public_url
from web.backing import service
from web.guard import note, require
from web.guard.rights import bounded
from web.pages.frame import page, told
from web.pages.projects import frame_of
from web.pages.projects_forms import SECTIONS, as_given, policy_of, project_of, section_of, shown, with_section

blueprint: Final = Blueprint("project_settings", __name__, url_prefix="/projects")

_NOTICES: Final = {
    "saved": "The settings are saved.",
    "token": "The token is stored: commits of new runs are marked.",
    "no-token": "The token is forgotten: commits are marked no more.",
    "secret": "The secret is stored.",
    "no-secret": "The secret is deleted.",
    "policy": "The secret is for other runs from now on.",
    "member": "The role is given.",
    "no-member": "The role is taken away.",
}


@blueprint.get("/-/new")
@require("admin")
def new_project() -> Response:
    """Ask for a name and a repository."""
    return _connect(200)


@blueprint.post("/-/new")
@require("admin")
def create_project() -> Response:
    """Make the project and its webhook, and show the values that the forge needs."""
    name, repository = request.form.get("name", "").strip(), request.form.get("repository", "").strip()
    try:
        if any(project.name == name for project in service().projects.list()):
            raise ConflictError(f"there is a project {name} already")
        if not repository:
            raise InvalidRequestError("a webhook needs the repository's URL")
        hook = HookSettings(repository=repository, forge=request.form.get("forge", ""))  # type: ignore[arg-type]  # project_of checks it
        service().projects.put(project_of(name, {**shown(Project(name, hook=hook)), "cancel_superseded": "1"}))
        secret = service().projects.set_webhook_secret(name, request.form.get("secret", "").strip())
    except (ConflictError, InvalidRequestError) as error:
        return _connect(422, error=told(error), **request.form)
    note(service(), "create project", f"project={name}", repository)
    return _connected(name, secret)


@blueprint.get("/<name>/settings")
@blueprint.get("/<name>/settings/<section>")
@require("maintainer")
def settings(name: str, section: str = "general") -> Response:
    """A section of the settings."""
    project = service().projects.get(name)
    return _form(project, section, notice=_NOTICES.get(request.args.get("done", "")))


@blueprint.post("/<name>/settings/<section>")
@require("maintainer")
def save(name: str, section: str) -> Response:
    """Change the settings of a section."""
    project, wanted = service().projects.get(name), section_of(section)
    if not wanted.members:
        raise InvalidRequestError(f"section {section} has no form of settings")
    try:
        chosen = bounded(service(), g.rights, with_section(project, wanted, request.form))
        changes = service().projects.put(chosen, seen=project)
    except ShiplapError as error:
        return _form(project, section, 422, error=told(error), values=as_given(project, wanted, request.form))
    note(service(), "change settings", f"project={name}", wanted.title, changes=changes)
    return redirect(f"/projects/{name}/settings/{section}?done=saved", 303)


@blueprint.get("/<name>/names")
@require("maintainer")
def preview_names(name: str) -> Response:
    """A part of the form: the names that the tag template gives for some runs."""
    return page("project_names.html", **_names(name, request.args.get("tag_template", "")))


@blueprint.post("/<name>/webhook")
@require("maintainer")
def renew_secret(name: str) -> Response:
    """Give the webhook another secret: the one that was typed in, or a new one."""
    project = service().projects.get(name)
    try:
        secret = service().projects.set_webhook_secret(name, request.form.get("secret", "").strip())
    except InvalidRequestError as error:
        return _form(project, "webhook", 422, error=told(error))
    changes = of_secret("webhook secret", had=project.has_webhook_secret, has=True)
    note(service(), "renew webhook secret", f"project={name}", changes=changes)
    return _connected(name, secret)


@blueprint.post("/<name>/status-token")
@require("maintainer")
def set_status_token(name: str) -> Response:
    """Store the token for statuses, or forget it."""
    project = service().projects.get(name)
    token = "" if "forget" in request.form else request.form.get("token", "").strip()
    try:
        service().projects.set_status_token(name, token)
    except InvalidRequestError as error:
        return _form(project, "webhook", 422, error=told(error))
    changes = of_secret("status token", had=project.has_status_token, has=bool(token))
    note(service(), "set status token", f"project={name}", changes=changes)
    return redirect(f"/projects/{name}/settings/webhook?done={'token' if token else 'no-token'}#statuses", 303)


@blueprint.post("/<name>/secrets")
@require("maintainer")
def put_secret(name: str) -> Response:
    """Store a secret of the project."""
    project = service().projects.get(name)
    try:
        value = request.form.get("value", "").replace("\r\n", "\n")
        secret, policy = request.form.get("secret", "").strip(), policy_of(request.form)
        kept = None if policy == SILENT else policy  # of one that is replaced
        changes = service().secrets.put(secret, value.encode(), project=name, policy=kept)
    except InvalidRequestError as error:
        return _form(project, "secrets", 422, error=told(error))
    detail = "" if kept is None else f"for {policy_told(kept)}"
    note(service(), "put secret", f"project={name} secret={secret}", detail, changes=changes)
    return redirect(f"/projects/{name}/settings/secrets?done=secret", 303)


@blueprint.post("/<name>/secret-policy")
@require("maintainer")
def set_policy(name: str) -> Response:
    """Say which runs get a secret of the project."""
    project = service().projects.get(name)
    try:
        secret, policy = request.form.get("secret", "").strip(), policy_of(request.form)
        changes = service().secrets.set_policy(secret, policy, project=name)
    except (InvalidRequestError, NotFoundError) as error:
        return _form(project, "secrets", 422, error=told(error))
    what = f"project={name} secret={secret}"
    note(service(), "set secret policy", what, f"for {policy_told(policy)}", changes=changes)
    return redirect(f"/projects/{name}/settings/secrets?done=policy", 303)


@blueprint.post("/<name>/secrets/<secret>/delete")
@require("maintainer")
def delete_secret(name: str, secret: str) -> Response:
    """Forget a secret of the project."""
    service().secrets.delete(secret, project=name)
    note(service(), "delete secret", f"project={name} secret={secret}", changes=of_secret("value", had=True, has=False))
    return redirect(f"/projects/{name}/settings/secrets?done=no-secret", 303)


@blueprint.post("/<name>/members")
@require("maintainer")
def set_member(name: str) -> Response:
    """Give a user a role in the project."""
    project = service().projects.get(name)
    subject, role = request.form.get("subject", "").strip(), _role(request.form.get("role", ""))
    try:
        changes = service().roles.set(name, "user", subject, role)
    except NotFoundError as error:
        return _form(project, "access", 422, error=told(error))
    note(service(), "set member", f"project={name} user={subject}", role, changes=changes)
    return redirect(f"/projects/{name}/settings/access?done=member", 303)


@blueprint.post("/<name>/members/remove")
@require("maintainer")
def remove_member(name: str) -> Response:
    """Take a role away. A token without another role may then do nothing."""
    kind, subject = request.form.get("kind", ""), request.form.get("subject", "")
    changes = service().roles.remove(name, "token" if kind == "token" else "user", subject)
    note(service(), "remove member", f"project={name} {kind}={subject}", changes=changes)
    return redirect(f"/projects/{name}/settings/access?done=no-member", 303)


@blueprint.post("/<name>/tokens")
@require("maintainer")
def create_token(name: str) -> Response:
    """Make a robot's token for this project, and show it this once."""
    project, role = service().projects.get(name), _role(request.form.get("role", ""))
    try:
        token, secret = service().roles.create_token(name, request.form.get("name", "").strip(), role)
    except InvalidRequestError as error:
        return _form(project, "access", 422, error=told(error))
    note(service(), "create token", f"project={name} token={token.id}", f"{token.name}: {role}")
    answer = _form(project, "access", 201, token_secret=secret, token_name=token.name)
    answer.headers["Cache-Control"] = "no-store"
    return answer


@blueprint.post("/<name>/archive")
@require("maintainer")
def archive(name: str) -> Response:
    """Take nothing new for the project, and have it in no list of projects."""
    project = service().projects.get(name)
    try:
        service().projects.archive(name)
    except ConflictError as error:
        return _form(project, "danger", 409, error=told(error))
    note(service(), "archive project", f"project={name}")
    return redirect(f"/projects/{name}", 303)


@blueprint.post("/<name>/unarchive")
@require("maintainer")
def unarchive(name: str) -> Response:
    """Make an archived project one like others again."""
    service().projects.unarchive(name)
    note(service(), "unarchive project", f"project={name}")
    return redirect(f"/projects/{name}?done=unarchived", 303)


@blueprint.post("/<name>/remove")
@require("admin")
def remove(name: str) -> Response:
    """Remove the project with all its runs. The form has its name, typed by whoever means it."""
    project = service().projects.get(name)
    if request.form.get("typed", "").strip() != name:
        return _form(project, "danger", 422, error=f"nothing was removed: type {name} into the field to remove it")
    try:
        service().projects.remove(name)
    except ConflictError as error:
        return _form(project, "danger", 409, error=told(error))
    return redirect("/projects", 303)


def _role(text: str) -> ProjectRole:
    if text not in PROJECT_ROLES:
        raise InvalidRequestError(f"there is no role {text[:40]!r}", hint=f"one of {', '.join(PROJECT_ROLES)}")
    return text


def _connect(status: int, **given: str) -> Response:
    forges = frame_of(Project(""))["forges"]
    answer = page("project_new.html", forges=forges, given=given, error=given.get("error", ""))
    answer.status_code = status
    return answer


def _connected(name: str, secret: str) -> Response:
    """The values that the forge needs. The secret is shown this once."""
    project = service().projects.get(name)
    answer = page(
        "project_connected.html", **frame_of(project), secret=secret, url=f"{public_url(service())}/hooks/{name}"
    )
    answer.headers["Cache-Control"] = "no-store"
    return answer


def _form(
    project: Project, section: str, status: int = 200, *, values: dict[str, Any] | None = None, **more: Any
) -> Response:
    """The page of a section. values: of its form, where they are not as the project has them."""
    shows = section_of(section).name
    given = values or shown(project)
    if shows == "tags":
        more |= _names(project.name, given["tag_template"])
    elif shows == "secrets":
        more["secrets"] = service().secrets.list(project=project.name)
        more["grants"] = service().grants.list(project=project.name)
        more["policy_told"] = policy_told
    elif shows == "access":
        more["members"] = service().roles.members(project.name)
    answer = page(
        "project_settings.html",
        **frame_of(project),
        sections=SECTIONS,
        shows=shows,
        values=given,
        is_changed=values is not None,
        hook_url=f"{public_url(service())}/hooks/{project.name}",
        **more,
    )
    answer.status_code = status
    return answer


def _names(name: str, template: str) -> dict[str, Any]:
    """(what is pushed, names of its image) pairs, or why there are none."""
    registry = service().settings.registry or request.host
    runs = (
        ("a push to main", TagFacts(name, 12, registry, branch="main", commit="4f2d9c81a07be2")),
        ("a push to feature/login", TagFacts(name, 13, registry, branch="feature/login", commit="91b0d3375c6faa")),
        ("the tag v1.2.3", TagFacts(name, 14, registry, tag="v1.2.3", commit="4f2d9c81a07be2")),
    )
    try:
        found = [(what, [name.familiar for name in all_names(template, each, _origin(each))]) for what, each in runs]
    except InvalidRequestError as error:
        return {"names": (), "names_error": told(error)}
    return {"names": found, "names_error": ""}


def _origin(facts: TagFacts) -> Origin:
    return Origin(facts.branch, facts.branch == "main", facts.tag, commit=facts.commit)
