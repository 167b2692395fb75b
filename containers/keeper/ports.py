"""Published ports: listeners in the host's network, connections into the switch, with the client's true address.

The keeper listens as any program does, so the host's firewall holds and an address or port that is taken is refused
before anything runs. All listeners are bound first (``bind``), in the host's network namespace. Where the kernel is a
way in (``entrance``), clients of TCP that the firewall let in do not come to the listener. For each other client a
socket of the switch connects on to the container (``tcprelay``, ``udprelay``), bound to the client's own address by
IP_TRANSPARENT; the switch's rules bring the answers back to it.

The container sees the gateway instead of the client where the client's address would not lead back: the host's
loopback, the switch's own subnets (a forged source, a VPN that came later), the other address family.

While the container does not run, the listeners stay, so that a port that the kernel chose stays the same; who connects
is reset.
"""

from __future__ import annotations

import _socket
import errno
import os

from containers import syscalls
from containers.addresses import AF_INET, AF_INET6, family, network_of, pack, pack_prefix
from containers.errors import NetworkError
from containers.keeper.tcprelay import TcpRelay
from containers.keeper.udprelay import UdpRelay
from containers.netspaces import inside
from core import namespaces

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from containers.keeper.loop import Loop

_BACKLOG = 4096
_ATTEMPTS = 20
_AHEAD = 64
_SYN_ATTEMPTS = 4  # with the kernel's back-off, half a minute
_SOL_IP, _SOL_IPV6 = 0, 41
_IP_TRANSPARENT, _IP_BIND_ADDRESS_NO_PORT, _IPV6_TRANSPARENT = 19, 24, 75
_IP_PKTINFO, _IPV6_RECVPKTINFO, _IPV6_V6ONLY = 8, 49, 26
_KINDS = {"tcp": _socket.SOCK_STREAM, "udp": _socket.SOCK_DGRAM}
_NO_IPV6 = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)


class Asked:
    """One ``-p``: a port of the host and what is behind it.

    addresses: where to listen; ``0.0.0.0`` and ``::`` together are everywhere.
    protocol: ``tcp`` or ``udp``.
    port: of the host; 0: one that is free at all the addresses.
    to_port: of the container.
    last: the first port from ``port`` to this one that is free at all the addresses; 0: only ``port`` will do.
    """

    __slots__ = ("addresses", "last", "port", "protocol", "to_port")

    def __init__(self, addresses: tuple[str, ...], protocol: str, port: int, to_port: int, last: int = 0) -> None:
        self.addresses = addresses
        self.protocol = protocol
        self.port = port
        self.to_port = to_port
        self.last = max(port, last)


class Target:
    """The container behind the ports: its endpoint that has the default route.

    ipv4, ipv6: its addresses, without prefix length; None when it has none of that family.
    subnets: of the switch, ``172.18.0.0/16``: clients that say to be from there are shown as the gateway.
    transparent: whether the switch can tell transparent sockets' answers.
    mark: of listeners whose clients come in by the kernel (``entrance``); 0: none do.
    """

    __slots__ = ("ipv4", "ipv6", "mark", "subnets", "transparent")

    def __init__(
        self,
        ipv4: str | None,
        ipv6: str | None,
        subnets: Iterable[str] = (),
        *,
        transparent: bool = True,
        mark: int = 0,
    ) -> None:
        self.ipv4 = ipv4
        self.ipv6 = ipv6
        self.subnets = [pack_prefix(subnet) for subnet in subnets]
        self.transparent = transparent
        self.mark = mark if ipv4 is not None else 0

    def way(self, client: bytes) -> tuple[str, bool] | None:
        """The container's address for a client, and whether it may see the client's own; None: there is no address."""
        version = family(client)
        same, other = (self.ipv4, self.ipv6) if version == AF_INET else (self.ipv6, self.ipv4)
        if same is None:
            return None if other is None else (other, False)
        return same, self.transparent and not self._is_near(client)

    def _is_near(self, client: bytes) -> bool:
        if client[0] == 127 if len(client) == 4 else client == b"\0" * 15 + b"\1" or client[:2] == b"\xfe\x80":
            return True
        return any(
            len(subnet) == len(client) and network_of(client, bits) == network_of(subnet, bits)
            for subnet, bits in self.subnets
        )


