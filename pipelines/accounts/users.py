"""People: their names, roles and passwords.

Names have no upper-case letters, so that Alice and alice are one person. Users are disabled, never deleted: the audit
trail and the runs that they started go on meaning them.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any, Final, Literal, TypeAlias, get_args

import msgspec
from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.engine import Connection, Row
from sqlalchemy.exc import IntegrityError

from core.passwords import DECOY, MAX_LENGTH, MIN_LENGTH, hash_password, password_fits
from pipelines.changes import Change, compared
from pipelines.database import Database
from pipelines.errors import ConflictError, InvalidRequestError, NotFoundError, SignInError
from pipelines.schema import sessions, sign_in_links, users

Role: TypeAlias = Literal["guest", "viewer", "member", "admin"]
ROLES: Final[tuple[Role, ...]] = get_args(Role)
"""Each may do what those before it may. A guest may do only what roles in projects allow.

``pipelines.accounts.roles`` has those.
"""

SCOPES_OF: Final[dict[str, tuple[str, ...]]] = {
    "guest": (),
    "viewer": ("read",),
    "member": ("build",),
    "admin": ("admin",),
}
"""The rights of each role in the API, as scopes of tokens."""

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._@-]{0,63}")


class User(msgspec.Struct, frozen=True):
    """Somebody who may sign in.

    issuer: the provider that vouches for this user; "" for a user with a password here.
    """

    name: str
    role: Role
    disabled: bool
    has_password: bool
    issuer: str
    created_at: float
    signed_in_at: float | None

    def is_at_least(self, role: Role) -> bool:
        return ROLES.index(self.role) >= ROLES.index(role)


class Users:
    """All users. Thread-safe."""

    def __init__(self, database: Database, *, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock
        self._decoy = DECOY

    def exist(self) -> bool:
        """Whether there is any user."""
        with self._database.read() as connection:
            return connection.execute(select(users.c.name).limit(1)).first() is not None

    def list(self) -> list[User]:
        """All users, by name."""
        with self._database.read() as connection:
            return [user_from_row(row) for row in connection.execute(select(users).order_by(users.c.name))]

    def get(self, name: str) -> User:
        """Raises NotFoundError."""
        user = self.find(name)
        if user is None:
            raise _unknown(name)
        return user

    def find(self, name: str) -> User | None:
        with self._database.read() as connection:
            row = connection.execute(select(users).where(users.c.name == _as_stored(name))).first()
        return None if row is None else user_from_row(row)

    def create(self, name: str, role: Role, password: str | None = None) -> User:
        """A new user; without a password the only way in is a link. Raises InvalidRequestError, ConflictError."""
        with self._database.write() as connection:
            return insert_user(connection, name, role, password, self._clock())

    def sign_in(self, name: str, password: str) -> User:
        """The user with this name and password. Raises SignInError, the same and after the same time whatever is wrong.

        Bound how often this is called: ``pipelines.accounts.throttle``.
        """
        with self._database.read() as connection:
            row = connection.execute(select(users).where(users.c.name == _as_stored(name))).first()
        hashed = row.password if row is not None and row.password else self._decoy
        fits = password_fits(password[: MAX_LENGTH + 1], hashed)
        if not fits or row is None or not row.password or row.disabled:
            raise SignInError("wrong name or password")
        return user_from_row(row)

    def sign_in_by_identity(self, issuer: str, subject: str, name: str, role: Role) -> User:
        """The user whom a provider vouches for: made at the first time, with the role of today's claims.

        name: what the provider suggests; another user's name is not taken over.
        Raises SignInError, InvalidRequestError.
        """
        mine = (users.c.issuer == issuer) & (users.c.subject == subject)
        with self._database.write() as connection:
            row = connection.execute(select(users).where(mine)).first()
            if row is None:
                values = {"issuer": issuer, "subject": subject}
                return insert_user(connection, _free_name(connection, name), role, None, self._clock(), **values)
            if row.disabled:
                raise SignInError("this user is disabled")
            connection.execute(update(users).where(mine).values(role=role))
            return user_from_row(connection.execute(select(users).where(mine)).one())

    def set_password(self, name: str, password: str) -> None:
        """Set a password, and end all sessions and links. Raises NotFoundError, InvalidRequestError."""
        hashed = checked_hash(password)
        with self._database.write() as connection:
            _must_exist(connection, name)
            connection.execute(update(users).where(users.c.name == name).values(password=hashed))
            _shut_out(connection, name)

    def set_role(self, name: str, role: Role) -> tuple[Change, ...]:
        """Returns what that changed. Raises NotFoundError, and ConflictError for the last administrator."""
        return self._set(name, role=role)

    def set_disabled(self, name: str, disabled: bool) -> tuple[Change, ...]:
        """Close every way in, sessions and tokens too; or open them. Returns what that changed.

        Raises NotFoundError, ConflictError.
        """
        return self._set(name, disabled=disabled)

    def _set(self, name: str, **values: Role | bool) -> tuple[Change, ...]:
        with self._database.write() as connection:
            _lock_administrators(connection)
            _must_exist(connection, name)
            columns = [users.c[member] for member in values]
            before = connection.execute(select(*columns).where(users.c.name == name)).mappings().one()
            connection.execute(update(users).where(users.c.name == name).values(values))
            if values != {"disabled": False}:
                self._keep_an_administrator(connection)
            if values.get("disabled"):
                _shut_out(connection, name)
            return compared(dict(before), values)

    def _keep_an_administrator(self, connection: Connection) -> None:
        """Raises ConflictError for the last administrator, which undoes the transaction."""
        active = (users.c.role == "admin") & users.c.disabled.is_(False)
        if not connection.execute(select(func.count()).select_from(users).where(active)).scalar():
            raise ConflictError("this is the last administrator", hint="make another user one first")


def insert_user(connection: Connection, name: str, role: Role, password: str | None, now: float, **more: str) -> User:
    """Make a user within a transaction. Raises InvalidRequestError, ConflictError."""
    name = name.strip().lower()
    if not _NAME.fullmatch(name):
        raise InvalidRequestError(
            f"invalid user name {name[:80]!r}", hint="letters, digits and . _ @ -, at most 64; no leading sign"
        )
    if role not in ROLES:
        raise InvalidRequestError(f"invalid role {role!r}", hint=f"one of {', '.join(ROLES)}")
    values = {
        "name": name,
        "role": role,
        "password": None if password is None else checked_hash(password),
        "disabled": False,
        "created_at": now,
        **more,
    }
    try:
        row = connection.execute(insert(users).values(values).returning(users)).one()
    except IntegrityError as error:
        raise ConflictError(f"there is a user {name} already") from error
    return user_from_row(row)


def checked_hash(password: str) -> str:
    """The hash to store. Raises InvalidRequestError when the password is too short or too long."""
    if len(password) < MIN_LENGTH:
        raise InvalidRequestError(f"the password is shorter than {MIN_LENGTH} characters")
    if len(password) > MAX_LENGTH:
        raise InvalidRequestError(f"the password is longer than {MAX_LENGTH} characters")
    return hash_password(password)


def _as_stored(name: str) -> str:
    """A typed name as names are stored; "", which is nobody's, for a text that cannot be a name."""
    name = name.strip().lower()
    return name if _NAME.fullmatch(name) else ""


