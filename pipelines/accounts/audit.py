"""The audit trail: who did what to what, from where. Rows are added, and removed by age; never changed."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from typing import Any, Final

import msgspec
from sqlalchemy import delete, insert, select
from sqlalchemy.engine import Connection, Row

from pipelines.changes import Change
from pipelines.database import Database
from pipelines.schema import audit

KEEP_S: Final = 400 * 86400.0
"""A year, and some days to look at it."""

_LENGTHS: Final = {"actor": 200, "action": 60, "subject": 300, "address": 64, "project": 100}
_MAX_DETAIL: Final = 2000
_changes: Final = msgspec.json.Decoder(tuple[Change, ...])


class AuditEntry(msgspec.Struct, frozen=True):
    """One line of the audit trail.

    actor: a user's name, ``token NAME``, or what else acted.
    address: the client's, "" for this machine's shell.
    project: the project that the entry is about; "" for the service.
    changes: what it changed, from what to what; entries of versions before 0.3.0 have none.
    """

    id: int
    at: float
    actor: str
    action: str
    subject: str
    detail: str
    address: str
    project: str = ""
    changes: tuple[Change, ...] = ()


class Audit:
    """The audit trail. Thread-safe."""

    def __init__(self, database: Database, *, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock

    def add(
        self,
        actor: str,
        action: str,
        subject: str,
        detail: str = "",
        *,
        address: str = "",
        project: str = "",
        changes: Sequence[Change] = (),
    ) -> None:
        """Note an action that was done. No secrets in ``detail`` and ``changes``; what is too long is cut."""
        now = self._clock()
        with self._database.write() as connection:
            add_entry(
                connection, now, actor, action, subject, detail, address=address, project=project, changes=changes
            )

    def list(
        self,
        *,
        actor: str = "",
        action: str = "",
        subject: str = "",
        since: float | None = None,
        until: float | None = None,
        before: int | None = None,
        projects: Collection[str] | None = None,
        limit: int = 100,
    ) -> list[AuditEntry]:
        """The newest first.

        actor, action: only entries with exactly these.
        subject: only entries whose subject contains this.
        before: only smaller ids.
        projects: only entries about these projects.
        """
        query = select(audit).order_by(audit.c.id.desc()).limit(limit)
        if projects is not None:
            query = query.where(audit.c.project.in_(projects))
        if actor:
            query = query.where(audit.c.actor == printable(actor))
        if action:
            query = query.where(audit.c.action == printable(action))
        if subject:
            query = query.where(audit.c.subject.contains(printable(subject), autoescape=True))
        if since is not None:
            query = query.where(audit.c.at >= since)
        if until is not None:
            query = query.where(audit.c.at < until)
        if before is not None:
            query = query.where(audit.c.id < before)
        with self._database.read() as connection:
            return [_from_row(row) for row in connection.execute(query)]

    def actions(self) -> Sequence[str]:
        """The kinds of actions that have entries, by name."""
        with self._database.read() as connection:
            return connection.execute(select(audit.c.action).distinct().order_by(audit.c.action)).scalars().all()

    def sweep(self) -> None:
        """Remove entries older than ``KEEP_S``."""
        with self._database.write() as connection:
            connection.execute(delete(audit).where(audit.c.at < self._clock() - KEEP_S))


def add_entry(
    connection: Connection,
    at: float,
    actor: str,
    action: str,
    subject: str,
    detail: str = "",
    *,
    address: str = "",
    project: str = "",
    changes: Sequence[Change] = (),
) -> None:
    """``Audit.add`` in the transaction of what is done."""
    texts = {"actor": actor, "action": action, "subject": subject, "address": address, "project": project}
    values = {name: printable(text)[: _LENGTHS[name]] for name, text in texts.items()}
    connection.execute(
        insert(audit).values(at=at, detail=printable(detail)[:_MAX_DETAIL], changes=_encoded(changes), **values)
    )


def _encoded(changes: Sequence[Change]) -> str:
    """As the column has them; empty for none."""
    if not changes:
        return ""
    shown = [Change(printable(each.what), printable(each.before), printable(each.after)) for each in changes]
    return msgspec.json.encode(shown).decode()


def printable(text: str) -> str:
    """Strangers' text, for logs and the trail: nothing in it ends a line, steers a terminal or turns words round.

    PostgreSQL takes no NUL either, and neither database takes a lone surrogate.
    """
    whole = text.replace("\0", "").encode(errors="replace").decode()
    return "".join(character if character.isprintable() else "\ufffd" for character in whole)


def _from_row(row: Row[Any]) -> AuditEntry:
    return AuditEntry(
        row.id, row.at, row.actor, row.action, row.subject, row.detail, row.address, row.project,
        _changes.decode(row.changes) if row.changes else (),
    )  # fmt: skip
