"""Deliveries: what forges sent, and what came of it. They are kept to look into errors, and to be done once more."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, TypeAlias

import msgspec
import zstandard
from sqlalchemy import delete, insert, select, update
from sqlalchemy.engine import Connection, Row

from pipelines.database import Database
from pipelines.errors import ConflictError, NotFoundError
from pipelines.schema import deliveries

DeliveryOutcome: TypeAlias = Literal["queued", "ignored", "refused"]

MAX_BODY_BYTES: Final = 25 << 20  # GitHub's own limit
_KEPT: Final = 300
_KEPT_REFUSED: Final = 50
_REFUSED_AT_ONCE: Final = 20  # of one project; beyond these, one a second, so that a flood writes little
_MAX_HEADERS: Final = 60
_MAX_HEADER: Final = 500
_MAX_REASON: Final = 2000
_SECRET: Final = re.compile(r"authorization|cookie|token|signature|secret|password", re.IGNORECASE)
_WITHHELD: Final = "(withheld)"
_numbers = msgspec.json.Decoder(tuple[int, ...])


class Delivery(msgspec.Struct, frozen=True):
    """One request.

    delivery: the forge's id.
    status: of the answer.
    reason: for people.
    runs: that it started.
    repeats: how often the forge sent it again.
    redelivery_of: the delivery whose body this one took.
    """

    id: int
    project: str
    forge: str
    delivery: str
    event: str
    received_at: float
    outcome: DeliveryOutcome
    status: int
    reason: str
    runs: tuple[int, ...]
    repeats: int = 0
    redelivery_of: int | None = None
    has_body: bool = False


class Received(msgspec.Struct, frozen=True):
    """The rest of a delivery. headers: without secrets. body: None for a refused one."""

    delivery: Delivery
    headers: dict[str, str]
    body: bytes | None


class Deliveries:
    """All deliveries. Thread-safe."""

    def __init__(self, database: Database, *, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock
        self._level: dict[str, float] = {}  # of the project's bucket of refusals: when it will be empty

    def list(self, project: str, *, before: int | None = None, limit: int = 50) -> list[Delivery]:
        """The newest first. before: only smaller ids."""
        wanted = _columns().where(deliveries.c.project == project).order_by(deliveries.c.id.desc()).limit(limit)
        if before is not None:
            wanted = wanted.where(deliveries.c.id < before)
        with self._database.read() as connection:
            return [_from_row(row) for row in connection.execute(wanted)]

    def get(self, project: str, number: int) -> Received:
        """Raises NotFoundError."""
        with self._database.read() as connection:
            row = connection.execute(
                select(deliveries).where(deliveries.c.project == project, deliveries.c.id == number)
            ).first()
        if row is None:
            raise NotFoundError(f"project {project} has no delivery {number}")
        body = None if row.body is None else zstandard.decompress(bytes(row.body), max_output_size=MAX_BODY_BYTES)
        return Received(_from_row(row), msgspec.json.decode(row.headers, type=dict[str, str]), body)

    def runs_of(self, project: str, delivery: str) -> tuple[int, ...]:
        """The runs that the delivery with this id of the forge's started. Raises NotFoundError."""
        wanted = select(deliveries.c.runs).where(deliveries.c.project == project, deliveries.c.delivery == delivery)
        with self._database.read() as connection:
            found = connection.execute(wanted).scalar()
        if found is None:
            raise NotFoundError(f"project {project} has no delivery {delivery[:_MAX_REASON]}")
        return _numbers.decode(found)

    def refuse(
        self, project: str, forge: str, event: str, headers: Mapping[str, str], status: int, reason: str
    ) -> None:
        """Record a request with a wrong signature or for another repository: without its body, and not under its id.

        So a stranger can neither fill the disk nor use up the id of a delivery that is still to come. When many come at
        once, only some are recorded.
        """
        now = self._clock()
        level = max(now, self._level.get(project, now)) + 1.0
        if level - now > _REFUSED_AT_ONCE:
            return
        self._level[project] = level
        with self._database.write() as connection:
            _insert(connection, project, forge, event, headers, now, None, outcome="refused", status=status,
                    reason=reason[:_MAX_REASON])  # fmt: skip
            _trim(connection, project, _KEPT_REFUSED, deliveries.c.outcome == "refused")

    def open(
        self,
        connection: Connection,
        project: str,
        forge: str,
        event: str,
        headers: Mapping[str, str],
        body: bytes,
        *,
        delivery: str | None,
        redelivery_of: int | None = None,
    ) -> int:
        """Record a delivery in the transaction that acts on it; ``close`` follows. Returns the new id.

        delivery: the forge's id; IntegrityError says that it was there before.
        """
        packed = zstandard.compress(body)
        return _insert(
            connection, project, forge, event, headers, self._clock(), packed, delivery=delivery,
            redelivery_of=redelivery_of,
        )  # fmt: skip

    def close(
        self, connection: Connection, number: int, outcome: DeliveryOutcome, reason: str, runs: tuple[int, ...]
    ) -> None:
        """Record what came of the delivery."""
        values = {
            "outcome": outcome,
            "status": 202 if outcome == "queued" else 200,
            "reason": reason[:_MAX_REASON],
            "runs": msgspec.json.encode(runs).decode(),
        }
        connection.execute(update(deliveries).where(deliveries.c.id == number).values(values))
        project = connection.execute(select(deliveries.c.project).where(deliveries.c.id == number)).scalar_one()
        _trim(connection, project, _KEPT, deliveries.c.outcome != "refused")

    def repeat(self, project: str, delivery: str) -> Delivery:
        """Count that the forge sent it again. Raises ConflictError when it is not there (any more)."""
        with self._database.write() as connection:
            row = connection.execute(
                update(deliveries)
                .where(deliveries.c.project == project, deliveries.c.delivery == delivery)
                .values(repeats=deliveries.c.repeats + 1)
                .returning(deliveries)
            ).first()
        if row is None:
            raise ConflictError(f"delivery {delivery} came twice at the same time", hint="send it again")
        return _from_row(row)


