"""A container's life: start, stop, kill, pause, rename, update, remove. Its keeper does it; this asks."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Final

from containers.errors import ContainerError, KeeperError, NetworkError, StateError
from containers.keeper import protocol
from containers.switch import open_switch
from core.cancellation import check
from core.errors import ShiplapError
from engine import hostconfig, locking, sharing, spec, wiring
from engine.config import DEFAULT_STOP_TIMEOUT_S, signal_number
from engine.errors import ConflictError, ContainerNotFoundError, InvalidRequestError, NotFoundError, UnchangedError
from engine.fields import Fields
from engine.keepers import Keepers
from engine.making import checked_name
from engine.networks import DEFAULT, Networks
from engine.places import Places
from engine.records import EndpointRow, NetworkRow, Records, Row
from engine.removing import Remover
from engine.state import State, note_failure, read
from engine.times import NEVER

if TYPE_CHECKING:
    from pathlib import Path

    from images.store import Store

_LOOK_EACH_S: Final = 0.02
_END_S: Final = 60.0
"""How long a keeper may take to end after its container: it syncs a file, and closes."""

_FORCED_S: Final = 5.0
"""How long a keeper may take to let go of a network before that is taken from it."""

_KILL: Final = 9
_KILLED_S: Final = 10.0
"""How long a process may take to end by SIGKILL: one that the kernel holds up ends later."""


class Lifecycle:
    """What happens to the containers of one root."""

    def __init__(
        self,
        places: Places,
        records: Records,
        remover: Remover,
        keepers: Keepers,
        store: Callable[[], AbstractContextManager[Store]],
        note: Callable[..., None],
        networks: Networks,
        denied: tuple[str, ...],
        uplink: str,
    ) -> None:
        self._places = places
        self._records = records
        self._remover = remover
        self._keepers = keepers
        self._store = store
        self._note = note
        self._networks = networks
        self._denied = denied
        self._uplink = uplink

    def start(self, ref: str) -> None:
        """Start it; its command has been executed when this returns. Raises UnchangedError when it runs, and the
        ContainerError of what does not work.
        """
        row, state = self._found(ref)
        if state.status == "paused":
            raise ConflictError("cannot start a paused container, try unpause instead")
        if state.status in ("running", "restarting"):
            raise UnchangedError(f"container {row.id} is running")
        directory = self._places.container(row.id)
        is_asked = False
        try:
            self._refuse_dead_links(row)
            self._refuse_dead_neighbour(row)
            self.make_ready(row)
            document = spec.read(directory)
            with wiring.ready(self._places, self._records, row, document, self._denied, self._uplink) as (network, fds):
                if network != document["network"]:
                    spec.write(directory, {**document, "network": network})
                with self._keepers.summon(row.id) as keeper:
                    is_asked = True
                    self._ask_to_start(keeper, fds, directory)
        except ShiplapError as error:
            if not is_asked:  # else its keeper has written it down
                with contextlib.suppress(OSError):
                    note_failure(directory, error.message)
            raise

    @staticmethod
    def _ask_to_start(keeper: protocol.Conversation, fds: list[int], directory: Path) -> None:
        try:
            keeper.ask("start", fds=fds, timeout_s=protocol.BEGIN_TIMEOUT_S)
        except StateError:
            if not read(directory).has_process:
                raise  # else its policy, or somebody else, was quicker: it runs, as was asked for

    def _refuse_dead_links(self, row: Row) -> None:
        """Raise ConflictError where a container of the default network is linked to one that is not in it, or does not
        run.
        """
        for identity, alias in self._networks.links_in_default(row.id):
            if not self._records.exists(identity):
                raise ConflictError(f"Cannot link to a removed container: {identity} AS /{row.name}/{alias}")
            other = self._records.container(identity)
            if DEFAULT not in other.summary["networks"]:
                raise ConflictError(f"Cannot link to /{other.name}, as it does not belong to the default network")
            if not read(self._places.container(identity)).has_process:
                raise ConflictError(f"Cannot link to a non running container: /{other.name} AS /{row.name}/{alias}")

    def _refuse_dead_neighbour(self, row: Row) -> None:
        """Raise ConflictError where a container whose namespaces it has does not run."""
        host = spec.read(self._places.container(row.id))["asked"]["HostConfig"]
        for mode, identity in sharing.joined(host).items():
            try:
                known = self._records.container(identity)
            except ContainerNotFoundError as error:
                raise ConflictError(_NOT_THERE[mode].format(identity)) from error
            if not read(self._places.container(known.id)).has_process:
                raise ConflictError(_NOT_RUNNING[mode].format(identity))

    def make_ready(self, row: Row) -> None:
        """Have the layers of a container mountable, and named in its ``spec.json``: a reboot drops what was made."""
        directory = self._places.container(row.id)
        document = spec.read(directory)
        with self._store() as store:
            ready = spec.with_layers(document, store.snapshots.lowers)
            if ready != document:
                spec.write(directory, ready)

    def stop(self, ref: str, *, timeout_s: int | None = None, signal: str | None = None) -> None:
        """Send its stop signal, and SIGKILL when it has not ended after ``timeout_s`` (None: its own; -1: never).

        It has ended when this returns. Raises UnchangedError when it does not run.
        """
        row, state = self._found(ref)
        if not state.is_up:
            raise UnchangedError(f"container {row.id} is not running")
        fields: dict[str, Any] = {} if timeout_s is None else {"timeout_s": timeout_s}
        if signal:
            fields["signal"] = signal_number(signal)
        if timeout_s is None:
            own = (spec.read(self._places.container(row.id)).get("stop") or {}).get("timeout_s")
            timeout_s = DEFAULT_STOP_TIMEOUT_S if own is None else own
        with self._ended_is_fine(), self._keepers.connect_to_end(row.id) as keeper:
            keeper.ask("stop", fields, timeout_s=None if timeout_s < 0 else timeout_s + _END_S)

    def restart(self, ref: str, *, timeout_s: int | None = None, signal: str | None = None) -> None:
        """Stop it if it runs, and start it."""
        row = self._records.container(ref)
        with contextlib.suppress(UnchangedError):
            self.stop(row.id, timeout_s=timeout_s, signal=signal)
        self.start(row.id)
        self._note(row, "restart")

    def kill(self, ref: str, signal: str = "KILL") -> None:
        """Send a signal to its first process; after SIGKILL it has ended when this returns, as docker's clients expect.

        Raises ConflictError when it does not run.
        """
        row, state = self._found(ref)
        try:
            number = signal_number(signal or "KILL")
        except InvalidRequestError as error:
            raise InvalidRequestError(f"cannot kill container: {ref}: {error.message}") from error
        if not state.is_up:
            raise _cannot_kill(ref, row)
        try:
            with self._keepers.connect_to_end(row.id) as keeper, self._keepers.connect_to_end(row.id) as waiter:
                if number == _KILL:
                    protocol.send(waiter.socket, {"verb": "wait", "condition": "next-exit"})
                keeper.ask("signal", {"number": number})
                if number == _KILL:
                    with contextlib.suppress(KeeperError, TimeoutError):
                        waiter.receive(timeout_s=_KILLED_S)
        except (KeeperError, StateError) as error:
            raise _cannot_kill(ref, row) from error

    def pause(self, ref: str) -> None:
        """Freeze its processes. Raises ConflictError when it does not run, or is paused."""
        row, state = self._found(ref)
        if state.status == "paused":
            raise ConflictError(f"Container {row.id} is already paused")
        if state.status == "restarting":
            raise ConflictError(f"Container {row.id} is restarting, wait until the container is running")
        self._ask_running(row, state, "pause")

    def unpause(self, ref: str) -> None:
        """Let its processes go on. Raises ConflictError when it is not paused."""
        row, state = self._found(ref)
        if state.status != "paused":
            raise ConflictError(f"Container {row.id} is not paused")
        self._ask_running(row, state, "unpause")

    def resize(self, ref: str, rows: int, columns: int) -> None:
        """Tell its terminal its size. Raises ConflictError when it does not run."""
        row, state = self._found(ref)
        self._ask_running(row, state, "resize", {"rows": rows, "columns": columns})

    def rename(self, ref: str, new: str) -> None:
        """Give it another name. Raises NameInUseError, InvalidRequestError."""
        row = self._records.container(ref)
        if not new:
            raise InvalidRequestError("Neither old nor new names may be empty")
        name = checked_name(new)
        if name == row.name:
            raise InvalidRequestError("Renaming a container with the same name as its current name")
        self._records.rename(row.id, name)
        directory = self._places.container(row.id)
        spec.write(directory, {**spec.read(directory), "name": name})
        with contextlib.suppress(KeeperError), self._keepers.connect(row.id) as keeper:
            keeper.ask("rename", {"name": name})
        self._note(row._replace(name=name), "rename", oldName=f"/{row.name}")

    def connect(self, network: str, ref: str, settings: Any = None) -> None:
        """Put it into one more network, while it runs, too. settings: docker's EndpointSettings.

        Raises NetworkNotFoundError, ConflictError.
        """
        identity = self._records.container(ref).id
        with locking.networks_of(self._places.container(identity)):
            self._connect(network, identity, settings)

    def _connect(self, network: str, identity: str, settings: Any) -> None:
        row, state = self._found(identity)
        known = self._networks.found(network)
        place = self._place_without_interface(row, known) if state.is_up else None
        if place is None:
            place = self._networks.place(row, network, Fields(settings, "EndpointConfig"))
        if state.is_up:
            try:
                with open_switch(str(self._places.run), denied=self._denied) as switch:
                    switch.add_network(wiring.network_of(known))
                with self._keepers.connect(row.id) as keeper:
                    document = spec.read(self._places.container(row.id))
                    keeper.ask("connect", {"endpoint": wiring.told_of(self._records, row, document, place)})
            except BaseException:
                self._networks.take_away(self._records.container(row.id), known)
                raise
        self._networks.note(place.network, "connect", row.id)

    def _place_without_interface(self, row: Row, network: NetworkRow) -> EndpointRow | None:
        """Its place in the network, if its keeper knows nothing of it: who was connecting it was killed."""
        place = next((each for each in self._records.endpoints_of(row.id) if each.network == network.id), None)
        if place is not None:
            with self._ended_is_fine(), self._keepers.connect(row.id) as keeper:
                answer, _ = keeper.ask("state")
                if network.id not in answer.get("networks", [network.id]):  # an older keeper does not tell
                    return place
        return None

    def disconnect(self, network: str, ref: str, *, force: bool = False) -> None:
        """Take it out of a network, while it runs, too. Raises NetworkNotFoundError, ConflictError.

        force: also when its keeper does not answer, or refuses. Its interface is taken away then, not its names.
        """
        try:
            row = self._records.container(ref)
        except ContainerNotFoundError as error:
            if not force:
                raise
            self._networks.found(network)
            raise NotFoundError(f"endpoint {ref} not found") from error
        known = self._networks.found(network)
        with locking.networks_of(self._places.container(row.id)):
            self._disconnect(known, row.id, force=force)

    def _disconnect(self, known: NetworkRow, identity: str, *, force: bool) -> None:
        row, state = self._found(identity)
        place = next((each for each in self._records.endpoints_of(row.id) if each.network == known.id), None)
        # Its place goes last: until then nobody else gets its address, also when this process is killed.
        if place is not None and state.is_up:
            self._unplug(row, place, known, force=force)
        self._networks.take_away(row, known)
        self._networks.note(known.id, "disconnect", row.id)

    def _unplug(self, row: Row, place: EndpointRow, network: NetworkRow, *, force: bool) -> None:
        """Take its interface away. force: see ``disconnect``. Raises ContainerError, TimeoutError."""
        try:
            patience_s = _FORCED_S if force else _END_S
            with self._ended_is_fine(), self._keepers.connect(row.id, patience_s) as keeper:
                keeper.ask("disconnect", {"network": network.id}, timeout_s=patience_s)
        except (ContainerError, TimeoutError) as error:
            # One who was killed behind this very question left a place that the keeper knows no more.
            if not force and not isinstance(error, NetworkError):
                raise
            with open_switch(str(self._places.run), denied=self._denied) as switch:
                switch.detach(wiring.port_of(place, network))

    def forget(self, network: NetworkRow) -> None:
        """Take the bridge of a network away that is none any more."""
        if (self._places.run / "switch" / "net").exists():
            with open_switch(str(self._places.run), denied=self._denied) as switch:
                switch.remove_network(wiring.network_of(network))

    def update(self, ref: str, body: Any) -> list[str]:
        """Change its limits and its restart policy; what is not named stays. Returns warnings."""
        row, state = self._found(ref)
        asked = Fields(body, "body")
        directory = self._places.container(row.id)
        document = spec.read(directory)
        updated = hostconfig.update(document["asked"]["HostConfig"], asked)
        if document.get("auto_remove") and updated.restart["policy"] != "no":
            raise InvalidRequestError(
                "Restart policy cannot be updated because AutoRemove is enabled for the container"
            )
        changed = {**document, "limits": updated.limits, "restart": updated.restart}
        changed["asked"] = {**document["asked"], "HostConfig": updated.document}
        if state.is_up:
            with self._ended_is_fine(), self._keepers.connect(row.id) as keeper:
                keeper.ask("limits", {"limits": changed["limits"]})
        spec.write(directory, changed)
        self._records.set_policy(row.id, updated.restart["policy"])
        self._note(row, "update")
        return list(updated.warnings)

    def remove(self, ref: str, *, force: bool = False, volumes: bool = False) -> None:
        """Remove it. force: kill one that runs. volumes: its anonymous ones go with it. Raises ConflictError."""
        row, state = self._found(ref)
        if state.is_up and not force:
            raise ConflictError(f'cannot remove container "/{row.name}": {_why_not(state)}')
        lock = self._lock_of_killed(row) if force else self._its_lock(row)
        if lock is not None:
            self._remover.remove(row, lock, volumes=volumes)

    def remove_ended(self, identity: str) -> None:
        """Remove one that has ended, and whose keeper, if it lives, waits for that: with its anonymous volumes."""
        row = self._records.container(identity)
        directory = self._places.container(row.id)
        if read(directory).is_up:
            return  # it was started again
        lock = None
        with contextlib.suppress(FileNotFoundError):
            lock = locking.take(directory)
        self._remover.remove(row, lock, volumes=True)

    def _lock_of_killed(self, row: Row) -> int | None:
        """As ``_its_lock``, of one that is killed if it runs: also when its keeper, whom a command that was killed had
        asked for a start, brings it up only now, or when the nursery, which writes down that a keeper was killed, has
        the lock for a moment.
        """
        directory = self._places.container(row.id)
        end = time.monotonic() + _END_S
        while True:
            check()
            if read(directory).is_up:
                with self._ended_is_fine(), self._keepers.connect(row.id) as keeper:
                    keeper.ask("stop", {"timeout_s": 0, "signal": _KILL})
            try:
                return self._its_lock(row)
            except ConflictError:
                if time.monotonic() > end:
                    raise

    def _its_lock(self, row: Row) -> int | None:
        """The lock of a container that does not run: its keeper, if there is one yet, is about to end.

        None: the container has been removed by somebody else. Raises ConflictError.
        """
        directory = self._places.container(row.id)
        end = time.monotonic() + _END_S
        while True:
            try:
                lock = locking.take(directory, make=True)
            except FileNotFoundError:
                if not self._records.exists(row.id):
                    return None
                directory.mkdir(mode=0o700, exist_ok=True)  # somebody has removed it by hand
                continue
            if lock is not None:
                if self._records.exists(row.id):
                    return lock
                os.close(lock)
                return None
            check()
            if read(directory).is_up:
                raise ConflictError(f'cannot remove container "/{row.name}": container is running', hint=_FORCE)
            with contextlib.suppress(KeeperError, StateError, TimeoutError), self._keepers.connect(row.id) as keeper:
                keeper.ask("finished")  # it may wait for a start that will not come
            if time.monotonic() > end:
                raise ConflictError(f"removal of container {row.id} is already in progress")
            time.sleep(_LOOK_EACH_S)

    def _ask_running(self, row: Row, state: State, verb: str, fields: dict[str, Any] | None = None) -> None:
        if not state.is_up:
            raise ConflictError(f"container {row.id} is not running")
        try:
            with self._keepers.connect(row.id) as keeper:
                keeper.ask(verb, fields)
        except KeeperError as error:
            raise ConflictError(f"container {row.id} is not running") from error
        except StateError as error:
            raise ConflictError(error.message, hint=error.hint) from error

    def _found(self, ref: str) -> tuple[Row, State]:
        row = self._records.container(ref)
        return row, read(self._places.container(row.id))

    @contextlib.contextmanager
    def _ended_is_fine(self) -> Any:
        """A container that ends while it is asked to end has ended."""
        with contextlib.suppress(KeeperError, StateError):
            yield


_NOT_RUNNING: Final = {
    "NetworkMode": "cannot join network of a non running container: {}",
    "PidMode": "failed to join PID namespace: container {} is not running",
    "IpcMode": "failed to join IPC namespace: container {} is not running",
}
_NOT_THERE: Final = {
    "NetworkMode": "No such container: {}",
    "PidMode": "failed to join PID namespace: No such container: {}",
    "IpcMode": "failed to join IPC namespace: No such container: {}",
}
_FORCE: Final = "stop the container before removing, or remove it with --force"


def _why_not(state: State) -> str:
    if state.status == "paused":
        return "container is paused and must be unpaused first"
    word = "restarting" if state.status == "restarting" else "running"
    return f"container is {word}: stop the container before removing or force remove"


def _cannot_kill(ref: str, row: Row) -> ConflictError:
    return ConflictError(f"cannot kill container: {ref}: container {row.id} is not running")


def never_started(state: State) -> bool:
    """Whether it was created, and no more."""
    return state.started == NEVER
