"""Sessions of signed-in browsers, and links that let somebody in once.

Both are 256 random bits that only the browser has: the database keeps their hashes. A session ends by itself once it
was not used for ``IDLE_S``, or is ``LIFETIME_S`` old.
"""

from __future__ import annotations

import hashlib
import secrets as randomness
import time
from collections.abc import Callable
from typing import Any, Final

import msgspec
from sqlalchemy import delete, insert, select, update
from sqlalchemy.engine import Connection, Row

from pipelines.accounts.users import User, checked_hash, insert_user, user_from_row
from pipelines.database import Database
from pipelines.errors import LinkError, NotFoundError
from pipelines.schema import sessions, sign_in_links, users

IDLE_S: Final = 7 * 86400.0
LIFETIME_S: Final = 30 * 86400.0
LINK_S: Final = 24 * 3600.0
_NOTED_EVERY_S: Final = 60.0


class Session(msgspec.Struct, frozen=True):
    """A browser in which somebody is signed in.

    agent: what the browser calls itself.
    """

    id: int
    user: str
    created_at: float
    seen_at: float
    expires_at: float
    address: str
    agent: str


class Link(msgspec.Struct, frozen=True):
    """A link that is still good. user: whose password it sets; "" for the link that makes the first administrator."""

    user: str
    expires_at: float


class Sessions:
    """All sessions. Thread-safe."""

    def __init__(self, database: Database, *, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock

    def begin(self, user: User, *, address: str, agent: str) -> str:
        """Begin a session. Returns its text, for the cookie."""
        text, now = randomness.token_urlsafe(32), self._clock()
        values = {
            "hash": _hash(text),
            "user": user.name,
            "created_at": now,
            "seen_at": now,
            "expires_at": now + LIFETIME_S,
            "address": address[:64],
            "agent": agent[:300],
        }
        with self._database.write() as connection:
            connection.execute(insert(sessions).values(values))
            connection.execute(update(users).where(users.c.name == user.name).values(signed_in_at=now))
        return text

    def find(self, text: str) -> tuple[Session, User] | None:
        """The session of a cookie and its user; None when it ended, or its user is disabled."""
        now = self._clock()
        with self._database.read() as connection:
            row = connection.execute(select(sessions).where(sessions.c.hash == _hash(text))).first()
            if row is None or now >= row.expires_at or now >= row.seen_at + IDLE_S:
                return None
            user = user_from_row(connection.execute(select(users).where(users.c.name == row.user)).one())
        if user.disabled:
            return None
        if now - row.seen_at > _NOTED_EVERY_S:
            self._database.note(update(sessions).where(sessions.c.id == row.id).values(seen_at=now))
        return _from_row(row), user

    def list(self, user: str) -> list[Session]:
        """A user's sessions that are still good, the last used first."""
        now = self._clock()
        good = (sessions.c.user == user) & (sessions.c.expires_at > now) & (sessions.c.seen_at > now - IDLE_S)
        with self._database.read() as connection:
            rows = connection.execute(select(sessions).where(good).order_by(sessions.c.seen_at.desc()))
            return [_from_row(row) for row in rows]

    def end(self, text: str) -> None:
        """Sign out. Nothing happens when the session has ended already."""
        with self._database.write() as connection:
            connection.execute(delete(sessions).where(sessions.c.hash == _hash(text)))

    def end_one(self, user: str, session: int) -> None:
        """End a user's session by its id. Raises NotFoundError."""
        with self._database.write() as connection:
            mine = (sessions.c.id == session) & (sessions.c.user == user)
            if not connection.execute(delete(sessions).where(mine)).rowcount:
                raise NotFoundError(f"{user} has no session {session}")

    def end_all(self, user: str) -> None:
        """Sign a user out everywhere."""
        with self._database.write() as connection:
            connection.execute(delete(sessions).where(sessions.c.user == user))

    def sweep(self) -> None:
        """Remove sessions and links that have ended."""
        now = self._clock()
        with self._database.write() as connection:
            ended = (sessions.c.expires_at < now) | (sessions.c.seen_at < now - IDLE_S)
            connection.execute(delete(sessions).where(ended))
            connection.execute(delete(sign_in_links).where(sign_in_links.c.expires_at < now))


class Links:
    """One-time links. A user has at most one; so has the service before its first user. Thread-safe."""

    def __init__(self, database: Database, *, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock

    def create(self, user: str) -> str:
        """A link for choosing a new password, in place of an earlier link. Raises NotFoundError."""
        with self._database.write() as connection:
            if connection.execute(select(users.c.name).where(users.c.name == user)).first() is None:
                raise NotFoundError(f"there is no user {user[:80]!r}", hint="shiplap user ls shows all")
            return self._create(connection, user)

    def create_first(self) -> str | None:
        """A link for making the first administrator; None when there are users."""
        with self._database.write() as connection:
            if connection.execute(select(users.c.name).limit(1)).first() is not None:
                return None
            return self._create(connection, None)

    def find(self, text: str) -> Link:
        """The link of this text, which stays good. Raises LinkError."""
        with self._database.read() as connection:
            return self._find(connection, text)

    def use(self, text: str, name: str, password: str) -> User:
        """Set the password of the link's user, or make the first administrator, called ``name``; ends the link.

        Raises LinkError, and what ``Users.create`` raises; the link then stays good.
        """
        with self._database.write() as connection:
            link = self._find(connection, text)
            connection.execute(delete(sign_in_links).where(sign_in_links.c.hash == _hash(text)))
            if not link.user:
                if connection.execute(select(users.c.name).limit(1)).first() is not None:
                    raise LinkError("there is an administrator already")
                return insert_user(connection, name, "admin", password, self._clock())
            connection.execute(delete(sessions).where(sessions.c.user == link.user))
            changed = update(users).where(users.c.name == link.user).values(password=checked_hash(password))
            row = connection.execute(changed.returning(users)).one()
            if row.disabled:
                raise LinkError("this user is disabled")
            return user_from_row(row)

    def _create(self, connection: Connection, user: str | None) -> str:
        text = randomness.token_urlsafe(32)
        now = self._clock()
        same = sign_in_links.c.user.is_(None) if user is None else sign_in_links.c.user == user
        connection.execute(delete(sign_in_links).where(same))
        connection.execute(
            insert(sign_in_links).values(hash=_hash(text), user=user, created_at=now, expires_at=now + LINK_S)
        )
        return text

    def _find(self, connection: Connection, text: str) -> Link:
        query = select(sign_in_links).where(sign_in_links.c.hash == _hash(text)).with_for_update()
        row = connection.execute(query).first()
        if row is None or row.expires_at <= self._clock():
            raise LinkError(
                "this link was used, has expired, or never was one",
                hint="ask an administrator for a new one, or make one on the server: shiplap user link NAME",
            )
        return Link(row.user or "", row.expires_at)


def _hash(text: str) -> str:
    """A link's text has 256 random bits, so a plain hash is as good as a slow one."""
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


def _from_row(row: Row[Any]) -> Session:
    return Session(row.id, row.user, row.created_at, row.seen_at, row.expires_at, row.address, row.agent)