class Ports:
    """A container's published ports: bound, then open while the container runs.

    open_socket: makes a socket of the switch's namespace, of a family and kind; as ``Elsewhere.open`` does.
    """

    def __init__(self, loop: Loop, open_socket: Callable[[int, int], _socket.socket]) -> None:
        self._loop = loop
        self._open = open_socket
        self._relays: list[TcpRelay | UdpRelay] = []
        self._target: Target | None = None
        self.bound: list[Asked] = []
        """What is bound, with the port numbers that the kernel chose."""

    def bind(self, asked: Iterable[Asked]) -> None:
        """Listen, in the network namespace that the process is in: everywhere, or nowhere. Raises NetworkError."""
        made: list[tuple[Asked, list[_socket.socket]]] = []
        try:
            made.extend(map(_bound, asked))
        except BaseException:
            for _each, sockets in made:
                _close_all(sockets)
            raise
        for each, sockets in made:
            self.bound.append(each)
            for listener in sockets:
                if each.protocol == "tcp":
                    self._relays.append(TcpRelay(self._loop, listener, each.to_port, self._connect))
                else:
                    self._relays.append(UdpRelay(self._loop, listener, each.to_port, self._connect))

    def open(self, target: Target) -> None:
        """The container runs: bring clients to it."""
        self._target = target
        self._mark(target.mark)

    def shut(self) -> None:
        """The container has ended: end what goes on, and reset who comes; the ports stay bound."""
        self._target = None
        self._mark(0)
        for relay in self._relays:
            relay.end_all()

    def close(self) -> None:
        """Give the ports back."""
        for relay in self._relays:
            relay.close()
        self._relays.clear()
        self.bound.clear()

    def _mark(self, mark: int) -> None:
        for relay in self._relays:
            if isinstance(relay, TcpRelay):
                relay.mark(mark)

    def _connect(self, client: str, kind: int, port: int) -> _socket.socket | None:
        """A socket on its way to the container, for a client with that address; None when there is no way."""
        target = self._target
        way = None if target is None else target.way(pack(client))
        if way is None:
            return None
        address, transparent = way
        version = AF_INET6 if ":" in address else AF_INET
        inner = self._open(version, kind | _socket.SOCK_NONBLOCK)
        try:
            if kind == _socket.SOCK_STREAM:
                inner.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_SYNCNT, _SYN_ATTEMPTS)
            if transparent:
                level, option = (_SOL_IP, _IP_TRANSPARENT) if version == AF_INET else (_SOL_IPV6, _IPV6_TRANSPARENT)
                inner.setsockopt(level, option, 1)
                if kind == _socket.SOCK_STREAM:
                    inner.setsockopt(_SOL_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
                inner.bind((client, 0))
            number = inner.connect_ex((address, port))
        except OSError:
            inner.close()
            raise
        if number not in (0, errno.EINPROGRESS):
            inner.close()
            return None
        return inner


class Elsewhere:
    """Makes sockets of another network namespace, for a process that stays in the host's. Ended by ``close``.

    The host's root goes there and back. A root of a user namespace only could not come back, so a child of it goes, and
    brings many at once.

    netns: a descriptor of the namespace, which stays open until then.
    """

    def __init__(self, netns: int) -> None:
        self._netns = netns
        self._way_back = -1
        if namespaces.is_initial():
            self._way_back = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        self._ahead: dict[tuple[int, int], list[int]] = {}

    def open(self, version: int, kind: int) -> _socket.socket:
        """A socket of a family and kind. Raises OSError."""
        if self._way_back < 0:
            return self._brought(version, kind)
        syscalls.setns(self._netns, syscalls.CLONE_NEWNET)
        try:
            return own_sockets(version, kind)
        finally:
            syscalls.setns(self._way_back, syscalls.CLONE_NEWNET)

    def close(self) -> None:
        """Close what nobody asked for: each such socket keeps the namespace."""
        for ahead in self._ahead.values():
            for fd in ahead:
                os.close(fd)
        self._ahead.clear()
        if self._way_back >= 0:
            os.close(self._way_back)
            self._way_back = -1

    def _brought(self, version: int, kind: int) -> _socket.socket:
        ahead = self._ahead.setdefault((version, kind), [])
        if not ahead:
            ahead += inside(self._netns, lambda: [_socket.socket(version, kind).detach() for _ in range(_AHEAD)])
        return _socket.socket(version, kind, 0, ahead.pop())


def own_sockets(version: int, kind: int) -> _socket.socket:
    """Makes sockets of the namespace that the process is in: for a keeper that lives in the switch."""
    return _socket.socket(version, kind | _socket.SOCK_CLOEXEC)


def _bound(asked: Asked) -> tuple[Asked, list[_socket.socket]]:
    """What was asked for, with its port number, and the listening sockets. Raises NetworkError."""
    candidates = range(asked.port, asked.last + 1) if asked.port else [0] * _ATTEMPTS
    for attempt, first in enumerate(candidates):
        sockets: list[_socket.socket] = []
        port = first
        for address in asked.addresses:
            try:
                listener = _listener(address, asked.protocol, port)
            except OSError as error:
                if error.errno in _NO_IPV6 and address == "::" and sockets:
                    continue  # a host without IPv6: 0.0.0.0 is everywhere
                _close_all(sockets)
                is_taken = error.errno == errno.EADDRINUSE and (asked.port > 0 or len(sockets) > 0)
                if is_taken and attempt < len(candidates) - 1:
                    break  # another one may be free, at all addresses
                raise _refused(address, asked, port, error) from error
            sockets.append(listener)
            port = listener.getsockname()[1]
        else:
            return Asked(asked.addresses, asked.protocol, port, asked.to_port), sockets
    raise AssertionError("the last attempt returns or raises")


def _listener(address: str, protocol: str, port: int) -> _socket.socket:
    version = family(pack(address))
    listener = _socket.socket(version, _KINDS[protocol] | _socket.SOCK_CLOEXEC | _socket.SOCK_NONBLOCK)
    try:
        if version == AF_INET6:
            listener.setsockopt(_SOL_IPV6, _IPV6_V6ONLY, 1)
        if protocol == "tcp":
            listener.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
        elif version == AF_INET:
            listener.setsockopt(_SOL_IP, _IP_PKTINFO, 1)
        else:
            listener.setsockopt(_SOL_IPV6, _IPV6_RECVPKTINFO, 1)
        listener.bind((address, port))
        if protocol == "tcp":
            listener.listen(_BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def _refused(address: str, asked: Asked, port: int, error: OSError) -> NetworkError:
    place = f"[{address}]" if ":" in address else address
    what = f"cannot listen at {place}:{port}/{asked.protocol}"
    if error.errno == errno.EADDRINUSE:
        return NetworkError(f"{what}: port is already allocated", hint=f"`ss -lp 'sport = {port}'` tells by whom")
    if error.errno in (errno.EACCES, errno.EPERM):
        hint = "as root: sysctl net.ipv4.ip_unprivileged_port_start; or take a port from 1024 on"
        return NetworkError(f"{what}: permission denied", hint=hint)
    if error.errno == errno.EADDRNOTAVAIL:
        return NetworkError(f"{what}: this host has no such address", hint="`ip address` lists what it has")
    return NetworkError(f"{what}: {error.strerror}")


def _close_all(sockets: list[_socket.socket]) -> None:
    for each in sockets:
        each.close()
