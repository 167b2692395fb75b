"""Signing in and out: bounded, noted, and with a new session each time."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Final

from flask import Response, redirect, request

from pipelines.accounts.throttle import Bucket
from pipelines.accounts.users import User
from pipelines.errors import SignInError
from web.guard import browsers, cookies
from web.guard.notes import note
from web.guard.redirects import same_origin
from web.looks import send_look

if TYPE_CHECKING:
    from pipelines.service import Service

_BY_SOMEBODY: Final = (10, 60.0)
_BY_AN_ADDRESS: Final = (30, 10.0)
_FOR_A_NAME: Final = (1000, 10.0)
"""How many wrong passwords are taken at once, and the seconds after which one more is."""


def by_password(service: Service, name: str, password: str) -> User:
    """Raises SignInError; ThrottledError after too many errors with this name from here, or with any name from here."""
    buckets = _buckets(service, name)
    service.throttle.take(buckets)
    try:
        user = service.users.sign_in(name, password)
    except SignInError:
        known = service.users.find(name)  # a text that is no name may be a password, which is not for the trail
        note(service, "fail to sign in", known.name if known else "(an unknown name)", actor="(nobody)")
        raise
    service.throttle.give_back(buckets)
    return user


def bound_address(service: Service) -> None:
    """Count a request without a password that is costly all the same. Raises ThrottledError."""
    service.throttle.take([_of_address()])


def bound_refusals(service: Service) -> None:
    """Count a sign-in that was refused. Each is noted, and no stranger may fill the trail.

    Raises ThrottledError.
    """
    service.throttle.take([Bucket(f"refusals at {_site(request.remote_addr or '')}", *_BY_AN_ADDRESS)])


def begin(service: Service, user: User, target: str, *, how: str) -> Response:
    """A new session for the user, in place of the browser's old one, and on to ``target`` if that is a page of ours.

    how: the way of signing in, for the audit trail.
    """
    old = cookies.session_text()
    if old:
        service.sessions.end(old)
    text = service.sessions.begin(user, address=request.remote_addr or "", agent=request.user_agent.string)
    note(service, "sign in", user.name, how, actor=user.name)
    response = _redirect(same_origin(target))
    cookies.set_session(response, text)
    browsers.remember(service, response, user.name)
    send_look(response, service.preferences.get(user.name).look)
    return response


def end(service: Service) -> Response:
    """Sign out."""
    service.sessions.end(cookies.session_text())
    note(service, "sign out")
    response = _redirect("/login")
    cookies.clear_session(response)
    return response


def _redirect(target: str) -> Response:
    found = redirect(target, 303, Response=Response)
    assert isinstance(found, Response)
    return found


def _buckets(service: Service, name: str) -> list[Bucket]:
    """The bounds on wrong passwords. Nobody's errors close the way in for somebody elsewhere.

    A browser that the user signed in with before: ten at once, then one a minute, whatever others do.

    From elsewhere, three bounds. A name at an address: the same as for such a browser. An address: thirty, then one
    every ten seconds. A name from all addresses together: a thousand, then one every ten seconds, which is a hundred
    machines' worth.
    """
    name = name.strip().lower()
    browser = browsers.known_browser(service, name)
    if browser:
        return [Bucket(f"browser {browser}", *_BY_SOMEBODY)]
    site = _site(request.remote_addr or "")
    return [Bucket(f"name {name} at {site}", *_BY_SOMEBODY), _of_address(), Bucket(f"name {name}", *_FOR_A_NAME)]


def _of_address() -> Bucket:
    return Bucket(f"address {_site(request.remote_addr or '')}", *_BY_AN_ADDRESS)


def _site(address: str) -> str:
    """The address; or, of IPv6, the network that one subscriber has."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv4Address):
        return address
    return str(ipaddress.ip_network((parsed, 64), strict=False))