def _shut_out(connection: Connection, name: str) -> None:
    connection.execute(delete(sessions).where(sessions.c.user == name))
    connection.execute(delete(sign_in_links).where(sign_in_links.c.user == name))


def _lock_administrators(connection: Connection) -> None:
    """Let others who change roles wait for this transaction: else each might leave the other as the last one."""
    connection.execute(select(users.c.name).where(users.c.role == "admin").order_by(users.c.name).with_for_update())


def _must_exist(connection: Connection, name: str) -> None:
    if connection.execute(select(users.c.name).where(users.c.name == name).with_for_update()).first() is None:
        raise _unknown(name)


def _free_name(connection: Connection, wanted: str) -> str:
    """``wanted`` as a name of ours; with a number behind it where somebody else has the name."""
    base = re.sub(r"[^a-z0-9._@-]+", "-", wanted.strip().lower()).lstrip("._@-")[:60] or "user"
    candidates = (base if number == 1 else f"{base}-{number}" for number in range(1, 1000))
    similar = select(users.c.name).where(users.c.name.startswith(base, autoescape=True))
    taken = set(connection.execute(similar).scalars())
    return next(name for name in candidates if name not in taken)


def _unknown(name: str) -> NotFoundError:
    return NotFoundError(f"there is no user {name[:80]!r}", hint="shiplap user ls shows all")


def user_from_row(row: Row[Any]) -> User:
    return User(
        row.name, row.role, row.disabled, row.password is not None, row.issuer or "", row.created_at, row.signed_in_at
    )
