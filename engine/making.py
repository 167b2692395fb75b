"""Letting containers exist, in such an order that a kill at any instant is undone.

Made: the directory aside, with its lock; the volumes; the pins of its layers; the rest of the directory, renamed; the
row. Whoever makes one holds its lock all the while; what a kill leaves is cleared away by the next (``removing``).
"""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from core import namespaces
from core.digests import DiffID, Digest
from core.files import fsync_directory, storage_errors
from engine import callers, config, documents, hostconfig, locking, netconfig, privileges, published, spec
from engine.callers import Caller
from engine.errors import ConflictError, InvalidRequestError, NameInUseError, NoSuchImageError
from engine.fields import Fields
from engine.mounts import Planned, Planner
from engine.networks import Networks, WantedEndpoint, allocate
from engine.places import Places
from engine.randomnames import suggestion
from engine.records import Records, Row
from engine.removing import NEW, Remover, discard, doom
from engine.spec import Origin
from engine.views import Views
from engine.volumes import Volumes
from images.errors import ImageNotFoundError
from images.snapshots import fill_upper

if TYPE_CHECKING:
    from core.platforms import Platform
    from core.rootfs import RootLayer
    from images.store import Store
    from images.summary import Image

_NAME: Final = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+", re.ASCII)
_MOST_TRIES: Final = 12
_MOST_MOMENTS: Final = 1000
_MOMENT_S: Final = 0.002
_BODY: Final = frozenset({
    "Hostname", "Domainname", "User", "AttachStdin", "AttachStdout", "AttachStderr", "ExposedPorts", "Tty",
    "OpenStdin", "StdinOnce", "Env", "Cmd", "Healthcheck", "ArgsEscaped", "Image", "Volumes", "WorkingDir",
    "Entrypoint", "NetworkDisabled", "MacAddress", "OnBuild", "Labels", "StopSignal", "StopTimeout", "Shell",
    "HostConfig", "NetworkingConfig", "Name", "platform",
})  # fmt: skip


class Created(NamedTuple):
    """A container that was made. warnings: for whoever asked."""

    id: str
    warnings: list[str]