def without_secrets(headers: Mapping[str, str]) -> dict[str, str]:
    """Headers as they may be shown and stored: in order, in lower case, bounded."""
    shown = list(headers.items())[:_MAX_HEADERS]
    return {name: _WITHHELD if _SECRET.search(name) else value[:_MAX_HEADER].replace("\0", "") for name, value in shown}


def _insert(
    connection: Connection,
    project: str,
    forge: str,
    event: str,
    headers: Mapping[str, str],
    now: float,
    body: bytes | None,
    **more: Any,
) -> int:
    values = {
        "project": project,
        "forge": forge,
        "event": event[:100].replace("\0", ""),
        "received_at": now,
        "headers": msgspec.json.encode(without_secrets(headers)).decode(),
        "body": body,
        "outcome": "ignored",
        "status": 200,
        "reason": "",
        "runs": "[]",
        **more,
    }
    return int(connection.execute(insert(deliveries).values(values).returning(deliveries.c.id)).scalar_one())


def _trim(connection: Connection, project: str, kept: int, condition: Any) -> None:
    """Forget deliveries of one kind beyond the newest ``kept``."""
    wanted = select(deliveries.c.id).where(deliveries.c.project == project, condition)
    last = connection.execute(wanted.order_by(deliveries.c.id.desc()).offset(kept - 1).limit(1)).scalar()
    if last is not None:
        connection.execute(delete(deliveries).where(deliveries.c.project == project, condition, deliveries.c.id < last))


def _columns() -> Any:
    """All columns but the big ones."""
    has_body = deliveries.c.body.is_not(None).label("has_body")
    left_out = ("headers", "body")
    return select(*(column for column in deliveries.columns if column.name not in left_out), has_body)


def _from_row(row: Row[Any]) -> Delivery:
    members = row._mapping
    has_body = members["has_body"] if "has_body" in members else members["body"] is not None
    return Delivery(
        row.id, row.project, row.forge, row.delivery or "", row.event, row.received_at, row.outcome, row.status,
        row.reason, _numbers.decode(row.runs), row.repeats, row.redelivery_of, bool(has_body),
    )  # fmt: skip
