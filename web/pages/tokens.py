"""All API tokens: those of users, and those of robots, which belong to nobody."""

from __future__ import annotations

from typing import Final

from flask import Blueprint, Response, redirect, render_template, request
from werkzeug.wrappers import Response as AnyResponse

from pipelines.accounts.tokens import SCOPES
from pipelines.errors import InvalidRequestError
from web.backing import service
from web.guard import require
from web.pages.token_form import TokenForm

blueprint: Final = Blueprint("tokens", __name__, url_prefix="/tokens")


@blueprint.get("")
@require("admin")
def list_tokens() -> Response:
    """All tokens that were not revoked."""
    return _page()


@blueprint.post("")
@require("admin")
def create_token() -> Response:
    """Make a robot's token, and show its secret this once."""
    try:
        token, secret = TokenForm.read().create(service(), owner=None)
    except InvalidRequestError as error:
        return _page(422, error=error.message)
    return _page(201, secret=secret, secret_of=token.name)


@blueprint.post("/<int:token>/revoke")
@require("admin")
def revoke_token(token: int) -> AnyResponse:
    """Refuse a token from now on."""
    service().tokens.revoke(token)
    return redirect("/tokens?done=1", 303)


def _page(status: int = 200, **more: str) -> Response:
    notice = "The token is revoked." if "done" in request.args else None
    text = render_template("tokens.html", tokens=service().tokens.list(), scopes=SCOPES, notice=notice, **more)
    return Response(text, status)
