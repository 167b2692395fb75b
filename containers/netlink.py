"""The few rtnetlink(7) messages that a container's network takes, written by hand: no process, no library.

Layouts: linux/netlink.h, linux/rtnetlink.h, linux/if_link.h, linux/if_addr.h, linux/fib_rules.h. An address is 4 or 16
bytes in network order; the functions of the hub, which has IPv4 only, take an integer.
"""

from __future__ import annotations

import _socket
import errno
import os
import struct

_NETLINK_ROUTE = 0
_RTMGRP_LINK = 0x1
_RTMGRP_ADDRESSES = 0x10 | 0x100  # IPv4's and IPv6's
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_REQUEST, _ACK, _DUMP, _CREATE_EXCL, _CREATE_REPLACE = 0x1, 0x4, 0x300, 0x600, 0x500
_NEWLINK, _DELLINK, _GETLINK, _NEWADDR, _GETADDR, _NEWROUTE, _GETROUTE, _NEWNEIGH, _NEWRULE, _GETRULE = (
    16,
    17,
    18,
    20,
    22,
    24,
    26,
    28,
    32,
    34,
)
_IFF_UP = 1
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_MASTER, _IFLA_LINKINFO = 1, 3, 4, 10, 18
_IFLA_AF_SPEC, _IFLA_NET_NS_FD, _IFLA_INET6_ADDR_GEN_MODE, _NO_ADDRESS = 26, 28, 8, 1
_INFO_KIND, _INFO_DATA, _VETH_INFO_PEER, _BR_MCAST_SNOOPING = 1, 2, 1, 23
_IFA_ADDRESS, _IFA_LOCAL, _IFA_LABEL, _IFA_F_NODAD = 1, 2, 3, 0x02
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_METRICS, _RTA_TABLE, _RTAX_RTO_MIN = 1, 4, 5, 8, 15, 13
_MAIN_TABLE, _PROTO_BOOT, _UNICAST, _LOCAL = 254, 3, 1, 2
_NDA_DST, _NDA_LLADDR, _NUD_STALE, _NUD_PERMANENT = 1, 2, 0x04, 0x80
_SCOPE_HOST, _FRA_FWMARK, _FR_ACT_TO_TABLE = 254, 10, 1
_AF_INET, _AF_INET6 = 2, 10
_NESTED = 0x8000

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    Message: TypeAlias = tuple[int, int, bytes]
    """Kind, flags, body."""


VETH_MACS = (b"\x02shpl\x03", b"\x02shpl\x04")