class Maker:
    """Makes the containers of one root. store: opens it for a context; asked only when needed."""

    def __init__(
        self,
        places: Places,
        records: Records,
        store: Callable[[], contextlib.AbstractContextManager[Store]],
        note: Callable[..., None],
        volumes: Volumes,
        networks: Networks,
        remover: Remover,
        denied_networks: str,
    ) -> None:
        self._places = places
        self._records = records
        self._store = store
        self._note = note
        self._volumes = volumes
        self._networks = networks
        self._remover = remover
        self._denied_networks = denied_networks

    def create(self, name: str | None, body: Any, caller: Caller, platform: Platform | None = None) -> Created:
        """Make a container of docker's create body.

        Durable when it returns. Raises InvalidRequestError, NotDoneError, NoSuchImageError, NameInUseError,
        StorageFullError, and what making the layers ready raises.
        """
        fields = Fields(body, "body")
        identity = _new_identity()
        if name is not None:
            name = checked_name(name)
        warnings = [
            f"{field} is not known to this engine, and is passed over" for field in fields.names() if field not in _BODY
        ]
        privileges.check_caller(fields.inner("HostConfig"), caller)
        host = hostconfig.read(fields.inner("HostConfig"))
        netconfig.check_own(fields, host.network)
        with self._store() as store:
            origin = fields.text("Image")
            image = resolve(store, origin, platform)
            network = host.network
            if network.mode == "host":
                refuse_host_network(caller)
                if published.wanted(fields.inner("HostConfig"), ()):
                    warnings.append("Published ports are discarded when using host network mode")
                if not fields.text("Hostname"):
                    fields = Fields({**body, "Hostname": os.uname().nodename}, "body")
            host = host.resolved(lambda ref: self._records.container(ref).id)
            asked = config.read(fields, image.config.config, identity)
            self._places.make()
            self._remover.tidy(store)
            planned = self._planned(store, fields, asked, caller)
            endpoints = (
                self._networks.wanted(fields, host.network.mode, host.network.links) if host.network.has_place else []
            )
            ports = (
                published.wanted(fields.inner("HostConfig"), asked.document.get("ExposedPorts", ()))
                if endpoints
                else []
            )
            callers.check_ports(caller, ports)
            made = _Wanted(
                identity, name, time.time_ns(), caller, image, origin, asked, host, planned, endpoints, ports
            )
            with self._being_made(store, identity) as aside, self._volumes_for(planned, aside):
                row = self._made(store, made, aside)
        self._note(row, "create")
        return Created(identity, [*warnings, *host.warnings, *callers.warnings(caller, planned.mounts)])

    def _made(self, store: Store, wanted: _Wanted, aside: Path) -> Row:
        """Pin what it is made of, fill its directory, and let it exist."""
        image, planned = wanted.image, wanted.planned
        layers = store.snapshots.lowers(image.diff_ids)
        store.pinned.pin(wanted.identity, image.id, image.diff_ids)
        for identity, diff_ids in planned.images:
            store.pinned.pin(wanted.identity, Digest(identity), [DiffID(diff_id) for diff_id in diff_ids])
        self._fill(store, layers, planned)
        with storage_errors("a container"):
            os.mkdir(aside / "upper", 0o700)
            fill_upper(str(aside / "upper"), layers)
            for below in ("etc", "log"):
                os.mkdir(aside / below, 0o700)
        document = spec.build(
            wanted.identity,
            wanted.created_ns,
            wanted.caller,
            Origin(str(image.id), wanted.origin, tuple(image.diff_ids)),
            wanted.config,
            wanted.host,
            self._bound(store, wanted, layers),
            {"endpoints": [], "ports": wanted.ports} if wanted.endpoints else wanted.host.network.mode,
            self._places.container(wanted.identity),
        )
        return self._add(wanted, aside, spec.with_layers(document, store.snapshots.lowers))

    def _bound(self, store: Store, wanted: _Wanted, layers: Sequence[RootLayer]) -> list[Any]:
        """Its mounts, with what is to be known of the caller at binds."""

        def inside() -> tuple[int, int]:
            with contextlib.ExitStack() as stack:
                views = stack.enter_context(Views(store.tmp, self._denied_networks))
                view = views.of(layers) if layers else os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
                stack.callback(os.close, view)
                return callers.numbers_of(wanted.config.document["User"], view)

        return callers.bound(wanted.caller, wanted.planned.mounts, inside)

    def _place(self, connection: sqlite3.Connection, wanted: _Wanted) -> None:
        allocate(self._records, connection, wanted.identity, wanted.endpoints)

    @contextlib.contextmanager
    def _being_made(self, store: Store, identity: str) -> Iterator[Path]:
        """A new directory beside the others, locked; when the block fails nothing of the container stays."""
        aside = self._places.containers / f"{NEW}{identity}"
        with storage_errors("a container"):
            lock = _locked(aside)
        try:
            yield aside
        except BaseException:
            self._records.remove(identity)
            for directory in (aside, self._places.container(identity)):
                discard(directory)
            store.pinned.drop([identity])
            raise
        finally:
            os.close(lock)

    def _planned(self, store: Store, fields: Fields, asked: config.Config, caller: Caller) -> Planned:
        def options_of(name: str) -> dict[str, str] | None:
            row = self._records.volume(name)
            return None if row is None else row.options

        def image_of(name: str) -> tuple[str, list[str]]:
            image = resolve(store, name, None)
            return str(image.id), [str(diff_id) for diff_id in image.diff_ids]

        def mounts_of(ref: str) -> list[tuple[dict[str, Any], dict[str, Any]]]:
            row = self._records.container(ref)
            try:
                document = spec.read(self._places.container(row.id))
            except FileNotFoundError as error:
                raise ConflictError(f"container {row.id} has lost its files") from error
            made = {mount["target"]: mount for mount in document["mounts"]}
            return [(shown, made[shown["Destination"]]) for shown in row.summary["mounts"]]

        planner = Planner(self._places, caller, mounts_of, options_of, image_of)
        return planner.plan(fields.inner("HostConfig"), asked.volumes)

    @contextlib.contextmanager
    def _volumes_for(self, planned: Planned, aside: Path) -> Iterator[None]:
        """Make the volumes that are missing; when the block fails, the anonymous ones go again."""
        anonymous = [wanted.name for wanted in planned.volumes if wanted.is_anonymous]
        with storage_errors("a container"):
            doom(aside, anonymous)
            if anonymous:
                fsync_directory(aside.parent)  # after a power loss, too, it says what the volumes' rows are there for
        try:
            for wanted in planned.volumes:
                labels, options = wanted.labels, wanted.options
                self._volumes.ensure(wanted.name, is_anonymous=wanted.is_anonymous, labels=labels, options=options)
            yield
        except BaseException:
            self._volumes.remove_anonymous(anonymous)
            raise

    def _fill(self, store: Store, layers: Sequence[RootLayer], planned: Planned) -> None:
        """Let volumes that are empty have what the image has at their places."""
        if not planned.fresh or not layers:
            return
        from engine.filling import fill

        with Views(store.tmp, self._denied_networks) as views:
            view = views.of(layers)
            try:
                for volume, target in planned.fresh:
                    fill(store, view, target, self._places.volumes / volume)
            finally:
                os.close(view)

    def _add(self, wanted: _Wanted, aside: Path, document: dict[str, Any]) -> Row:
        """Put the directory into its place, and let the container exist, under a name that is free."""
        place = self._places.container(wanted.identity)
        volumes = [volume.name for volume in wanted.planned.volumes]
        for attempt in range(_MOST_TRIES):
            row = wanted.row(wanted.name or suggestion(attempt))
            with storage_errors("a container"):
                spec.write(aside if attempt == 0 else place, {**document, "name": row.name})
                if attempt == 0:
                    os.rename(aside, place)
                    fsync_directory(self._places.containers)
            try:
                self._records.add(row, volumes, lambda connection: self._place(connection, wanted))
                return row
            except NameInUseError:
                if wanted.name is not None or attempt == _MOST_TRIES - 1:
                    raise
        raise AssertionError("the last attempt raises")


