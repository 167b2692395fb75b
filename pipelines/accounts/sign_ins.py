"""Sign-ins by a provider of identities, from their beginning here until the browser comes back."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from sqlalchemy import delete, insert

from pipelines.database import Database
from pipelines.errors import SignInError
from pipelines.schema import oidc_sign_ins

LIFETIME_S: Final = 600.0


@dataclass(frozen=True, slots=True)
class SignIn:
    """A sign-in at a provider that has begun and not ended.

    state: what the provider sends back.
    nonce: what its ID token must hold.
    verifier: of PKCE (RFC 7636).
    next: the page to go to afterwards.
    """

    state: str
    nonce: str
    verifier: str
    next: str


class SignIns:
    """All sign-ins under way. Thread-safe."""

    def __init__(self, database: Database, *, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock

    def begin(self, target: str) -> SignIn:
        """Begin a sign-in. target: the page to go to afterwards."""
        begun = SignIn(_random(32), _random(32), _random(48), target)
        values = {
            "state": _hash(begun.state),
            "nonce": begun.nonce,
            "verifier": begun.verifier,
            "next": target,
            "expires_at": self._clock() + LIFETIME_S,
        }
        with self._database.write() as connection:
            connection.execute(insert(oidc_sign_ins).values(values))
        return begun

    def take(self, state: str) -> SignIn:
        """The sign-in with this state, which is then forgotten. Raises SignInError."""
        with self._database.write() as connection:
            mine = delete(oidc_sign_ins).where(oidc_sign_ins.c.state == _hash(state))
            row = connection.execute(mine.returning(oidc_sign_ins)).first()
        if row is None or row.expires_at <= self._clock():
            raise SignInError("this sign-in was not begun here, or too long ago", hint="begin again")
        return SignIn(state, row.nonce, row.verifier, row.next)

    def sweep(self) -> None:
        """Forget sign-ins that nobody came back from."""
        with self._database.write() as connection:
            connection.execute(delete(oidc_sign_ins).where(oidc_sign_ins.c.expires_at <= self._clock()))


def _random(size_bytes: int) -> str:
    return secrets.token_urlsafe(size_bytes)


def _hash(state: str) -> str:
    return hashlib.sha256(state.encode(errors="surrogatepass")).hexdigest()