class Netlink:
    """A socket to the network namespace that the process was in when it was made; it stays there.

    watch_addresses, watch_links: whether it becomes readable when addresses, or interfaces, change.
    fd: a socket that another process made; this object owns it from here on.
    """

    __slots__ = ("_sequence", "_socket")

    def __init__(self, *, watch_addresses: bool = False, watch_links: bool = False, fd: int | None = None) -> None:
        self._socket = _socket.socket(_socket.AF_NETLINK, _socket.SOCK_RAW | _socket.SOCK_CLOEXEC, _NETLINK_ROUTE, fd)
        if fd is None:
            groups = (_RTMGRP_ADDRESSES if watch_addresses else 0) | (_RTMGRP_LINK if watch_links else 0)
            self._socket.bind((0, groups))
        self._sequence = 0

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def detach(self) -> int:
        """Its descriptor, which is the caller's from here on."""
        return self._socket.detach()

    def drain(self) -> None:
        """Forget waiting notifications."""
        while True:
            try:
                self._socket.recv(65536, _socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:  # some were lost in a crowd, and are not missed
                    raise

    def change(self, *messages: Message) -> None:
        """Carry out all messages, in order. Raises the OSError of the first one that fails."""
        packet = b""
        for kind, flags, body in messages:
            self._sequence += 1
            packet += struct.pack("=IHHII", 16 + len(body), kind, _REQUEST | _ACK | flags, self._sequence, 0)
            packet += body
        self._socket.sendall(packet)
        failed = 0
        for _ in messages:
            reply = self._socket.recv(65536)
            number = -struct.unpack_from("=i", reply, 16)[0]
            failed = failed or number
        if failed:
            raise OSError(failed, f"rtnetlink: {os.strerror(failed)}")

    def _dump(self, kind: int, body: bytes) -> list[tuple[bytes, dict[int, bytes]]]:
        """The objects of a kind: each one's body and its attributes (which start at the body's own length)."""
        self._sequence += 1
        self._socket.sendall(struct.pack("=IHHII", 16 + len(body), kind, _REQUEST | _DUMP, self._sequence, 0) + body)
        found: list[tuple[bytes, dict[int, bytes]]] = []
        while True:
            data = self._socket.recv(1 << 17)
            offset = 0
            while offset < len(data):
                length, reply, _flags, sequence, _pid = struct.unpack_from("=IHHII", data, offset)
                message = data[offset + 16 : offset + length]
                offset += (length + 3) & ~3
                if sequence != self._sequence:
                    continue  # a notification of a watched group
                if reply == _NLMSG_DONE:
                    return found
                if reply == _NLMSG_ERROR:
                    number = -struct.unpack_from("=i", message)[0]
                    raise OSError(number, f"rtnetlink: {os.strerror(number)}")
                found.append((message[: len(body)], attributes_of(message[len(body) :])))

    def addresses(self, *, without: tuple[str, ...] = ()) -> set[int]:
        """Every IPv4 address of this namespace. without: how interfaces begin that do not count."""
        passed_over = tuple(prefix.encode() for prefix in without)
        entries = self._dump(_GETADDR, struct.pack("=BBBBi", _AF_INET, 0, 0, 0, 0))
        return {
            int.from_bytes(attributes[_IFA_LOCAL], "big")
            for _, attributes in entries
            if _IFA_LOCAL in attributes and not attributes.get(_IFA_LABEL, b"").startswith(passed_over)
        }

    def all_addresses(self, *, without: tuple[str, ...] = ()) -> set[bytes]:
        """Every address of this namespace, of both families. without: how interfaces begin that do not count."""
        others = {index for name, index in self.links().items() if name.startswith(without)} if without else ()
        entries = self._dump(_GETADDR, struct.pack("=BBBBi", 0, 0, 0, 0, 0))
        found = (
            attributes.get(_IFA_LOCAL, attributes.get(_IFA_ADDRESS))
            for body, attributes in entries
            if struct.unpack_from("=i", body, 4)[0] not in others
        )
        return {address for address in found if address is not None}

    def routes(self) -> list[tuple[int, int]]:
        """(network, prefix length) of every IPv4 route of the main table but the default one."""
        found = []
        for body, attributes in self._dump(_GETROUTE, struct.pack("=BBBBBBBBI", _AF_INET, *[0] * 8)):
            if body[4] == _MAIN_TABLE and _RTA_DST in attributes:
                found.append((int.from_bytes(attributes[_RTA_DST], "big"), body[1]))
        return found

    def has_default_route(self, family: int = _AF_INET) -> bool:
        """Whether packets of a family have a way out by the main table."""
        return bool(self.default_interfaces(family))

    def default_interfaces(self, family: int = _AF_INET) -> set[int]:
        """The indexes of the interfaces that the main table's default routes of a family lead to."""
        found = set()
        for body, attributes in self._dump(_GETROUTE, struct.pack("=BBBBBBBBI", family, *[0] * 8)):
            if body[4] == _MAIN_TABLE and body[1] == 0 and body[7] == _UNICAST and _RTA_OIF in attributes:
                found.add(int(struct.unpack("=I", attributes[_RTA_OIF])[0]))
        return found

    def has_rule_by_source(self) -> bool:
        """Whether IPv4 packets of some addresses are routed by a table of their own: a host with two ways out."""
        return any(body[2] for body, _attributes in self._dump(_GETRULE, struct.pack("=BBBBBBBBI", _AF_INET, *[0] * 8)))

    def mtu(self, name: str) -> int:
        """The MTU of an interface. Raises OSError (ENODEV) when there is none of that name."""
        for _, attributes in self._dump(_GETLINK, _link(0)):
            if attributes[_IFLA_IFNAME].rstrip(b"\0") == name.encode():
                return int(struct.unpack("=I", attributes[_IFLA_MTU])[0])
        raise OSError(19, "no such network interface", name)

    def default_mtu(self) -> int:
        """The smallest MTU among the interfaces that IPv4's default routes lead to; 0 when there is none."""
        wanted = self.default_interfaces()
        found = [
            int(struct.unpack("=I", attributes[_IFLA_MTU])[0])
            for body, attributes in self._dump(_GETLINK, _link(0))
            if struct.unpack_from("=i", body, 4)[0] in wanted
        ]
        return min(found, default=0)

    def links(self) -> dict[str, int]:
        """Every interface of this namespace: name to index."""
        found = {}
        for body, attributes in self._dump(_GETLINK, _link(0)):
            found[attributes[_IFLA_IFNAME].rstrip(b"\0").decode()] = int(struct.unpack_from("=i", body, 4)[0])
        return found

    def link(self, name: str) -> tuple[int, int] | None:
        """As ``look_up``, without the MAC address."""
        found = self.look_up(name)
        return None if found is None else found[:2]

    def look_up(self, name: str) -> tuple[int, int, bytes] | None:
        """Index, MTU and MAC address of an interface; None when there is none of that name.

        A pair's end that is up before the other one sends nothing until the kernel has got round to it, which asking
        waits for (linkwatch_sync_dev, since Linux 6.6). What is lost until then, a neighbour's answer, is asked for
        again after a second.
        """
        self._sequence += 1
        body = _link(0) + text_attribute(_IFLA_IFNAME, name)
        self._socket.sendall(struct.pack("=IHHII", 16 + len(body), _GETLINK, _REQUEST, self._sequence, 0) + body)
        while True:
            data = self._socket.recv(1 << 17)
            _length, reply, _flags, sequence, _pid = struct.unpack_from("=IHHII", data)
            if sequence != self._sequence:
                continue  # a notification of a watched group
            if reply == _NLMSG_ERROR:
                number = -struct.unpack_from("=i", data, 16)[0]
                if number == 19:  # ENODEV
                    return None
                raise OSError(number, f"rtnetlink: {os.strerror(number)}", name)
            attributes = attributes_of(data[32:])
            mtu = struct.unpack("=I", attributes[_IFLA_MTU])[0]
            return int(struct.unpack_from("=i", data, 20)[0]), int(mtu), attributes.get(_IFLA_ADDRESS, b"")


def new_veth(index: int, name: str, peer_index: int, peer_name: str, peer_netns: int, mtu: int) -> Message:
    """A pair of interfaces: ``name`` here and up, ``peer_name`` in the namespace of descriptor ``peer_netns``, down.

    Their MAC addresses are VETH_MACS: they are a link between two.
    """
    here, there = (attribute(_IFLA_ADDRESS, mac) + _word(_IFLA_MTU, mtu) for mac in VETH_MACS)
    peer = _link(peer_index) + text_attribute(_IFLA_IFNAME, peer_name) + there
    info = _veth(peer + _word(_IFLA_NET_NS_FD, peer_netns))
    return _NEWLINK, _CREATE_EXCL, _link(index, up=True) + text_attribute(_IFLA_IFNAME, name) + here + info


def new_port(name: str, bridge: int, peer_name: str, peer_mac: bytes, peer_netns: int, mtu: int) -> Message:
    """A pair of interfaces: ``name`` here, a port of ``bridge`` and up; ``peer_name`` in another namespace, down."""
    peer = (
        _link(0) + text_attribute(_IFLA_IFNAME, peer_name) + attribute(_IFLA_ADDRESS, peer_mac) + _word(_IFLA_MTU, mtu)
    )
    info = _veth(peer + _word(_IFLA_NET_NS_FD, peer_netns))
    body = _link(0, up=True) + text_attribute(_IFLA_IFNAME, name) + _word(_IFLA_MTU, mtu) + _word(_IFLA_MASTER, bridge)
    return _NEWLINK, _CREATE_EXCL, body + info


def new_pair(name: str, mac: bytes, peer_name: str, peer_mac: bytes, peer_netns: int, mtu: int) -> Message:
    """A pair of interfaces with these MAC addresses: ``name`` here and up, ``peer_name`` elsewhere, down."""
    peer = _link(0) + text_attribute(_IFLA_IFNAME, peer_name) + attribute(_IFLA_ADDRESS, peer_mac)
    info = _veth(peer + _word(_IFLA_MTU, mtu) + _word(_IFLA_NET_NS_FD, peer_netns))
    body = _link(0, up=True) + text_attribute(_IFLA_IFNAME, name) + attribute(_IFLA_ADDRESS, mac)
    return _NEWLINK, _CREATE_EXCL, body + _word(_IFLA_MTU, mtu) + info


def add_neighbour(index: int, address: bytes, mac: bytes) -> Message:
    """Who has an address behind an interface, for ever: nobody is asked."""
    family = _AF_INET if len(address) == 4 else _AF_INET6
    body = struct.pack("=BxxxiHBB", family, index, _NUD_PERMANENT, 0, 0)
    return _NEWNEIGH, _CREATE_EXCL, body + attribute(_NDA_DST, address) + attribute(_NDA_LLADDR, mac)


def expect_neighbour(index: int, address: bytes, mac: bytes) -> Message:
    """Who probably has an address behind an interface: packets go there at once, and the kernel asks meanwhile.

    What was known before is replaced; the kernel forgets it like what it has learnt itself.
    """
    family = _AF_INET if len(address) == 4 else _AF_INET6
    body = struct.pack("=BxxxiHBB", family, index, _NUD_STALE, 0, 0)
    return _NEWNEIGH, _CREATE_REPLACE, body + attribute(_NDA_DST, address) + attribute(_NDA_LLADDR, mac)


def new_bridge(name: str, mac: bytes) -> Message:
    """A bridge, up, that floods multicast: nobody asks who wants it.

    mac: its address for ever; a bridge without one takes that of some port, and another when that port goes.
    """
    data = attribute(_INFO_DATA, attribute(_BR_MCAST_SNOOPING, b"\0"))
    info = attribute(_IFLA_LINKINFO, text_attribute(_INFO_KIND, "bridge") + data)
    return (
        _NEWLINK,
        _CREATE_EXCL,
        _link(0, up=True) + text_attribute(_IFLA_IFNAME, name) + attribute(_IFLA_ADDRESS, mac) + info,
    )


def delete_link(index: int) -> Message:
    """Remove an interface; of a pair, both."""
    return _DELLINK, 0, _link(index)


def no_link_local_address(index: int) -> Message:
    """Have the kernel give an interface no IPv6 address of its own accord."""
    mode = attribute(_IFLA_INET6_ADDR_GEN_MODE, bytes([_NO_ADDRESS]))
    return _NEWLINK, 0, _link(index) + attribute(_IFLA_AF_SPEC, attribute(_AF_INET6, mode))


def link_up(index: int) -> Message:
    """Bring an interface up; 1 is always the loopback one."""
    return _NEWLINK, 0, _link(index, up=True)


def new_address(index: int, address: int, prefix: int) -> Message:
    """Give an interface an IPv4 address."""
    raw = address.to_bytes(4, "big")
    body = struct.pack("=BBBBi", _AF_INET, prefix, 0, 0, index)
    return _NEWADDR, _CREATE_EXCL, body + attribute(_IFA_LOCAL, raw) + attribute(_IFA_ADDRESS, raw)


def new_default_route(gateway: int, *, least_timeout_ms: int = 0) -> Message:
    """Send everything else to ``gateway``. least_timeout_ms: as ``add_default_route``'s."""
    return add_default_route(gateway.to_bytes(4, "big"), least_timeout_ms=least_timeout_ms)


def add_address(index: int, address: bytes, prefix: int) -> Message:
    """Give an interface an address, usable at once (no duplicate address detection)."""
    family, flags = (_AF_INET, 0) if len(address) == 4 else (_AF_INET6, _IFA_F_NODAD)
    body = struct.pack("=BBBBi", family, prefix, flags, 0, index)
    return _NEWADDR, _CREATE_EXCL, body + attribute(_IFA_LOCAL, address) + attribute(_IFA_ADDRESS, address)


def add_default_route(gateway: bytes, *, least_timeout_ms: int = 0) -> Message:
    """Send everything else to ``gateway``. least_timeout_ms: of TCP's retransmission; 0: the kernel's own, 200."""
    family = _AF_INET if len(gateway) == 4 else _AF_INET6
    body = struct.pack("=BBBBBBBBI", family, 0, 0, 0, _MAIN_TABLE, _PROTO_BOOT, 0, _UNICAST, 0)
    body += attribute(_RTA_GATEWAY, gateway)
    if least_timeout_ms:
        body += attribute(_RTA_METRICS | _NESTED, _word(_RTAX_RTO_MIN, least_timeout_ms))
    return _NEWROUTE, _CREATE_EXCL, body


def all_is_local(family: int, table: int) -> Message:
    """In ``table``, take every address of a family for this namespace's own: transparent sockets get their answers."""
    scope = _SCOPE_HOST if family == _AF_INET else 0
    body = struct.pack("=BBBBBBBBI", family, 0, 0, 0, table, _PROTO_BOOT, scope, _LOCAL, 0)
    return _NEWROUTE, _CREATE_EXCL, body + _word(_RTA_OIF, 1)


def marked_use(family: int, mark: int, table: int) -> Message:
    """Route packets of a family that have ``mark`` by ``table``."""
    body = struct.pack("=BBBBBBBBI", family, 0, 0, 0, table, 0, 0, _FR_ACT_TO_TABLE, 0)
    return _NEWRULE, _CREATE_EXCL, body + _word(_FRA_FWMARK, mark)


def _veth(peer: bytes) -> bytes:
    data = attribute(_INFO_DATA, attribute(_VETH_INFO_PEER, peer))
    return attribute(_IFLA_LINKINFO, text_attribute(_INFO_KIND, "veth") + data)


def _link(index: int, *, up: bool = False) -> bytes:
    return struct.pack("=BxHiII", 0, 0, index, _IFF_UP if up else 0, _IFF_UP if up else 0)


def attribute(kind: int, data: bytes) -> bytes:
    """A ``struct nlattr`` with its content, padded."""
    return struct.pack("=HH", 4 + len(data), kind) + data + b"\0" * (-len(data) % 4)


def text_attribute(kind: int, text: str) -> bytes:
    """An attribute whose content is a C string."""
    return attribute(kind, text.encode() + b"\0")


def _word(kind: int, value: int) -> bytes:
    return attribute(kind, struct.pack("=I", value))


def attributes_of(data: bytes) -> dict[int, bytes]:
    """The last attribute of each kind."""
    return dict(attribute_list(data))


def attribute_list(data: bytes) -> list[tuple[int, bytes]]:
    """(kind, content) of each attribute."""
    found = []
    offset = 0
    while offset + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, offset)
        if length < 4:
            break
        found.append((kind & 0x3FFF, data[offset + 4 : offset + length]))
        offset += (length + 3) & ~3
    return found


def even_if(number: int, work: Callable[[], object]) -> None:
    """Do ``work``; that error says that it was done before, by another process perhaps."""
    try:
        work()
    except OSError as error:
        if error.errno != number:
            raise
