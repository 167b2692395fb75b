"""A container's name server: 127.0.0.11, port 53, in the container's own network namespace.

Its sockets have ports that the kernel chose, of that namespace's loopback; one netlink message sends there what the
container sends to port 53 of the address. So a name server in the container can have port 53, and no other container
reaches this one.

It knows the names of the networks that the container is in (``namefiles``), by address too, and passes all else on
(``forwarding``). A container in internal networks only gets no other answers.
"""

from __future__ import annotations

import _socket
import os
import random

from containers import nftwire
from containers.addresses import pack
from containers.keeper import dnswire
from containers.keeper.forwarding import Forwarder
from containers.netspaces import inside
from containers.resolvers import host_resolv_conf

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from containers.keeper.dnswire import Query
    from containers.keeper.loop import Loop, Timer
    from containers.keeper.namefiles import NameTable

ADDRESS = "127.0.0.11"
_TABLE = "shiplap-names"
_TCP, _UDP = 6, 17
_AT_ONCE = 32
_BACKLOG = 16
_MOST_CONNECTIONS = 16
_IDLE_S = 10.0
_MOST_BYTES = 65535


class Names:
    """The name server of one container.

    netns: a descriptor of the container's network namespace, for the start only.
    tables: of the networks it is in, the first one first; may be changed at any time.
    forwarder: whom all else goes to; None: there is nothing else.
    links: names that are known here alone, in lower case, with their addresses; they come first.
    """

    def __init__(
        self,
        loop: Loop,
        netns: int,
        tables: list[NameTable],
        forwarder: Forwarder | None,
        links: dict[str, list[str]] | None = None,
    ) -> None:
        self._loop = loop
        self.tables = tables
        self._links = {name: [pack(text) for text in texts] for name, texts in (links or {}).items()}
        self._forwarder = forwarder
        self._connections: set[_Connection] = set()
        udp, tcp = inside(netns, _sockets)
        self._udp = _socket.socket(fileno=udp)
        self._tcp: Any = _socket.socket(fileno=tcp)  # with ``_accept``, as the module ``socket`` uses it
        for each in (self._udp, self._tcp):
            each.setblocking(False)
        loop.watch(udp, self._on_datagrams)
        loop.watch(tcp, self._on_connections)

    def close(self) -> None:
        """End it. The container's namespace keeps a redirection to nobody."""
        for connection in list(self._connections):
            connection.close()
        for each in (self._udp, self._tcp):
            self._loop.unwatch(each.fileno())
            each.close()
        if self._forwarder is not None:
            self._forwarder.close()

    def answer(self, message: bytes, done: Callable[[bytes], None], *, by_tcp: bool = False) -> None:
        """Call ``done`` with what is to be said to a message, once, now or later; not at all when it is no query."""
        query = dnswire.read_query(message)
        if query is None:
            return
        if isinstance(query, int):
            done(dnswire.failure(message, query))
            return
        found = self._known(query)
        if found is not None:
            done(dnswire.answer(query, found, most_bytes=_MOST_BYTES) if by_tcp else dnswire.answer(query, found))
        elif self._forwarder is None:
            done(dnswire.answer(query, [], dnswire.NO_SUCH_NAME))
        else:
            self._forwarder.ask(message, query, done, by_tcp=by_tcp)

    def _known(self, query: Query) -> list[bytes] | None:
        """The records for a name of ours; empty when it has none of that type. None: it is no name of ours."""
        if query.name in self._links:
            return _of_kind(self._links[query.name], query.kind)
        asked = dnswire.reversed_address(query.name)
        for table in self.tables:
            if asked is not None:
                name = table.name(asked)
                if name is not None:
                    return [dnswire.encode_name(name)] if query.kind == dnswire.PTR else []
                continue
            addresses = table.addresses(query.name)
            if addresses is not None:
                return _of_kind(addresses, query.kind)
        return None

    def _on_datagrams(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                data, peer = self._udp.recvfrom(_MOST_BYTES)
            except BlockingIOError:
                return
            except OSError:
                continue  # an earlier answer's: who asked has gone
            self.answer(data, lambda message, peer=peer: self._say(message, peer))  # type: ignore[misc]

    def _say(self, message: bytes, peer: Any) -> None:
        try:
            self._udp.sendto(message, _socket.MSG_DONTWAIT, peer)
        except OSError:
            return  # lost: who asked does not read, or has gone

    def _on_connections(self) -> None:
        try:
            fd, _peer = self._tcp._accept()
        except OSError:
            return
        connection = _socket.socket(fileno=fd)
        if len(self._connections) >= _MOST_CONNECTIONS:
            connection.close()
            return
        connection.setblocking(False)
        self._connections.add(_Connection(self._loop, connection, self))

    def forget(self, connection: _Connection) -> None:
        """It has ended."""
        self._connections.discard(connection)


def _of_kind(addresses: list[bytes], kind: int) -> list[bytes]:
    """Those that answer a question of this kind, in any order."""
    length = {dnswire.A: 4, dnswire.AAAA: 16}.get(kind)
    found = [address for address in addresses if len(address) == length]
    random.shuffle(found)
    return found


class _Connection:
    """A client by TCP: one message after the other, each behind its length."""

    def __init__(self, loop: Loop, sock: _socket.socket, names: Names) -> None:
        self._loop = loop
        self._socket = sock
        self._names = names
        self._in = b""
        self._timer: Timer = loop.later(_IDLE_S, self.close)
        loop.watch(sock.fileno(), self._on_readable, self.close)

    def _on_readable(self) -> None:
        try:
            data = self._socket.recv(_MOST_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.close()
            return
        self._in += data
        length = int.from_bytes(self._in[:2], "big")
        if len(self._in) >= 2 and len(self._in) >= 2 + length:
            message, self._in = self._in[2 : 2 + length], b""  # no second question before the first one's answer
            self._names.answer(message, self._say, by_tcp=True)

    def _say(self, message: bytes) -> None:
        if self._socket.fileno() < 0:
            return
        whole = len(message).to_bytes(2, "big") + message
        try:
            taken = self._socket.send(whole)
        except OSError:
            taken = 0
        if taken != len(whole):
            self.close()  # who asks and does not read
            return
        self._timer.cancel()
        self._timer = self._loop.later(_IDLE_S, self.close)

    def close(self) -> None:
        if self._socket.fileno() >= 0:
            self._timer.cancel()
            self._loop.unwatch(self._socket.fileno())
            self._socket.close()
            self._names.forget(self)


class HostResolvers:
    """The name servers of the host's resolv.conf as they are now, read again when the file is another."""

    def __init__(self) -> None:
        self._stamp: tuple[int, int] = (0, 0)
        self._found: list[str] = []

    def __call__(self) -> list[str]:
        try:
            status = os.stat("/etc/resolv.conf")
        except FileNotFoundError:
            return []
        stamp = (status.st_ino, status.st_mtime_ns)
        if stamp != self._stamp:
            words = [line.split() for line in host_resolv_conf().splitlines()]
            self._found = [line[1] for line in words if len(line) > 1 and line[0] == "nameserver"]
            self._stamp = stamp
        return list(self._found)


def container_resolv_conf(host: str, *, search: tuple[str, ...] = (), options: tuple[str, ...] = ()) -> str:
    """The container's resolv.conf for the host's: this name server, and what else the host's says.

    search, options: instead of the host's.
    """
    return _resolv_conf(host, [ADDRESS], search, options)


def own_resolv_conf(
    host: str, servers: tuple[str, ...], *, search: tuple[str, ...] = (), options: tuple[str, ...] = ()
) -> str:
    """The same for a container without this name server. servers, search, options: instead of the host's."""
    words = [line.split() for line in host.splitlines()]
    found = [line[1] for line in words if len(line) > 1 and line[0] == "nameserver"]
    return _resolv_conf(host, list(servers) or found, search, options)


def _resolv_conf(host: str, servers: list[str], search: tuple[str, ...], options: tuple[str, ...]) -> str:
    lines = [f"nameserver {address}" for address in servers]
    for keyword, own in (("search", search), ("options", options)):
        if own == (".",) and keyword == "search":
            continue  # none at all
        if own:
            lines.append(f"{keyword} {' '.join(own)}")
        else:
            lines += [line for line in host.splitlines() if line.split()[:1] == [keyword]]
    return "\n".join(lines) + "\n"


def _sockets() -> list[int]:
    """UDP's and TCP's, in this namespace, with port 53 of the address leading to them."""
    udp = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC)
    tcp = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    udp.bind((ADDRESS, 0))
    tcp.bind((ADDRESS, 0))
    tcp.listen(_BACKLOG)
    nft = nftwire.Nft()
    try:
        ports = ((_UDP, udp.getsockname()[1]), (_TCP, tcp.getsockname()[1]))
        nft.change(*nftwire.redirect_port(_TABLE, _socket.inet_aton(ADDRESS), 53, ports))
    finally:
        nft.close()
    return [udp.detach(), tcp.detach()]
