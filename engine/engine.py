"""The door of the engine: what a command, or the Engine API, asks for, in docker's words and documents."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

from containers.errors import KeeperError
from core.closing import Closing
from core.release import VERSION
from engine.errors import ConflictError
from engine.keepers import Keepers
from engine.places import Places
from engine.records import Records, Row
from engine.state import State, read

if TYPE_CHECKING:
    from pathlib import Path

    from containers.keeper.protocol import Conversation
    from core.platforms import Platform
    from core.settings import Settings
    from engine.callers import Caller
    from engine.changes import Change
    from engine.files import Files
    from engine.lifecycle import Lifecycle
    from engine.logs import LogEntry, LogReader
    from engine.looking import Looker
    from engine.making import Created, Maker
    from engine.networks import Networks
    from engine.removing import Remover
    from engine.volumes import Volumes
    from images.store import Store


class Engine(Closing):
    """The containers of one root. Thread-safe. Opening does nothing: each thing is opened when first needed.

    The parts are imported when they are first needed, too: a short command is twice as fast by that.

    Where a method takes ``ref``, that is an ID, a name, or the beginning of an ID. Each raises
    ContainerNotFoundError, and ConflictError when several IDs begin so.
    """

    def __init__(
        self,
        places: Places,
        *,
        store: Store | None = None,
        keepers: Keepers | None = None,
        denied_networks: str = "",
        uplink: str = "auto",
        caller: Caller | None = None,
    ) -> None:
        """store: an open one that the caller closes; else one is opened for each call that needs it.

        uplink: how containers reach the outside, as in ``core.settings``.
        denied_networks: what processes that the engine starts for a moment are not to reach.
        caller: for whom it works; None is this process's own user.
        """
        self._asked_caller = caller
        self.places = places
        self.records = Records(places.database)
        self._given = store
        self._denied_networks = denied_networks
        self._uplink = uplink
        self.keepers = keepers or Keepers(places)

    @cached_property
    def _caller(self) -> Caller:
        from engine.callers import Caller

        return self._asked_caller or Caller.own()

    @property
    def caller(self) -> Caller:
        """For whom it works."""
        return self._caller

    @cached_property
    def volumes(self) -> Volumes:
        """Its volumes."""
        from engine.volumes import Volumes

        return Volumes(self.places, self.records, self._note_volume)

    @cached_property
    def networks(self) -> Networks:
        """Its networks."""
        from engine.networks import Networks

        return Networks(self.records, self._note_network)

    @cached_property
    def _maker(self) -> Maker:
        from engine.making import Maker

        return Maker(
            self.places, self.records, self._store, self._note, self.volumes, self.networks, self._remover,
            self._denied_networks,
        )  # fmt: skip

    @cached_property
    def _remover(self) -> Remover:
        from engine.removing import Remover

        return Remover(self.places, self.records, self._store, self._note, self.volumes)

    @cached_property
    def _looker(self) -> Looker:
        from engine.looking import Looker

        return Looker(self.places, self.records, self._image_bytes, self._image_ids, self._is_old)

    @cached_property
    def _life(self) -> Lifecycle:
        from engine.lifecycle import Lifecycle

        denied = tuple(filter(None, (part.strip() for part in self._denied_networks.split(","))))
        return Lifecycle(
            self.places, self.records, self._remover, self.keepers, self._store, self._note, self.networks, denied,
            self._uplink,
        )  # fmt: skip

    @classmethod
    def open(cls, settings: Settings, *, store: Store | None = None) -> Self:
        """The engine of a root. store: as for ``__init__``."""
        return cls(
            Places.of(settings.root), store=store, denied_networks=settings.denied_networks, uplink=settings.uplink
        )

    @classmethod
    def open_for(cls, settings: Settings, caller: Caller) -> Self:
        """The caller's own engine, with root's means. Raises NotDoneError for who may not have one."""
        from engine.callers import places_of

        return cls(
            places_of(settings.root, caller),
            denied_networks=settings.denied_networks,
            uplink=settings.uplink,
            caller=caller,
        )

    @classmethod
    def open_for_job(cls, settings: Settings, caller: Caller) -> Self:
        """The engine that a job has for itself, in this process's root."""
        return cls(
            Places.of(settings.root),
            denied_networks=settings.denied_networks,
            uplink=settings.uplink,
            caller=caller,
        )

    def close(self) -> None:
        self.records.close()

    # Looking: nothing is started by it.

    def containers(
        self, *, every: bool = False, filters: Any = None, limit: int = 0, sizes: bool = False
    ) -> list[dict[str, Any]]:
        """As docker's ``GET /containers/json``, the newest first. See ``Looker.containers``."""
        return self._looker.containers(every=every, filters=filters, limit=limit, sizes=sizes)

    def inspect(self, ref: str, *, size: bool = False) -> dict[str, Any]:
        """As docker's ``GET /containers/ID/json``."""
        return self._looker.inspect(ref, size=size)

    def state(self, ref: str) -> State:
        """What became of a container."""
        return read(self.places.container(self.records.container(ref).id))

    def logs(
        self,
        ref: str,
        *,
        since: str = "",
        until: str = "",
        tail: int | None = None,
        stdout: bool = True,
        stderr: bool = True,
        follow: bool = False,
    ) -> Iterator[LogEntry]:
        """What it wrote. since, until: moments as docker takes them; tail: the last entries only, None for all.

        follow: go on until it has ended. Raises InvalidRequestError, also for a container whose log nobody keeps.
        """
        from engine.logs import Wanted
        from engine.times import asked_moment

        wanted = Wanted(asked_moment(since), asked_moment(until), tail, stdout, stderr)
        row = self.records.container(ref)
        reader = self.log_reader(row.id)
        if not follow:
            return reader.past(wanted)
        return reader.following(wanted, lambda: read(self.places.container(row.id)).is_up)

    def log_reader(self, ref: str) -> LogReader:
        """A reader of its log, which tells how far it has come. Raises ConflictError where there is no log."""
        from engine import spec
        from engine.logs import LogReader

        directory = self.directory(ref)
        if spec.read(directory)["log"]["driver"] == "none":
            raise ConflictError("configured logging driver does not support reading")
        return LogReader(directory)

    def top(self, ref: str, arguments: str = "") -> dict[str, Any]:
        """As docker's ``GET /containers/ID/top``. arguments: for ps(1)."""
        from engine.top import top

        row = self.records.container(ref)
        state = read(self.places.container(row.id))
        if not state.has_process:
            raise ConflictError(f"container {row.id} is not running")
        all_states = (read(self.places.container(each.id)) for each in self.records.containers())
        found = top(state.pid, arguments, self._caller, [other.pid for other in all_states if other.has_process])
        self._note(row, "top")
        return found

    def stats(self, ref: str, before: dict[str, Any] | None = None) -> tuple[dict[str, Any], dict[str, Any] | None]:
        """As docker's ``GET /containers/ID/stats``, and what to give as ``before`` the next time."""
        from engine.stats import document

        row = self.records.container(ref)
        counted = None
        if read(self.places.container(row.id)).has_process:
            with contextlib.suppress(KeeperError), self.keepers.connect(row.id) as keeper:
                counted, _ = keeper.ask("stats")
        return document(row.id, row.name, counted, before), counted

    def changes(self, ref: str) -> list[Change]:
        """See ``Files.changes``."""
        return self.files.changes(ref)

    def ports(self, ref: str) -> dict[str, Any]:
        """The ports that it publishes, as ``NetworkSettings.Ports`` has them."""
        found: dict[str, Any] = self.inspect(ref)["NetworkSettings"]["Ports"]
        return found

    def events(
        self, *, since: str = "", until: str = "", filters: Any = None, follow: bool = True
    ) -> Iterator[dict[str, Any]]:
        """What happened, as docker's documents. since, until: as docker takes them; follow: wait for what comes."""
        from engine.events import EventReader
        from engine.times import asked_moment

        reader = EventReader(self.places.run)
        return reader.read(since_ns=asked_moment(since), until_ns=asked_moment(until), filters=filters, follow=follow)

    def info(self) -> dict[str, Any]:
        """As docker's ``GET /info``."""
        from engine.hostinfo import document

        with self._store() as store:
            images = len(store.images.list())
        return document(self.places, [state for _, state in self._looker.states()], images, time.time_ns())

    def disk_usage(self) -> dict[str, Any]:
        """As docker's ``GET /system/df``."""
        from engine.usage import document

        with self._store() as store:
            return document(self._looker, store, self.volumes.usage())

    @property
    def files(self) -> Files:
        """Its containers' files, from outside: ``copy_out``, ``copy_in``, ``stat``, ``export``, ``commit``."""
        from engine.files import Files

        return Files(
            self.places, self.records, self._life, self.keepers, self._store, self._note, self._denied_networks
        )

    def directory(self, ref: str) -> Path:
        """Where its files are."""
        return self.places.container(self.records.container(ref).id)

    # Life.

    def create(self, name: str | None, body: Any, *, platform: Platform | None = None) -> Created:
        """Make a container of docker's create body, of an image that is in the store.

        name: None: one is made up.
        Raises InvalidRequestError, NotDoneError, NoSuchImageError, NameInUseError, StorageFullError.
        """
        return self._maker.create(name, body, self._caller, platform)

    def start(self, ref: str) -> None:
        """See ``Lifecycle.start``."""
        self._life.start(ref)

    def stop(self, ref: str, *, timeout_s: int | None = None, signal: str | None = None) -> None:
        """See ``Lifecycle.stop``."""
        self._life.stop(ref, timeout_s=timeout_s, signal=signal)

    def restart(self, ref: str, *, timeout_s: int | None = None, signal: str | None = None) -> None:
        """See ``Lifecycle.restart``."""
        self._life.restart(ref, timeout_s=timeout_s, signal=signal)

    def kill(self, ref: str, signal: str = "KILL") -> None:
        """See ``Lifecycle.kill``."""
        self._life.kill(ref, signal)

    def pause(self, ref: str) -> None:
        """See ``Lifecycle.pause``."""
        self._life.pause(ref)

    def unpause(self, ref: str) -> None:
        """See ``Lifecycle.unpause``."""
        self._life.unpause(ref)

    def resize(self, ref: str, rows: int, columns: int) -> None:
        """See ``Lifecycle.resize``."""
        self._life.resize(ref, rows, columns)

    def wait(self, ref: str, condition: str = "not-running") -> int:
        """See ``Waiter.wait``."""
        from engine.waiting import Waiter

        return Waiter(self.places, self.records, self.keepers).wait(ref, condition)

    def rename(self, ref: str, new: str) -> None:
        """See ``Lifecycle.rename``."""
        self._life.rename(ref, new)

    def connect(self, network: str, ref: str, settings: Any = None) -> None:
        """See ``Lifecycle.connect``."""
        self._life.connect(network, ref, settings)

    def disconnect(self, network: str, ref: str, *, force: bool = False) -> None:
        """See ``Lifecycle.disconnect``."""
        self._life.disconnect(network, ref, force=force)

    def remove_network(self, ref: str) -> None:
        """Remove a network that no container is in, with its bridge. Raises NetworkNotFoundError, ConflictError."""
        self._life.forget(self.networks.remove(ref))

    def prune_networks(self, filters: Any = None) -> list[str]:
        """Remove the networks that no container is in; their names."""
        removed = self.networks.prune(filters)
        for row in removed:
            self._life.forget(row)
        return [row.name for row in removed]

    def update(self, ref: str, body: Any) -> list[str]:
        """See ``Lifecycle.update``."""
        from engine import privileges
        from engine.fields import Fields

        privileges.check_caller(Fields(body, "body"), self._caller)
        return self._life.update(ref, body)

    def remove(self, ref: str, *, force: bool = False, volumes: bool = False) -> None:
        """See ``Lifecycle.remove``."""
        self._life.remove(ref, force=force, volumes=volumes)

    def remove_ended(self, identity: str) -> None:
        """See ``Lifecycle.remove_ended``."""
        self._life.remove_ended(identity)

    def attach(self, ref: str, fields: dict[str, Any], fds: Sequence[int]) -> Conversation:
        """Bind a client's socket, or its stdin, stdout and stderr, to its streams, before it starts or while it runs.

        fields: as the keeper's verb ``attach`` has them.

        Returns the connection to its keeper: ``ended`` comes there when that is over. Raises ConflictError when it is
        paused, and what the keeper refuses.
        """
        row = self.records.container(ref)
        state = read(self.places.container(row.id))
        if state.status == "paused":
            raise ConflictError(f"container {row.id} is paused, unpause the container before attach")
        keeper = self.keepers.connect(row.id) if state.is_up else self.keepers.summon(row.id)
        try:
            keeper.ask("attach", fields, fds)
        except BaseException:
            keeper.close()
            raise
        return keeper

    def execute(self, ref: str, fields: dict[str, Any], fds: Sequence[int]) -> tuple[Conversation, dict[str, Any]]:
        """Run a command in it. fields: as the keeper's verb ``exec`` has them; fds: as for ``attach``, or none.

        Returns the connection to its keeper, on which ``ended`` with the exit code comes, and what it answered:
        ``exec`` (an ID) and ``pid``. Raises ConflictError when it does not run or is paused, and what the keeper
        refuses.
        """
        row = self.records.container(ref)
        state = read(self.places.container(row.id))
        if not state.has_process:
            raise ConflictError(f"container {row.id} is not running")
        if state.status == "paused":
            raise ConflictError(f"Container {row.id} is paused, unpause the container before exec")
        from containers.keeper.protocol import BEGIN_TIMEOUT_S

        keeper = self.keepers.connect(row.id)
        try:
            answer, _ = keeper.ask("exec", fields, fds, timeout_s=BEGIN_TIMEOUT_S)
        except BaseException:
            keeper.close()
            raise
        return keeper, answer

    def prune_containers(self, filters: Any = None) -> tuple[list[str], int]:
        """See ``prune.containers``."""
        from engine import prune

        return prune.containers(self._looker, self._life, filters)

    # What the parts above need.

    @contextlib.contextmanager
    def _store(self) -> Iterator[Store]:
        if self._given is not None:
            yield self._given
            return
        from images.store import Store

        with Store.open(self.places.root) as store:
            yield store

    def _note(self, row: Row, action: str, **attributes: str) -> None:
        known = {**row.summary["labels"], "image": row.image, "name": row.name}
        self._append("container", action, row.id, {**known, **attributes})

    def _note_network(self, identity: str, action: str, attributes: dict[str, str]) -> None:
        self._append("network", action, identity, attributes)

    def _note_volume(self, name: str, action: str) -> None:
        self._append("volume", action, name, {"driver": "local"})

    def _append(self, kind: str, action: str, identity: str, attributes: dict[str, str]) -> None:
        from containers.keeper import eventlog

        eventlog.append(str(self.places.run), kind, action, identity, attributes)

    def _image_bytes(self, image: str) -> int:
        from core.digests import Digest
        from images.errors import ImageNotFoundError

        with self._store() as store:
            try:
                return store.images.get(Digest(image)).size_bytes
            except ImageNotFoundError:
                return 0

    def _image_ids(self, text: str) -> Sequence[str]:
        """The image that a filter names, and those that have all its layers below others."""
        from images.errors import AmbiguousImageError, ImageNotFoundError

        with self._store() as store:
            try:
                found = store.images.resolve(text)
            except (ImageNotFoundError, AmbiguousImageError):
                return ()
            layers = found.diff_ids
            return [str(image.id) for image in store.images.list() if image.diff_ids[: len(layers)] == layers]

    def _is_old(self, identity: str) -> bool:
        """Whether its keeper is of another release."""
        try:
            with self.keepers.connect(identity) as keeper:
                return keeper.release != VERSION
        except KeeperError:
            return False
