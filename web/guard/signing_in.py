"""Signing in and out: bounded, noted, and with a new session each time."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

from flask import Response, redirect, request

from pipelines.errors import SignInError
from pipelines.throttle import Bucket
from pipelines.users import User
from web.guard import cookies
from web.guard.notes import note
from web.guard.redirects import same_origin

if TYPE_CHECKING:
    from pipelines.service import Service


def by_password(service: Service, name: str, password: str) -> User:
    """Raises SignInError, and ThrottledError when this name or this address was wrong too often."""
    buckets = _buckets(name)
    service.throttle.take(buckets)
    try:
        user = service.users.sign_in(name, password)
    except SignInError:
        known = service.users.find(name)  # what is no name may be a password, which is not for the trail
        note(service, "fail to sign in", known.name if known else "(an unknown name)", actor="(nobody)")
        raise
    service.throttle.give_back(buckets)
    return user


def bound_address(service: Service) -> None:
    """Count what is no password and still costs something. Raises ThrottledError."""
    service.throttle.take(_buckets("")[1:])


def begin(service: Service, user: User, target: str, *, how: str) -> Response:
    """A new session for the user, in place of the browser's old one, and on to ``target`` if that is ours.

    how: what the audit trail says.
    """
    old = cookies.session_text()
    if old:
        service.sessions.end(old)
    text = service.sessions.begin(user, address=request.remote_addr or "", agent=request.user_agent.string)
    note(service, "sign in", user.name, how, actor=user.name)
    response = _redirect(same_origin(target))
    cookies.set_session(response, text)
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


def _buckets(name: str) -> list[Bucket]:
    """Ten wrong passwords at once for a name, then one a minute; thirty for an address, then one every ten seconds."""
    return [
        Bucket(f"name {name.strip().lower()}", 10, 60.0),
        Bucket(f"address {_site(request.remote_addr or '')}", 30, 10.0),
    ]


def _site(address: str) -> str:
    """The address, or the network that one subscriber has of IPv6."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv4Address):
        return address
    return str(ipaddress.ip_network((parsed, 64), strict=False))
