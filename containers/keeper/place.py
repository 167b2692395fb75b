"""Where one container is: its networks and ports, the namespaces that it shares, and what others may join of it.

For one start after another, in this order: ``take`` makes the first process, ``bind`` has its ports listened at,
``connect`` gives it its interfaces, ``open`` brings clients, ``leave`` takes all of it back.
"""

from __future__ import annotations

import os

from containers.errors import ContainerError, NetworkError, StateError
from containers.keeper import specs
from containers.keeper.names import own_resolv_conf
from containers.keeper.neighbours import Neighbours, Shared, has_others_processes, joined
from containers.keeper.sockets import Sockets
from containers.keeper.wiring import Wiring
from containers.mounts import SHM
from containers.resolvers import host_resolv_conf

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from containers.guest import Guest
    from containers.keeper.cell import Cell
    from containers.keeper.loop import Loop


class Place:
    """One container's. cell: what it is made in. run: of the engine. identity: the container's ID."""

    def __init__(self, loop: Loop, cell: Cell, run: str, identity: str) -> None:
        self._loop = loop
        self._cell = cell
        self._run = run
        self._identity = identity
        self._wiring: Wiring | None = None
        self._shared = Shared(cell.place_for("shm"))
        self._shm = -1
        self._sockets = Sockets(loop, cell.place_for("sockets"))
        self._others_resolv_conf: str | None = None
        self._told: dict[str, Any] = {}

    @property
    def bound(self) -> list[dict[str, Any]]:
        """The published ports, with the numbers that the kernel chose."""
        return self._wiring.bound if self._wiring is not None else []

    @staticmethod
    def wants_others(spec: dict[str, Any]) -> bool:
        """Whether some of its namespaces are the host's or another container's: what is made ahead has its own."""
        return specs.to_wire(spec)["network"] == "host" or bool(joined(spec))

    # A start

    def take(self, spec: dict[str, Any], told: dict[str, Any]) -> Guest:
        """A first process in the namespaces that it is to have. Raises ContainerError, OSError.

        spec: ``spec.json``. told: of ``specs.to_wire``; what another container's network brings along is put into it.
        """
        guest = self._taken(spec, told)
        try:
            self._share(spec, told)
        except OSError:
            self._end(guest)
            self._unshare()
            raise
        return guest

    def bind(self, spec: dict[str, Any], told: dict[str, Any]) -> None:
        """Have the published ports of a container of the switch listened at. Raises NetworkError."""
        if told["network"] != specs.SWITCH:
            return
        if self._wiring is None:
            if self._cell.switch < 0:
                raise NetworkError("this keeper knows no switch that it could connect the container to")
            switch = os.dup(self._cell.switch)
            self._wiring = Wiring(self._loop, self._run, switch, self._identity, spec["network"])
        self._wiring.bind()
        wanted = spec["network"]
        hosts = [*told["extra_hosts"], *((name, address) for name, address in wanted.get("hosts") or ())]
        own = _own_names(told["hostname"] or self._identity[:12], told["extras"].get("domainname") or "")
        told["extra_hosts"] = (*hosts, *((own, address) for address in self._wiring.addresses))
        told["env"] = tuple({**dict(wanted.get("env") or ()), **dict(told["env"])}.items())

    def connect(self, guest: Guest, spec: dict[str, Any], told: dict[str, Any]) -> str | None:
        """Give it its interfaces; its resolv.conf, None: the host's. Raises NetworkError."""
        resolv_conf = self._others_resolv_conf or _own_resolv_conf(spec)
        if self._wiring is not None:
            self._wiring.connect(guest.pid)
            resolv_conf = self._wiring.resolv_conf()
        self._told = {
            "is_host": guest.network == "host",
            "hostname": told["hostname"],
            "hosts": [list(pair) for pair in told["extra_hosts"]],
            "resolv_conf": host_resolv_conf() if resolv_conf is None else resolv_conf,
        }
        return resolv_conf

    def open(self) -> str:
        """Bring clients to it; what the switch refuses, else "". It is running already: a refusal costs its ports."""
        if self._wiring is not None:
            try:
                self._wiring.open()
            except (NetworkError, OSError) as error:
                return f"published ports are not all open: {error}"
        return ""

    # While it runs

    @property
    def networks(self) -> list[str]:
        """The IDs of the networks of the switch that it is in."""
        return [] if self._wiring is None else self._wiring.networks

    def add(self, endpoint: dict[str, Any]) -> None:
        """Connect it to another network. Raises ContainerError."""
        self._networks().add(endpoint)

    def remove(self, network: str) -> None:
        """Take it out of a network. Raises ContainerError."""
        self._networks().remove(network)

    def namespaces(self, guest: Guest, names: list[str]) -> tuple[dict[str, Any], dict[str, int]]:
        """What ``Neighbours`` needs of this container, and descriptors by name, which the caller closes.

        Raises StateError.
        """
        try:
            fds = self._shared.opened(guest.pid, names)
        except OSError as error:
            raise StateError(f"the container's namespaces cannot be opened: {error.strerror}") from error
        return {"range": list(self._cell.range.first), **self._told}, fds

    # Its end

    def clear(self, guest: Guest, spec: dict[str, Any]) -> None:
        """Its first process has ended: end what it has left among another container's processes."""
        if has_others_processes(spec):
            self._cell.clear(guest)
        self._unshare()

    def leave(self, *, for_good: bool) -> None:
        """Take its interfaces and names back; for good, the ports that it listens at, too."""
        if self._wiring is None:
            return
        wiring = self._wiring
        if for_good:
            self._wiring = None
        try:
            (wiring.close if for_good else wiring.cut)()
        except (NetworkError, OSError):
            return  # the switch has gone, with all that was in it

    def _taken(self, spec: dict[str, Any], told: dict[str, Any]) -> Guest:
        self._others_resolv_conf = None
        wanted = joined(spec)
        if not wanted:
            return self._cell.take_host() if told["network"] == "host" else self._cell.take()
        others = Neighbours(self._run, wanted)
        try:
            kind = "host" if told["network"] == "host" or others.is_host else "default"
            if others.place is not None:
                told["hostname"], told["extra_hosts"] = others.place["hostname"], others.place["hosts"]
                self._others_resolv_conf = others.place["resolv_conf"]
            guest = self._cell.take_beside(others, kind)
            try:
                others.still_run()
            except ContainerError:
                self._end(guest)
                raise
            self._shm, others.shm = others.shm, -1
        finally:
            others.close()
        return guest

    def _share(self, spec: dict[str, Any], told: dict[str, Any]) -> None:
        """Have another's /dev/shm, or one that others may have; and the sockets of the host's API. Raises OSError."""
        told["mounts"] = self._sockets.open(told["mounts"], self._cell.range.first)
        if spec.get("ipc") == "shareable":
            self._shm = self._shared.make(told["shm_bytes"], self._cell.range.first)
        if self._shm >= 0:
            told["mounts"].insert(0, ("given", f"/{SHM}", self._shm))

    def _unshare(self) -> None:
        self._sockets.close()
        self._shared.drop()
        shm, self._shm = self._shm, -1
        if shm >= 0:
            os.close(shm)

    def _end(self, guest: Guest) -> None:
        self._cell.kill(guest)
        self._cell.reap(guest)

    def _networks(self) -> Wiring:
        if self._wiring is None:
            raise NetworkError("the container is in no network that others can be added to")
        return self._wiring


def _own_resolv_conf(spec: dict[str, Any]) -> str | None:
    """What was asked for beside no network of the switch; None: nothing."""
    resolver = spec.get("resolver") or {}
    if not any(resolver.values()):
        return None
    servers, search, options = (tuple(resolver.get(name) or ()) for name in ("servers", "search", "options"))
    return own_resolv_conf(host_resolv_conf(), servers, search=search, options=options)


def _own_names(hostname: str, domain: str) -> str:
    """What a container is called in its own /etc/hosts: whole, and without the domain."""
    whole = f"{hostname}.{domain}" if domain else hostname
    first, dot, _ = whole.partition(".")
    return f"{whole} {first}" if dot else whole
