"""``engine.db``: what exists. SQLite in WAL mode; writers take turns, readers never wait.

Every transaction is durable (synchronous=FULL): a name that was given stays given. A database that is not there is made
by the first who writes; who only looks finds nothing.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from core import shortlogs
from core.sqlfaults import full_or_held
from core.sqlscript import statements
from engine.errors import ConflictError, ContainerNotFoundError, NameInUseError, RecordsError

BUSY_TIMEOUT_S: Final = 10.0

# One script per schema version; a released script is never changed, a new one is appended.
_MIGRATIONS: Final = (
    """
    -- summary: what a list shows, as JSON: see Row
    CREATE TABLE containers (
        id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, created_ns INTEGER NOT NULL, image TEXT NOT NULL,
        image_id TEXT NOT NULL, policy TEXT NOT NULL, summary TEXT NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX containers_created ON containers (created_ns);
    -- anonymous: made for one container, and goes with it by rm -v. labels, options: JSON
    CREATE TABLE volumes (
        name TEXT PRIMARY KEY, created_ns INTEGER NOT NULL, anonymous INTEGER NOT NULL, labels TEXT NOT NULL,
        options TEXT NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE volume_uses (
        volume TEXT NOT NULL, container TEXT NOT NULL, PRIMARY KEY (volume, container)
    ) WITHOUT ROWID;
    CREATE INDEX volume_uses_container ON volume_uses (container);
    CREATE TRIGGER uses_go_with_their_container AFTER DELETE ON containers BEGIN
        DELETE FROM volume_uses WHERE container = old.id;
    END;
    """,
    """
    -- bridges of the switch. labels, options: JSON
    CREATE TABLE networks (
        id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, created_ns INTEGER NOT NULL, subnet TEXT NOT NULL,
        gateway TEXT NOT NULL, subnet6 TEXT NOT NULL, gateway6 TEXT NOT NULL, internal INTEGER NOT NULL,
        labels TEXT NOT NULL, options TEXT NOT NULL
    ) WITHOUT ROWID;
    -- places of containers in networks: for as long as the container exists. aliases: JSON
    CREATE TABLE endpoints (
        container TEXT NOT NULL, network TEXT NOT NULL, position INTEGER NOT NULL, ipv4 TEXT NOT NULL,
        mac TEXT NOT NULL, aliases TEXT NOT NULL, PRIMARY KEY (container, network)
    ) WITHOUT ROWID;
    CREATE UNIQUE INDEX endpoints_address ON endpoints (network, ipv4);
    CREATE TRIGGER places_go_with_their_container AFTER DELETE ON containers BEGIN
        DELETE FROM endpoints WHERE container = old.id;
    END;
    """,
    """
    -- ipv6: '' without one. links: other containers by a name of this one's: JSON, [ID, alias]
    ALTER TABLE endpoints ADD COLUMN ipv6 TEXT NOT NULL DEFAULT '';
    ALTER TABLE endpoints ADD COLUMN links TEXT NOT NULL DEFAULT '[]';
    CREATE UNIQUE INDEX endpoints_address6 ON endpoints (network, ipv6) WHERE ipv6 <> '';
    """,
    """
    -- ranges: '' for all of the subnet. auxiliary: addresses that no container gets, of both kinds, by name: JSON
    ALTER TABLE networks ADD COLUMN range TEXT NOT NULL DEFAULT '';
    ALTER TABLE networks ADD COLUMN range6 TEXT NOT NULL DEFAULT '';
    ALTER TABLE networks ADD COLUMN auxiliary TEXT NOT NULL DEFAULT '{}';
    """,
    """
    -- priority: by the place with the highest one a container's way out goes
    ALTER TABLE endpoints ADD COLUMN priority INTEGER NOT NULL DEFAULT 0;
    """,
    """
    -- asked: the addresses that were asked for, as docker's IPAMConfig: JSON
    ALTER TABLE endpoints ADD COLUMN asked TEXT NOT NULL DEFAULT '{}';
    """,
)
SCHEMA_VERSION: Final = len(_MIGRATIONS)


class Row(NamedTuple):
    """A container that exists.

    name: without a slash.
    created_ns: since the epoch.
    image: as it was asked for; image_id: what that was.
    policy: of restarts: ``no``, ``on-failure``, ``always``, ``unless-stopped``.
    summary: what a list shows of it: ``command``, ``labels``, ``network``, ``mounts``, ``ports``, ``exposed``.
    """

    id: str
    name: str
    created_ns: int
    image: str
    image_id: str
    policy: str
    summary: dict[str, Any]


class VolumeRow(NamedTuple):
    """A volume that exists. created_ns: since the epoch. anonymous: made for one container."""

    name: str
    created_ns: int
    anonymous: bool
    labels: dict[str, str]
    options: dict[str, str]


class NetworkRow(NamedTuple):
    """A network that exists.

    created_ns: since the epoch.
    subnet6, gateway6: "" without IPv6.
    range, range6: the part of a subnet that addresses are given out from; "" for all of it.
    auxiliary: addresses that are others', of both kinds, by name: no container gets one.
    """

    id: str
    name: str
    created_ns: int
    subnet: str
    gateway: str
    subnet6: str
    gateway6: str
    internal: bool
    labels: dict[str, str]
    options: dict[str, str]
    range: str = ""
    range6: str = ""
    auxiliary: dict[str, str] = {}  # noqa: RUF012 - nobody changes it


class EndpointRow(NamedTuple):
    """A container's place in a network.

    ipv4, ipv6: without prefix length; ipv6 is "" without one.
    links: ID of another container, and what it is called here.
    priority: the way out goes by the place with the highest one; of several, by the first.
    asked: the addresses that were asked for, as docker's ``IPAMConfig``.
    """

    container: str
    network: str
    position: int
    ipv4: str
    mac: str
    aliases: tuple[str, ...]
    ipv6: str = ""
    links: tuple[tuple[str, str], ...] = ()
    priority: int = 0
    asked: Mapping[str, str] = MappingProxyType({})


class Records:
    """The rows of one root. Thread-safe. Opened when first asked."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None

    def close(self) -> None:
        with self._lock:
            if self._connection is not None:
                shortlogs.close(self._connection, self._path)
                self._connection = None

    # Containers.

    def containers(self) -> list[Row]:
        """All, the newest first."""
        return [_row(found) for found in self._all(f"{_SELECT} ORDER BY created_ns DESC, id")]

    def container(self, ref: str) -> Row:
        """The container with this ID, else this name, else whose ID begins so. Raises ContainerNotFoundError."""
        wanted = ref.removeprefix("/")
        for where, value in (("id = ?", ref), ("name = ?", wanted)):
            if value and (found := self._all(f"{_SELECT} WHERE {where}", (value,))):
                return _row(found[0])
        if ref and not set(ref) - set("0123456789abcdef") and len(ref) < 64:
            found = self._all(f"{_SELECT} WHERE id >= ? AND id < ? LIMIT 2", (ref, f"{ref}g"))
            if len(found) == 1:
                return _row(found[0])
            if found:
                raise ConflictError(f"multiple IDs found with provided prefix: {ref}")
        raise ContainerNotFoundError(ref)

    def exists(self, identity: str) -> bool:
        """Whether a container has exactly this ID."""
        return bool(self._all("SELECT 1 FROM containers WHERE id = ?", (identity,)))

    def add(
        self, row: Row, volumes: Iterable[str] = (), then: Callable[[sqlite3.Connection], None] = lambda _: None
    ) -> None:
        """Let a container exist, which uses these volumes. Raises NameInUseError; ConflictError without a volume.

        then: called within the transaction.
        """
        used = list(volumes)
        with self.transaction() as connection:
            self._refuse_name(connection, row.name)
            for volume in used:
                if connection.execute("SELECT 1 FROM volumes WHERE name = ?", (volume,)).fetchone() is None:
                    raise ConflictError(f"volume {volume} was removed a moment ago")
            connection.execute(
                "INSERT INTO containers VALUES (?, ?, ?, ?, ?, ?, ?)",
                (*row[:-1], json.dumps(row.summary)),
            )
            connection.executemany("INSERT OR IGNORE INTO volume_uses VALUES (?, ?)", [(v, row.id) for v in used])
            then(connection)

    def rename(self, identity: str, name: str) -> None:
        """Raises NameInUseError and ContainerNotFoundError."""
        with self.transaction() as connection:
            self._refuse_name(connection, name)
            if not connection.execute("UPDATE containers SET name = ? WHERE id = ?", (name, identity)).rowcount:
                raise ContainerNotFoundError(identity)

    def set_policy(self, identity: str, policy: str) -> None:
        """How it is started again from now on."""
        with self.transaction() as connection:
            connection.execute("UPDATE containers SET policy = ? WHERE id = ?", (policy, identity))

    def remove(self, identity: str) -> bool:
        """Let a container exist no longer. Returns whether it did."""
        with self.transaction() as connection:
            return bool(connection.execute("DELETE FROM containers WHERE id = ?", (identity,)).rowcount)

    def _refuse_name(self, connection: sqlite3.Connection, name: str) -> None:
        taken = connection.execute("SELECT id FROM containers WHERE name = ?", (name,)).fetchone()
        if taken is not None:
            raise NameInUseError(
                f'Conflict. The container name "/{name}" is already in use by container "{taken[0]}". You have to'
                " remove (or rename) that container to be able to reuse that name."
            )

    # Volumes.

    def volumes(self) -> list[VolumeRow]:
        """All, by name."""
        return [_volume(found) for found in self._all("SELECT * FROM volumes ORDER BY name")]

    def volume(self, name: str) -> VolumeRow | None:
        """The volume of this name."""
        found = self._all("SELECT * FROM volumes WHERE name = ?", (name,))
        return _volume(found[0]) if found else None

    def add_volume(self, row: VolumeRow) -> bool:
        """Let a volume exist. Returns False when one of this name does."""
        with self.transaction() as connection:
            values = (row.name, row.created_ns, row.anonymous, json.dumps(row.labels), json.dumps(row.options))
            return bool(connection.execute("INSERT OR IGNORE INTO volumes VALUES (?, ?, ?, ?, ?)", values).rowcount)

    def remove_volume(self, name: str) -> list[str]:
        """Let a volume exist no longer, unless containers use it: their IDs are returned then, and nothing is done."""
        with self.transaction() as connection:
            users = [user for (user,) in connection.execute(_USERS, (name,))]
            if not users:
                connection.execute("DELETE FROM volumes WHERE name = ?", (name,))
            return users

    def users_of(self, volume: str) -> list[str]:
        """IDs of the containers that use a volume, sorted."""
        return [user for (user,) in self._all(_USERS, (volume,))]

    def volumes_of(self, container: str) -> list[str]:
        """Names of the volumes that a container uses, sorted."""
        return [name for (name,) in self._all(_USED, (container,))]

    # Networks.

    def networks(self) -> list[NetworkRow]:
        """All, by name."""
        return [_network(found) for found in self._all("SELECT * FROM networks ORDER BY name")]

    def network_in(self, connection: sqlite3.Connection, name: str) -> NetworkRow | None:
        """The network of this name, as a transaction sees it."""
        found = connection.execute("SELECT * FROM networks WHERE name = ?", (name,)).fetchone()
        return None if found is None else _network(found)

    def insert_network(self, connection: sqlite3.Connection, row: NetworkRow) -> None:
        """Let a network exist, within a transaction."""
        texts = (json.dumps(each) for each in (row.labels, row.options))
        values = (*row[:8], *texts, row.range, row.range6, json.dumps(row.auxiliary))
        connection.execute("INSERT INTO networks VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", values)

    def insert_endpoint(self, connection: sqlite3.Connection, row: EndpointRow) -> None:
        """Give a container a place in a network, within a transaction."""
        texts = (json.dumps(row.aliases), row.ipv6, json.dumps(row.links))
        values = (*row[:5], *texts, row.priority, json.dumps(dict(row.asked)))
        connection.execute("INSERT INTO endpoints VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", values)

    def set_networks(self, connection: sqlite3.Connection, row: Row, names: Iterable[str]) -> None:
        """Let a container's row name these networks, within a transaction."""
        summary = json.dumps({**row.summary, "networks": list(names)})
        connection.execute("UPDATE containers SET summary = ? WHERE id = ?", (summary, row.id))

    def remove_network(self, identity: str) -> list[str]:
        """Let a network exist no longer, unless containers are in it: their IDs are returned then."""
        with self.transaction() as connection:
            sql = "SELECT container FROM endpoints WHERE network = ? ORDER BY container"
            users = [user for (user,) in connection.execute(sql, (identity,))]
            if not users:
                connection.execute("DELETE FROM networks WHERE id = ?", (identity,))
            return users

    def endpoints_in(self, network: str) -> list[EndpointRow]:
        """The places in a network."""
        return [_endpoint(found) for found in self._all("SELECT * FROM endpoints WHERE network = ?", (network,))]

    def endpoints(self) -> dict[str, list[EndpointRow]]:
        """The places of all containers, by the container's ID, in their order."""
        found: dict[str, list[EndpointRow]] = {}
        for row in self._all("SELECT * FROM endpoints ORDER BY container, position"):
            found.setdefault(row[0], []).append(_endpoint(row))
        return found

    def endpoints_of(self, container: str) -> list[EndpointRow]:
        """The places of a container, in their order."""
        sql = "SELECT * FROM endpoints WHERE container = ? ORDER BY position"
        return [_endpoint(found) for found in self._all(sql, (container,))]

    # The database.

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Hold the one write lock of all processes; commit at the end, roll back on an exception."""
        with self._lock, self._translated():
            connection = self._open(make=True)
            assert connection is not None
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def _all(self, sql: str, parameters: Iterable[Any] = ()) -> list[Any]:
        with self._lock, self._translated():
            connection = self._open(make=False)
            return [] if connection is None else connection.execute(sql, tuple(parameters)).fetchall()

    def _open(self, *, make: bool) -> sqlite3.Connection | None:
        """make: the database where there is none; else None."""
        if self._connection is None:
            if not make and not self._path.exists():
                return None
            connection = sqlite3.connect(
                self._path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
            )
            try:
                _prepare(connection, self._path)
            except BaseException:
                connection.close()
                raise
            self._connection = connection
        return self._connection

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise _as_error(error, self._path) from error


_SELECT: Final = "SELECT id, name, created_ns, image, image_id, policy, summary FROM containers"
_USERS: Final = "SELECT container FROM volume_uses WHERE volume = ? ORDER BY container"
_USED: Final = "SELECT volume FROM volume_uses WHERE container = ? ORDER BY volume"


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    execute = connection.execute
    if _version(connection) != SCHEMA_VERSION:
        execute("PRAGMA journal_mode=WAL")
        execute("BEGIN IMMEDIATE")  # another process may be about to make it, too
        version = _version(connection)
        if version > SCHEMA_VERSION:
            execute("ROLLBACK")
            raise RecordsError(
                f"{path} has schema {version}; this Shiplap knows schemas up to {SCHEMA_VERSION}",
                hint="use the newer Shiplap that wrote it, or another --root",
            )
        for script in _MIGRATIONS[version:]:
            for statement in statements(script):
                execute(statement)
        execute(f"PRAGMA user_version={SCHEMA_VERSION}")
        execute("COMMIT")
    execute("PRAGMA synchronous=FULL")


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _row(found: Any) -> Row:
    identity, name, created_ns, image, image_id, policy, summary = found
    return Row(identity, name, created_ns, image, image_id, policy, json.loads(summary))


def _volume(found: Any) -> VolumeRow:
    return VolumeRow(found[0], found[1], bool(found[2]), json.loads(found[3]), json.loads(found[4]))


def _network(found: Any) -> NetworkRow:
    return NetworkRow(
        found[0], found[1], found[2], found[3], found[4], found[5], found[6], bool(found[7]),
        json.loads(found[8]), json.loads(found[9]), found[10], found[11], json.loads(found[12]),
    )  # fmt: skip


def _endpoint(found: Any) -> EndpointRow:
    links = tuple((identity, alias) for identity, alias in json.loads(found[7]))
    aliases, asked = tuple(json.loads(found[5])), json.loads(found[9])
    return EndpointRow(found[0], found[1], found[2], found[3], found[4], aliases, found[6], links, found[8], asked)


def _as_error(error: sqlite3.Error, path: Path) -> Exception:
    if told := full_or_held(error, path, BUSY_TIMEOUT_S, RecordsError):
        return told
    return RecordsError(f"{path}: {error}", hint="is it damaged, or another user's? shiplap needs to read and write it")
