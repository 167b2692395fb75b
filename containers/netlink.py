"""The few rtnetlink(7) messages that a container's network takes, written by hand: no process, no library.

Layouts: linux/netlink.h, linux/rtnetlink.h, linux/if_link.h, linux/if_addr.h. IPv4 addresses are integers here.
"""

from __future__ import annotations

import _socket
import os
import struct

_NETLINK_ROUTE = 0
_RTMGRP_IPV4_IFADDR = 0x10
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_REQUEST, _ACK, _DUMP, _CREATE_EXCL = 0x1, 0x4, 0x300, 0x600
_NEWLINK, _GETLINK, _NEWADDR, _GETADDR, _NEWROUTE, _GETROUTE = 16, 18, 20, 22, 24, 26
_IFF_UP = 1
_IFLA_IFNAME, _IFLA_MTU, _IFLA_LINKINFO, _IFLA_NET_NS_FD = 3, 4, 18, 28
_INFO_KIND, _INFO_DATA, _VETH_INFO_PEER = 1, 2, 1
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_RTA_DST, _RTA_GATEWAY, _RTA_TABLE = 1, 5, 15
_MAIN_TABLE, _PROTO_BOOT, _UNICAST = 254, 3, 1
_AF_INET = 2

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeAlias

    Message: TypeAlias = tuple[int, int, bytes]
    """Kind, flags, body."""


class Netlink:
    """A socket to the network namespace that the process was in when it was made; it stays there.

    fd: a socket that another process made; this object owns it from here on.
    """

    __slots__ = ("_sequence", "_socket")

    def __init__(self, *, watch_addresses: bool = False, fd: int | None = None) -> None:
        self._socket = _socket.socket(_socket.AF_NETLINK, _socket.SOCK_RAW | _socket.SOCK_CLOEXEC, _NETLINK_ROUTE, fd)
        if fd is None:
            self._socket.bind((0, _RTMGRP_IPV4_IFADDR if watch_addresses else 0))
        self._sequence = 0

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def drain(self) -> None:
        """Forget waiting notifications."""
        while True:
            try:
                self._socket.recv(65536, _socket.MSG_DONTWAIT)
            except BlockingIOError:
                return

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
                found.append((message[: len(body)], _attributes(message[len(body) :])))

    def addresses(self) -> set[int]:
        """Every IPv4 address of this namespace."""
        entries = self._dump(_GETADDR, struct.pack("=BBBBi", _AF_INET, 0, 0, 0, 0))
        return {int.from_bytes(attributes[_IFA_LOCAL], "big") for _, attributes in entries if _IFA_LOCAL in attributes}

    def routes(self) -> list[tuple[int, int]]:
        """(network, prefix length) of every IPv4 route of the main table but the default one."""
        found = []
        for body, attributes in self._dump(_GETROUTE, struct.pack("=BBBBBBBBI", _AF_INET, *[0] * 8)):
            if body[4] == _MAIN_TABLE and _RTA_DST in attributes:
                found.append((int.from_bytes(attributes[_RTA_DST], "big"), body[1]))
        return found

    def mtu(self, name: str) -> int:
        """The MTU of an interface. Raises OSError (ENODEV) when there is none of that name."""
        for _, attributes in self._dump(_GETLINK, _link(0)):
            if attributes[_IFLA_IFNAME].rstrip(b"\0") == name.encode():
                return int(struct.unpack("=I", attributes[_IFLA_MTU])[0])
        raise OSError(19, "no such network interface", name)


def new_veth(index: int, name: str, peer_index: int, peer_name: str, peer_netns: int, mtu: int) -> Message:
    """A pair of interfaces: ``name`` here and up, ``peer_name`` in the namespace of descriptor ``peer_netns``, down."""
    peer = _link(peer_index) + _text(_IFLA_IFNAME, peer_name) + _word(_IFLA_MTU, mtu)
    peer += _word(_IFLA_NET_NS_FD, peer_netns)
    data = _attribute(_INFO_DATA, _attribute(_VETH_INFO_PEER, peer))
    info = _attribute(_IFLA_LINKINFO, _text(_INFO_KIND, "veth") + data)
    return _NEWLINK, _CREATE_EXCL, _link(index, up=True) + _text(_IFLA_IFNAME, name) + _word(_IFLA_MTU, mtu) + info


def link_up(index: int) -> Message:
    """Bring an interface up; 1 is always the loopback one."""
    return _NEWLINK, 0, _link(index, up=True)


def new_address(index: int, address: int, prefix: int) -> Message:
    """Give an interface an IPv4 address."""
    raw = address.to_bytes(4, "big")
    body = struct.pack("=BBBBi", _AF_INET, prefix, 0, 0, index)
    return _NEWADDR, _CREATE_EXCL, body + _attribute(_IFA_LOCAL, raw) + _attribute(_IFA_ADDRESS, raw)


def new_default_route(gateway: int) -> Message:
    """Send everything else to ``gateway``."""
    body = struct.pack("=BBBBBBBBI", _AF_INET, 0, 0, 0, _MAIN_TABLE, _PROTO_BOOT, 0, _UNICAST, 0)
    return _NEWROUTE, _CREATE_EXCL, body + _attribute(_RTA_GATEWAY, gateway.to_bytes(4, "big"))


def _link(index: int, *, up: bool = False) -> bytes:
    return struct.pack("=BxHiII", 0, 0, index, _IFF_UP if up else 0, _IFF_UP if up else 0)


def _attribute(kind: int, data: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(data), kind) + data + b"\0" * (-len(data) % 4)


def _text(kind: int, text: str) -> bytes:
    return _attribute(kind, text.encode() + b"\0")


def _word(kind: int, value: int) -> bytes:
    return _attribute(kind, struct.pack("=I", value))


def _attributes(data: bytes) -> dict[int, bytes]:
    found = {}
    offset = 0
    while offset + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, offset)
        if length < 4:
            break
        found[kind & 0x3FFF] = data[offset + 4 : offset + length]
        offset += (length + 3) & ~3
    return found
