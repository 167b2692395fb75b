"""One's own account: password, sessions, API tokens."""

from __future__ import annotations

from typing import Final

import msgspec
from flask import Blueprint, Response, g, redirect, render_template, request
from werkzeug.wrappers import Response as AnyResponse

from pipelines.accounts.preferences import Look, View
from pipelines.accounts.tokens import SCOPES
from pipelines.accounts.users import User
from pipelines.errors import InvalidRequestError, SignInError, ThrottledError
from web.backing import service
from web.errors import ForbiddenError
from web.guard import note, require, signing_in
from web.guard.redirects import same_origin
from web.looks import send_look
from web.pages.token_form import TokenForm

blueprint: Final = Blueprint("account", __name__, url_prefix="/account")

_DONE: Final = {
    "password": "The password is changed; all other sessions have ended.",
    "session": "The session has ended.",
    "token": "The token is revoked.",
    "look": "The look is kept.",
}


@blueprint.get("")
@require("guest")
def show_account() -> Response:
    """The user's own password, sessions and tokens."""
    return _page()


@blueprint.post("/password")
@require("guest")
def change_password() -> Response:
    """Set a new password, by the present one; signs in anew, so that earlier sessions end."""
    user: User = g.user
    new = request.form.get("new", "")
    try:
        if not user.has_password:
            raise InvalidRequestError("this user signs in without a password here")
        if new != request.form.get("again", ""):
            raise InvalidRequestError("the two new passwords differ")
        signing_in.by_password(service(), user.name, request.form.get("password", ""))
        service().users.set_password(user.name, new)
    except SignInError:
        return _page(422, change_error="the present password is wrong")
    except (InvalidRequestError, ThrottledError) as error:
        return _page(422, change_error=error.message)
    note(service(), "change own password", user.name)
    return signing_in.begin(service(), user, "/account?done=password", how="with a new password")


@blueprint.post("/sessions/<int:session>/end")
@require("guest")
def end_session(session: int) -> AnyResponse:
    """Sign one other browser out."""
    service().sessions.end_one(g.user.name, session)
    return redirect("/account?done=session", 303)


@blueprint.post("/sessions/end-all")
@require("guest")
def end_all_sessions() -> Response:
    """Sign out everywhere, here too."""
    service().sessions.end_all(g.user.name)
    note(service(), "sign out everywhere", g.user.name)
    return signing_in.end(service())


@blueprint.post("/look")
@require("guest")
def set_look() -> AnyResponse:
    """How pages look to this user: colours, rows, and whether single keys act."""
    try:
        form = {name: request.form.get(name, "") for name in ("theme", "density", "log")}
        look = msgspec.convert({**form, "keys": bool(request.form.get("keys"))}, Look)
    except msgspec.ValidationError:
        raise InvalidRequestError("there is no such look") from None
    by_script = request.headers.get("HX-Request") == "true"
    service().preferences.set_look(g.user.name, look)
    if by_script:  # it wrote the cookie itself, and may have written a newer one since
        return Response(status=204)
    response = redirect("/account?done=look", 303)
    send_look(response, look)
    return response


@blueprint.post("/views")
@require("guest")
def save_view() -> AnyResponse:
    """Keep a list with its filters, by a name."""
    view = View(request.form.get("name", ""), request.form.get("path", ""))
    service().preferences.save_view(g.user.name, view)
    return redirect(same_origin(view.path), 303)


@blueprint.post("/views/remove")
@require("guest")
def remove_view() -> AnyResponse:
    """Forget one of the user's own views."""
    service().preferences.remove_view(g.user.name, request.form.get("name", ""))
    return redirect(same_origin(request.form.get("back", "/account")), 303)


@blueprint.post("/tokens")
@require("guest")
def create_token() -> Response:
    """Make a token that may do no more than its owner."""
    user: User = g.user
    form = TokenForm.read()
    if not g.rights.may_somewhere(form.scope):
        raise ForbiddenError(f"{user.name} has the role {user.role}, which does not allow {form.scope}")
    try:
        token, secret = form.create(service(), owner=user.name)
    except InvalidRequestError as error:
        return _page(422, token_error=error.message)
    return _page(201, secret=secret, secret_of=token.name)


@blueprint.post("/tokens/<int:token>/revoke")
@require("guest")
def revoke_token(token: int) -> AnyResponse:
    """Revoke one of the user's own tokens."""
    service().tokens.revoke(token, owner=g.user.name)
    return redirect("/account?done=token", 303)


def _page(status: int = 200, **more: str) -> Response:
    user: User = g.user
    text = render_template(
        "account.html",
        user=user,
        sessions=service().sessions.list(user.name),
        current=g.session.id,
        tokens=service().tokens.list(owner=user.name),
        scopes=[scope for scope in SCOPES if g.rights.may_somewhere(scope)],
        notice=_DONE.get(request.args.get("done", "")),
        **more,
    )
    return Response(text, status)