class _Wanted(NamedTuple):
    """A container that is to be made.

    name: None for one that is made up.
    origin: the image as it was asked for.
    endpoints: its places in networks; none for the mode ``none``.
    ports: as ``published.wanted`` has them.
    """

    identity: str
    name: str | None
    created_ns: int
    caller: Caller
    image: Image
    origin: str
    config: config.Config
    host: hostconfig.HostConfig
    planned: Planned
    endpoints: list[WantedEndpoint]
    ports: list[dict[str, Any]]

    def row(self, name: str) -> Row:
        """Its row under this name."""
        names = [each.network.name for each in self.endpoints]
        if not names and not self.host.network.joined:
            names = [self.host.network.mode]
        shown = documents.summary(self.config.document, self.host.document, self.planned.shown, names)
        policy = self.host.restart["policy"]
        return Row(self.identity, name, self.created_ns, self.origin, str(self.image.id), policy, shown)


def _locked(aside: Path) -> int:
    """Make a directory, and take its lock. Raises OSError, ConflictError.

    For a moment it is there without anybody who holds the lock: another creator may take it for what a kill has left,
    and clear it away. Then it is made again.
    """
    for _ in range(_MOST_MOMENTS):
        with contextlib.suppress(FileExistsError):
            os.mkdir(aside, 0o700)
        with contextlib.suppress(FileNotFoundError):
            lock = locking.take(aside, make=True)
            if lock is not None:
                if locking.is_of(lock, aside):
                    return lock
                os.close(lock)
        time.sleep(_MOMENT_S)
    raise ConflictError(f"somebody clears {aside} away again and again")


def checked_name(name: str) -> str:
    """The name without its slash. Raises InvalidRequestError when it is none."""
    bare = name.removeprefix("/")
    if not _NAME.fullmatch(bare):
        raise InvalidRequestError(f"Invalid container name ({bare}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")
    return bare


def refuse_host_network(caller: Caller) -> None:
    """Raise InvalidRequestError unless the caller is the host's root."""
    if caller.uid != 0 or not namespaces.is_initial():
        raise InvalidRequestError(
            "--network host is for the host's root: what is in the host's network reaches all that listens at its"
            " loopback, too",
            hint="publish ports with -p; --add-host NAME:host-gateway reaches the host",
        )


def resolve(store: Store, text: str, platform: Platform | None) -> Image:
    """The image that a create body names. Raises NoSuchImageError."""
    if not text:
        raise InvalidRequestError("no image specified")
    try:
        return store.images.resolve(text, platform)
    except ImageNotFoundError as error:
        shown = text if ":" in text.rpartition("/")[2] or "@" in text else f"{text}:latest"
        raise NoSuchImageError(f"No such image: {shown}", hint=error.hint) from error


def _new_identity() -> str:
    while True:
        identity = os.urandom(32).hex()
        if not identity[:12].isdecimal():  # as a host name it would be taken for a number
            return identity
