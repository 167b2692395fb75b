"""Who sent which files of build contexts. A sender has to send a file even if others have, before it is built with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sqlalchemy import Connection, delete, insert, select
from sqlalchemy.exc import IntegrityError

from pipelines.database import Database
from pipelines.schema import senders

_USER: Final = "user "
_ASKED_AT_ONCE: Final = 500


def user_sender(name: str) -> str:
    """A user of the service, however they come in: nobody else has this name, now or later."""
    return f"{_USER}{name}"


def robot_sender(token: int) -> str:
    """A robot, by its token's number: two tokens may have the same name, or one that looks like a person's."""
    return f"robot {token}"


def shown_sender(sender: str) -> str:
    """A sender as domains of ``core.trust`` name it: ``ann``, ``robot 7``. Names of users have no spaces."""
    return sender.removeprefix(_USER)


class Senders:
    """Rows of digests (of files and of whole contexts) and senders. The service itself, "", counts as sender of all."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def sent(self, digests: Sequence[str], sender: str) -> frozenset[str]:
        """The digests that the sender has sent."""
        if not sender:
            return frozenset(digests)
        found: set[str] = set()
        with self._database.read() as connection:
            for at in range(0, len(digests), _ASKED_AT_ONCE):
                some = digests[at : at + _ASKED_AT_ONCE]
                known = select(senders.c.digest).where(senders.c.sender == sender, senders.c.digest.in_(some))
                found.update(connection.execute(known).scalars())
        return frozenset(found)

    def note(self, digests: Sequence[str], sender: str) -> None:
        """Remember that the sender has sent these digests."""
        known = self.sent(digests, sender)
        rows = [{"digest": digest, "sender": sender} for digest in digests if digest not in known]
        if not rows:
            return
        try:
            with self._database.write() as connection:
                for at in range(0, len(rows), _ASKED_AT_ONCE):
                    connection.execute(insert(senders), rows[at : at + _ASKED_AT_ONCE])
        except IntegrityError:  # somebody sends the same twice at once, and one was first
            self.note(digests, sender)

    def forget(self, connection: Connection, digests: Sequence[str]) -> None:
        """Forget who sent these digests, which are being removed; in the caller's transaction."""
        for digest in digests:
            connection.execute(delete(senders).where(senders.c.digest == digest))
