"""Users: the list, their roles, and links for users without a password."""

from __future__ import annotations

from typing import Final

from flask import Blueprint, Response, redirect, render_template, request
from werkzeug.wrappers import Response as AnyResponse

from pipelines.accounts.users import ROLES, Role
from pipelines.errors import ConflictError, InvalidRequestError
from web.backing import service
from web.guard import note, require
from web.guard.links import welcome_url
from web.pages.frame import told

blueprint: Final = Blueprint("users", __name__, url_prefix="/users")

_DONE: Final = {
    "role": "The role is changed.",
    "disabled": "The user is disabled: all sessions have ended, tokens are refused.",
    "enabled": "The user is enabled.",
    "sessions": "All sessions of the user have ended.",
}


@blueprint.get("")
@require("admin")
def list_users() -> Response:
    """All users, the disabled ones too."""
    return _page()


@blueprint.post("")
@require("admin")
def create_user() -> Response:
    """Make a user, and a link by which to choose a password, which is shown this once."""
    name, role = request.form.get("name", ""), request.form.get("role", "")
    try:
        user = service().users.create(name, _role(role))
    except (InvalidRequestError, ConflictError) as error:
        return _page(422, error=told(error), name=name, role=role)
    note(service(), "create user", user.name, f"role {user.role}")
    return _page(201, link=welcome_url(service(), user.name), link_for=user.name)


@blueprint.post("/<name>/role")
@require("admin")
def set_role(name: str) -> AnyResponse:
    """Give a user another role."""
    role = _role(request.form.get("role", ""))
    changes = service().users.set_role(name, role)
    note(service(), "set role", name, role, changes=changes)
    return redirect("/users?done=role", 303)


@blueprint.post("/<name>/disable")
@require("admin")
def disable_user(name: str) -> AnyResponse:
    """Close the user's every way in."""
    changes = service().users.set_disabled(name, True)
    note(service(), "disable user", name, changes=changes)
    return redirect("/users?done=disabled", 303)


@blueprint.post("/<name>/enable")
@require("admin")
def enable_user(name: str) -> AnyResponse:
    """Let a user in again."""
    changes = service().users.set_disabled(name, False)
    note(service(), "enable user", name, changes=changes)
    return redirect("/users?done=enabled", 303)


@blueprint.post("/<name>/end-sessions")
@require("admin")
def end_sessions(name: str) -> AnyResponse:
    """Sign a user out everywhere."""
    service().sessions.end_all(service().users.get(name).name)
    return redirect("/users?done=sessions", 303)


@blueprint.post("/<name>/link")
@require("admin")
def create_link(name: str) -> Response:
    """Make a link by which the user chooses a new password, which is shown this once."""
    link = welcome_url(service(), name)
    note(service(), "create sign-in link", name)
    return _page(201, link=link, link_for=name)


def _role(text: str) -> Role:
    if text not in ROLES:
        raise InvalidRequestError(f"there is no role {text[:40]!r}", hint=f"one of {', '.join(ROLES)}")
    return text


def _page(status: int = 200, **more: str) -> Response:
    text = render_template(
        "users.html",
        users=service().users.list(),
        roles=ROLES,
        notice=_DONE.get(request.args.get("done", "")),
        **more,
    )
    return Response(text, status)
