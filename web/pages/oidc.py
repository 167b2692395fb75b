"""Signing in by a provider of identities: there and back."""

from __future__ import annotations

import hmac
import logging
from typing import Final

from flask import Blueprint, Response, redirect, render_template, request
from werkzeug.wrappers import Response as AnyResponse

from pipelines.accounts.audit import printable
from pipelines.errors import SignInError
from pipelines.jsonlogs import MEMBERS
from web.backing import provider, service
from web.errors import NotFoundError
from web.guard import note, public, signing_in
from web.guard.links import base_url
from web.guard.redirects import same_origin
from web.identities import Provider

blueprint: Final = Blueprint("oidc", __name__, url_prefix="/oidc")

_COOKIE: Final = "shiplap_oidc"
_COOKIE_S: Final = 600
_UNKNOWN: Final = "(by the provider)"
_LONGEST: Final = 100  # characters of a text by the provider, or by a stranger in its place
_LONGEST_REASON: Final = 500

_log = logging.getLogger(__name__)


@blueprint.get("/sign-in")
@public
def leave() -> AnyResponse:
    """Send the browser to the provider, and remember by a cookie that this browser asked."""
    provider = _provider()
    signing_in.bound_address(service())
    sign_in = service().sign_ins.begin(same_origin(request.args.get("next", "")))
    try:
        address = provider.address(sign_in, _redirect_uri())
    except SignInError as error:
        return _refused(error, _UNKNOWN)
    response = redirect(address, 303)
    response.set_cookie(
        _COOKIE, sign_in.state, max_age=_COOKIE_S, httponly=True, samesite="Lax", secure=request.is_secure,
        path="/oidc",
    )  # fmt: skip
    return response


@blueprint.get("/callback")
@public
def come_back() -> AnyResponse:
    """The address where the provider sends the browser back: check everything, and sign in."""
    provider = _provider()
    state = request.args.get("state", "")
    who = _UNKNOWN
    try:
        if not hmac.compare_digest(state.encode(), request.cookies.get(_COOKIE, "").encode()) or not state:
            raise SignInError("this sign-in was begun in another browser, or too long ago", hint="begin again")
        sign_in = service().sign_ins.take(state)
        if "error" in request.args:
            refusal = request.args["error"][:_LONGEST]
            described = request.args.get("error_description", "")[:_LONGEST]
            raise SignInError(
                f"the provider refused: {refusal}",
                reason=f"the provider refused: {refusal}: {described}" if described else "",
            )
        identity = provider.identify(request.args.get("code", ""), sign_in, _redirect_uri())
        who = identity.name[:_LONGEST]
        role = provider.role(identity)
        user = service().users.sign_in_by_identity(identity.issuer, identity.subject, identity.name, role)
    except SignInError as error:
        return _refused(error, who)
    response = signing_in.begin(service(), user, sign_in.next, how=f"by {identity.issuer}")
    response.delete_cookie(_COOKIE, path="/oidc")
    return response


def _provider() -> Provider:
    found = provider()
    if found is None:
        raise NotFoundError("there is no provider of identities", hint="SHIPLAP_OIDC_ISSUER sets one up")
    return found


def _redirect_uri() -> str:
    return f"{base_url(service())}/oidc/callback"


def _refused(error: SignInError, who: str) -> Response:
    """A page about the refusal. The reason goes to log and audit trail, only so many times for one address.

    who: the provider's name for the person. Raises ThrottledError.
    """
    signing_in.bound_refusals(service())
    _log.warning(
        "a sign-in by %s was refused for %s: %s",
        _provider().name,
        printable(who),
        printable(error.reason)[:_LONGEST_REASON],
        extra={MEMBERS: {"client": request.remote_addr or ""}},
    )
    note(service(), "fail to sign in", who, error.reason[:_LONGEST_REASON], actor="(nobody)")
    text = render_template("error.html", status=401, title="Not signed in", message=error.message, hint=error.hint)
    response = Response(text, 401)
    response.delete_cookie(_COOKIE, path="/oidc")
    return response
