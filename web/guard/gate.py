"""The hook before every page: checks who asks, whether their role is enough, and whether the form is ours."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, TypeVar, cast
from urllib.parse import quote, urlsplit, urlunsplit

from flask import Flask, Response, g, redirect, request

from pipelines.accounts.roles import Level
from pipelines.accounts.users import User
from registry.server.listening.vouching import vouch
from web.backing import service
from web.errors import ForbiddenError
from web.guard import cookies
from web.guard.csrf import check_csrf, csrf_token
from web.guard.notes import note_action
from web.guard.rights import Target, check, may, may_run

if TYPE_CHECKING:
    from pipelines.service import Service

Need: TypeAlias = Literal["guest", "viewer", "member", "maintainer", "admin"]
View = TypeVar("View", bound=Callable[..., Any])
SAFE: Final = ("GET", "HEAD", "OPTIONS")

_OF_PROJECTS: Final = ("projects", "project_settings", "project_report_pages", "project_output_pages", "commit_pages")
_OF_RUNS: Final = (
    "run_pages", "run_job_pages", "run_report_pages", "run_output_pages", "run_compare_pages", "run_shell_pages",
)  # fmt: skip
_required: Final[dict[Callable[..., Any], Need | None]] = {}
_LEVELS: Final[dict[Need, Level]] = {
    "guest": "read", "viewer": "read", "member": "build", "maintainer": "maintain", "admin": "admin",
}  # fmt: skip


def require(role: Need) -> Callable[[View], View]:
    """Mark a view: for users with the rights of ``role``; in the address's project, if the address has one.

    guest: users who may read that project; without a project, everybody who is signed in.
    maintainer: users who maintain the project.
    """

    def mark(view: View) -> View:
        _required[view] = role
        return view

    return mark


def public(view: View) -> View:
    """Mark a view: for everybody, signed in or not."""
    _required[view] = None
    return view


def required_role(view: Callable[..., Any]) -> Need | None:
    """The role that the hook asks for; None: no particular one."""
    return _required.get(view, "guest")


def target_of(blueprint: str | None, arguments: Mapping[str, Any]) -> Target:
    """The target of a page: what it is about."""
    if blueprint in _OF_PROJECTS:
        return Target(project=arguments.get("name", ""))
    return Target(
        run=arguments.get("number", 0) if blueprint in _OF_RUNS else 0, repository=arguments.get("repository", "")
    )


def current_user() -> User | None:
    """The user of the request's session, looked up once a request; None without a valid session."""
    if "user" not in g:
        text = cookies.session_text()
        found = service().sessions.find(text) if text else None
        g.session, g.user = found if found is not None else (None, None)
        if found is not None:
            vouch()
    user: User | None = g.user
    return user


def install(app: Flask, service: Service, pages: Collection[str]) -> None:
    """Guard the blueprints named ``pages``, and give templates ``csrf_token()``."""
    app.jinja_env.globals["csrf_token"] = csrf_token
    app.jinja_env.globals.update(may=may, may_run=may_run)

    @app.before_request
    def guard() -> Response | None:
        if request.routing_exception is not None:  # no such page: users who are signed in keep the navigation there
            lost = current_user()
            g.rights = service.roles.of_user(lost) if lost is not None else None
            return None
        if request.blueprint not in pages or request.endpoint is None:
            return None
        user = current_user()
        role = required_role(app.view_functions[request.endpoint])
        if role is not None and user is None:
            return _ask_to_sign_in()
        if request.method not in SAFE:
            check_csrf(in_session=user is not None)
        if role is not None and user is not None:
            _check_role(service, user, role)
        return None

    @app.after_request
    def note(response: Response) -> Response:
        if request.blueprint in pages:
            if request.method not in SAFE:
                note_action(service, response)
            cookies.send_visit(response)
        return response


def _check_role(service: Service, user: User, role: Need) -> None:
    rights = g.rights = service.roles.of_user(user)
    target = target_of(request.blueprint, request.view_args or {})
    if target == Target():
        enough = role == "guest" or (
            rights.may_somewhere("maintain") if role == "maintainer" else rights.may_everywhere(_LEVELS[role])
        )
        if not enough:
            raise ForbiddenError(
                f"this is for users with the role {role}; {user.name} has the role {user.role}",
                hint="an administrator can change it",
            )
        return
    check(service, rights, _LEVELS[role], target)


def _ask_to_sign_in() -> Response:
    if request.headers.get("HX-Request") == "true":  # a part of a page: the whole page goes there, and comes back
        page = _path_of(request.headers.get("HX-Current-URL", ""))
        return Response(status=401, headers={"HX-Redirect": _sign_in_page(page)})
    # A request of another method is lost, and must not be repeated by itself.
    page = request.full_path.rstrip("?") if request.method in SAFE else ""
    return cast(Response, redirect(_sign_in_page(page), 303))


def _path_of(address: str) -> str:
    """The address without scheme and host; empty for a text that is no URL."""
    try:
        parts = urlsplit(address)
    except ValueError:
        return ""
    return urlunsplit(("", "", parts.path, parts.query, parts.fragment))


def _sign_in_page(following: str) -> str:
    return f"/login?next={quote(following, safe='/')}" if following else "/login"
