"""The first steps in a new service: a repository to push to, or a token to build with; each with its commands."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit, urlunsplit

from flask import Blueprint, Response, g, request

from core.errors import ShiplapError
from pipelines.accounts.users import User
from pipelines.addresses import listening_url
from pipelines.bare.making import install_hook, make_repository, repository_path
from pipelines.errors import ConflictError
from pipelines.model import HookSettings, Project
from web.addresses import public_url
from web.backing import service
from web.guard import note, require
from web.pages.frame import page, told

blueprint: Final = Blueprint("start_pages", __name__, url_prefix="/start")

_DAYS: Final = 30
_DAY_S: Final = 86400.0


@blueprint.post("/repository")
@require("admin")
def make_bare() -> Response:
    """Make a project with a bare repository here, and a token to push with, which is shown only now."""
    name = request.form.get("name", "").strip()
    try:
        if any(project.name == name for project in service().projects.list()):
            raise ConflictError(f"there is a project {name} already", hint="choose another name")
        _make(name)
    except ShiplapError as error:
        response = page("start.html", kind="repository", name=name, error=told(error))
        response.status_code = 422
        return response
    note(service(), "create project", f"project={name}", "with a bare repository")
    return _made("repository", name)


@blueprint.post("/token")
@require("member")
def make_token() -> Response:
    """Make a token to build with from elsewhere, which is shown only now."""
    return _made("token", "")


def _make(name: str) -> None:
    root = service().settings.root
    hook = HookSettings(repository=f"file://{repository_path(root, name)}", forge="plain")
    service().projects.put(Project(name, hook=hook))  # which checks the name
    try:
        repository = make_repository(root, name)
        secret = service().projects.set_webhook_secret(name)
        install_hook(repository, f"{listening_url(root) or public_url(service())}/hooks/{name}", secret)
    except (ShiplapError, OSError):
        service().projects.remove(name)  # so that it can be tried again
        raise


def _made(kind: str, name: str) -> Response:
    user: User = g.user
    token, secret = service().tokens.create(
        f"first push to {name}" if name else "first build", ("build",), _DAYS * _DAY_S, owner=user.name
    )
    note(service(), "create token", f"token={token.id}", f"{token.name}: build")
    parts = urlsplit(public_url(service()))
    push = urlunsplit(parts._replace(netloc=f"{user.name}@{parts.netloc}", path=f"/git/{name}.git"))
    response = page(
        "start.html", kind=kind, name=name, secret=secret, push=push, address=public_url(service()), days=_DAYS
    )
    response.status_code = 201
    return response
