"""Sign a Flask test client in, without the way through the page."""

from __future__ import annotations

import base64
import hmac

from flask.testing import FlaskClient

from pipelines.accounts.users import Role, User
from pipelines.service import Service
from web.guard.cookies import SESSION

PASSWORD = "correct horse battery"


def sign_in(client: FlaskClient, service: Service, name: str = "alice", role: Role = "admin") -> User:
    """``client`` has a session of the user from here on; the user is made where there is none."""
    user = service.users.find(name) or service.users.create(name, role)
    client.set_cookie(SESSION, service.sessions.begin(user, address="127.0.0.1", agent="test"))
    return user


def csrf(client: FlaskClient) -> str:
    """The token that forms and scripts of the session send, as ``_csrf`` or X-CSRF-Token."""
    cookie = client.get_cookie(SESSION)
    assert cookie is not None
    return token_of(cookie.value)


def token_of(cookie: str) -> str:
    """The token of a cookie's value."""
    digest = hmac.digest(cookie.encode(), b"shiplap csrf", "sha256")
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
