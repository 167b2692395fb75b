"""What users chose for themselves: how pages look, and the views that they saved. Of no weight for anybody else."""

from __future__ import annotations

from typing import Final, Literal

import msgspec
from sqlalchemy import insert, select, update
from sqlalchemy.engine import Connection

from pipelines.database import Database
from pipelines.errors import InvalidRequestError, NotFoundError
from pipelines.schema import user_settings, users

_MAX_VIEWS: Final = 30
_MAX_NAME: Final = 60
_MAX_PATH: Final = 1000
_PAGES: Final = ("/?", "/runs?")


class Look(msgspec.Struct, frozen=True, omit_defaults=True):
    """How pages look and listen.

    theme: empty: as the system.
    density: of rows; empty: comfortable.
    keys: whether single keys act.
    log: colours of logs; empty: as the page's.
    """

    theme: Literal["", "light", "dark"] = ""
    density: Literal["", "compact"] = ""
    keys: bool = True
    log: Literal["", "dark"] = ""


class View(msgspec.Struct, frozen=True):
    """A list with its filters, by a name. path: the address within this service, which begins with one of its lists."""

    name: str
    path: str


class Preferences(msgspec.Struct, frozen=True, omit_defaults=True):
    """All that one user chose."""

    look: Look = Look()
    views: tuple[View, ...] = ()


_decoder: Final = msgspec.json.Decoder(Preferences)


class AllPreferences:
    """The preferences of all users. Thread-safe."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, user: str) -> Preferences:
        """Those of a user; the defaults for one who chose nothing."""
        with self._database.read() as connection:
            return _of(connection, user)

    def set_look(self, user: str, look: Look) -> None:
        with self._database.write() as connection:
            _hold(connection, user)
            _put(connection, user, msgspec.structs.replace(_of(connection, user), look=look))

    def save_view(self, user: str, view: View) -> None:
        """Keep a view; one of the same name is replaced. Raises InvalidRequestError."""
        name = " ".join(view.name.split())
        if not name or len(name) > _MAX_NAME:
            raise InvalidRequestError(f"the name of a view has 1 to {_MAX_NAME} characters, this one has {len(name)}")
        if not view.path.startswith(_PAGES) or len(view.path) > _MAX_PATH:
            raise InvalidRequestError(f"{view.path[:100]!r} is no list with a filter", hint="choose a filter first")
        with self._database.write() as connection:
            _hold(connection, user)
            before = _of(connection, user)
            views = (*(other for other in before.views if other.name != name), View(name, view.path))
            if len(views) > _MAX_VIEWS:
                raise InvalidRequestError(f"you have {_MAX_VIEWS} views", hint="remove one first")
            _put(connection, user, msgspec.structs.replace(before, views=views))

    def remove_view(self, user: str, name: str) -> None:
        """Raises NotFoundError."""
        with self._database.write() as connection:
            _hold(connection, user)
            before = _of(connection, user)
            views = tuple(view for view in before.views if view.name != name)
            if views == before.views:
                raise NotFoundError(f"you have no view {name[:_MAX_NAME]!r}")
            _put(connection, user, msgspec.structs.replace(before, views=views))


def _hold(connection: Connection, user: str) -> None:
    """Let no other transaction change what this user chose until this one ends."""
    connection.execute(select(users.c.name).where(users.c.name == user).with_for_update())


def _of(connection: Connection, user: str) -> Preferences:
    chosen = select(user_settings.c.chosen).where(user_settings.c.user == user)
    text = connection.execute(chosen).scalar()
    return _decoder.decode(text) if text else Preferences()


def _put(connection: Connection, user: str, preferences: Preferences) -> None:
    text = msgspec.json.encode(preferences).decode()
    changed = connection.execute(update(user_settings).where(user_settings.c.user == user).values(chosen=text))
    if not changed.rowcount:
        connection.execute(insert(user_settings).values(user=user, chosen=text))
