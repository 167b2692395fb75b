"""Making a project and changing it: repository, filters, secrets, tokens, members. For its maintainers."""

from __future__ import annotations

from typing import Any, Final

from flask import Blueprint, g, redirect, request
from werkzeug.wrappers import Response

from core.errors import ShiplapError
from pipelines.accounts.roles import PROJECT_ROLES, ProjectRole
from pipelines.errors import ConflictError, InvalidRequestError, NotFoundError
from pipelines.model import HookSettings, Project
from pipelines.owning.policies import SILENT, Policy
from pipelines.owning.policies import told as policy_told
from pipelines.projects.defaultnames import Origin, all_names
from pipelines.projects.tags import TagFacts
from web.addresses import public_url
from web.backing import service
from web.guard import note, require
from web.guard.rights import bounded
from web.pages.frame import page, told
from web.pages.projects import frame_of
from web.pages.projects_forms import as_given, policy_of, project_of, shown

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
@require("maintainer")
def settings(name: str) -> Response:
    """The form."""
    project = service().projects.get(name)
    return _form(project, shown(project), notice=_NOTICES.get(request.args.get("done", "")))


@blueprint.post("/<name>/settings")
@require("maintainer")
def save(name: str) -> Response:
    """Change all settings."""
    project = service().projects.get(name)
    try:
        service().projects.put(bounded(service(), g.rights, project_of(name, request.form)))
    except ShiplapError as error:
        return _form(project, as_given(request.form), 422, error=told(error))
    return redirect(f"/projects/{name}/settings?done=saved", 303)


@blueprint.get("/<name>/names")
@require("maintainer")
def preview_names(name: str) -> Response:
    """A part of the form: the names that the tag template gives for some runs."""
    return page("project_names.html", **_names(name, request.args.get("tag_template", "")))


@blueprint.post("/<name>/webhook")
@require("maintainer")
def renew_secret(name: str) -> Response:
    """Give the webhook another secret: the one that was typed in, or a new one."""
    try:
        secret = service().projects.set_webhook_secret(name, request.form.get("secret", "").strip())
    except InvalidRequestError as error:
        project = service().projects.get(name)
        return _form(project, shown(project), 422, error=told(error))
    return _connected(name, secret)


@blueprint.post("/<name>/status-token")
@require("maintainer")
def set_status_token(name: str) -> Response:
    """Store the token for statuses, or forget it."""
    token = "" if "forget" in request.form else request.form.get("token", "").strip()
    try:
        service().projects.set_status_token(name, token)
    except InvalidRequestError as error:
        project = service().projects.get(name)
        return _form(project, shown(project), 422, error=told(error))
    return redirect(f"/projects/{name}/settings?done={'token' if token else 'no-token'}#statuses", 303)


@blueprint.post("/<name>/secrets")
@require("maintainer")
def put_secret(name: str) -> Response:
    """Store a secret of the project."""
    project = service().projects.get(name)
    try:
        value = request.form.get("value", "").replace("\r\n", "\n")
        secret, policy = request.form.get("secret", "").strip(), policy_of(request.form)
        kept = None if policy == SILENT else policy  # of one that is replaced
        service().secrets.put(secret, value.encode(), project=name, policy=kept)
    except InvalidRequestError as error:
        return _form(project, shown(project), 422, error=told(error))
    if kept is not None:
        _note_policy(name, secret, kept)
    return redirect(f"/projects/{name}/settings?done=secret#secrets", 303)


@blueprint.post("/<name>/secret-policy")
@require("maintainer")
def set_policy(name: str) -> Response:
    """Say which runs get a secret of the project."""
    project = service().projects.get(name)
    try:
        secret, policy = request.form.get("secret", "").strip(), policy_of(request.form)
        service().secrets.set_policy(secret, policy, project=name)
    except (InvalidRequestError, NotFoundError) as error:
        return _form(project, shown(project), 422, error=told(error))
    _note_policy(name, secret, policy)
    return redirect(f"/projects/{name}/settings?done=policy#secrets", 303)


@blueprint.post("/<name>/secrets/<secret>/delete")
@require("maintainer")
def delete_secret(name: str, secret: str) -> Response:
    """Forget a secret of the project."""
    service().secrets.delete(secret, project=name)
    return redirect(f"/projects/{name}/settings?done=no-secret#secrets", 303)


def _note_policy(project: str, secret: str, policy: Policy) -> None:
    note(service(), "set secret policy", f"project={project} secret={secret}", f"for {policy_told(policy)}")


@blueprint.post("/<name>/members")
@require("maintainer")
def set_member(name: str) -> Response:
    """Give a user a role in the project."""
    project = service().projects.get(name)
    subject, role = request.form.get("subject", "").strip(), _role(request.form.get("role", ""))
    try:
        service().roles.set(name, "user", subject, role)
    except NotFoundError as error:
        return _form(project, shown(project), 422, error=told(error))
    note(service(), "set member", f"project={name} user={subject}", role)
    return redirect(f"/projects/{name}/settings?done=member#access", 303)


@blueprint.post("/<name>/members/remove")
@require("maintainer")
def remove_member(name: str) -> Response:
    """Take a role away. A token without another role may then do nothing."""
    kind, subject = request.form.get("kind", ""), request.form.get("subject", "")
    service().roles.remove(name, "token" if kind == "token" else "user", subject)
    note(service(), "remove member", f"project={name} {kind}={subject}")
    return redirect(f"/projects/{name}/settings?done=no-member#access", 303)


@blueprint.post("/<name>/tokens")
@require("maintainer")
def create_token(name: str) -> Response:
    """Make a robot's token for this project, and show it this once."""
    project, role = service().projects.get(name), _role(request.form.get("role", ""))
    try:
        token, secret = service().roles.create_token(name, request.form.get("name", "").strip(), role)
    except InvalidRequestError as error:
        return _form(project, shown(project), 422, error=told(error))
    note(service(), "create token", f"project={name} token={token.id}", f"{token.name}: {role}")
    answer = _form(project, shown(project), 201, token_secret=secret, token_name=token.name)
    answer.headers["Cache-Control"] = "no-store"
    return answer


@blueprint.post("/<name>/remove")
@require("admin")
def remove(name: str) -> Response:
    """Remove the project with all its runs."""
    project = service().projects.get(name)
    try:
        service().projects.remove(name)
    except ConflictError as error:
        return _form(project, shown(project), 409, error=told(error))
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


def _form(project: Project, values: dict[str, Any], status: int = 200, **more: Any) -> Response:
    answer = page(
        "project_settings.html",
        **frame_of(project),
        **_names(project.name, values["tag_template"]),
        values=values,
        secrets=service().secrets.list(project=project.name),
        members=service().roles.members(project.name),
        grants=service().grants.list(project=project.name),
        policy_told=policy_told,
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
