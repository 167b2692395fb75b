"""The ways in and out: name and password, one-time links, and a provider of identities."""

from __future__ import annotations

from typing import Final

from flask import Blueprint, Response, redirect, render_template, request
from werkzeug.wrappers import Response as AnyResponse

from pipelines.accounts.sessions import Link
from pipelines.errors import ConflictError, InvalidRequestError, LinkError, SignInError, ThrottledError
from web.backing import provider, service
from web.guard import current_user, public, require, signing_in
from web.guard.redirects import same_origin
from web.pages.frame import told

blueprint: Final = Blueprint("login", __name__)


@blueprint.get("/login")
@public
def show_login() -> AnyResponse:
    """The form; a user who is signed in already goes on."""
    if current_user() is not None:
        return redirect(same_origin(request.args.get("next", "")))
    return _login_page()


@blueprint.post("/login")
@public
def log_in() -> Response:
    """Sign in by name and password. 401 when they are wrong, 429 after too many wrong ones."""
    name, password = request.form.get("name", ""), request.form.get("password", "")
    try:
        user = signing_in.by_password(service(), name, password)
    except SignInError as error:
        return _login_page(401, error.message, name)
    except ThrottledError as error:
        response = _login_page(429, told(error), name)
        response.headers["Retry-After"] = str(error.retry_after_s)
        return response
    return signing_in.begin(service(), user, request.form.get("next", ""), how="by password")


@blueprint.post("/logout")
@require("guest")
def log_out() -> Response:
    """End this session."""
    return signing_in.end(service())


@blueprint.get("/welcome")
@public
def show_welcome() -> Response:
    """The page of a one-time link: choose a password, and at the first start a name. Looking does not use it up."""
    try:
        link = service().links.find(request.args.get("link", ""))
    except LinkError as error:
        return _dead_link(error)
    return _welcome_page(link)


@blueprint.post("/welcome")
@public
def welcome() -> Response:
    """Use the link up, and sign in."""
    text = request.form.get("link", "")
    try:
        link = service().links.find(text)
    except LinkError as error:
        return _dead_link(error)
    name, password = request.form.get("name", ""), request.form.get("password", "")
    if password != request.form.get("again", ""):
        return _welcome_page(link, 422, "the two passwords differ", name)
    try:
        user = service().links.use(text, name, password)
    except (InvalidRequestError, ConflictError) as error:
        return _welcome_page(link, 422, told(error), name)
    except LinkError as error:  # somebody else used the link first
        return _dead_link(error)
    return signing_in.begin(service(), user, "", how="by a one-time link")


def _login_page(status: int = 200, error: str = "", name: str = "") -> Response:
    target = request.values.get("next", "")
    text = render_template(
        "login.html",
        error=error,
        name=name,
        next=same_origin(target),
        no_users=not service().users.exist(),
        provider=provider(),
    )
    return Response(text, status)


def _welcome_page(link: Link, status: int = 200, error: str = "", name: str = "") -> Response:
    text = render_template("welcome.html", link=link, text=request.values["link"], error=error, name=name)
    return Response(text, status)


def _dead_link(error: LinkError) -> Response:
    text = render_template("error.html", status=410, title="No such link", message=error.message, hint=error.hint)
    return Response(text, 410)
