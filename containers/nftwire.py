"""Changes of nftables as one netlink message: atomic, and no process. What is rare goes by nft(8) instead.

Layouts: linux/netfilter/nfnetlink.h, linux/netfilter/nf_tables.h. A batch takes effect whole or not at all.
"""

from __future__ import annotations

import _socket
import errno
import os
import struct
import sys

from containers.netlink import attribute, attribute_list, attributes_of, text_attribute

_NETLINK_NETFILTER = 12
_SUBSYSTEM = 10
_BEGIN, _END = 0x10, 0x11
_REQUEST, _ACK, _CREATE, _APPEND, _DUMP = 0x1, 0x4, 0x400, 0x800, 0x300
_NEWTABLE, _GETTABLE, _NEWCHAIN, _NEWRULE, _NEWSETELEM, _GETSETELEM, _DELSETELEM = 0, 1, 3, 6, 12, 13, 14
_DESTROYTABLE = 26
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_NESTED = 0x8000
_GROUP_NFTABLES = 7
_TIMEOUT_S = 10.0  # the kernel answers at once, or after another's batch

BRIDGE, INET, IP = 7, 1, 2
_OUTPUT, _DSTNAT = 3, -100
_REGISTER_1, _REGISTER_2 = 1, 2
_NETWORK_HEADER, _TRANSPORT_HEADER = 1, 2
_META_L4PROTO = 16
_ACCEPT = 1

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeAlias

    Change: TypeAlias = tuple[int, int, int, bytes]
    """Kind, family, flags, attributes."""


class Nft:
    """A socket to the tables of the network namespace that the process was in when it was made; it stays there.

    watch: whether it hears of every change of the tables. fd: a socket that another process made, owned from here on.
    """

    __slots__ = ("_sequence", "_socket")

    def __init__(self, *, watch: bool = False, fd: int | None = None) -> None:
        kind = _socket.SOCK_RAW | _socket.SOCK_CLOEXEC
        self._socket = _socket.socket(_socket.AF_NETLINK, kind, _NETLINK_NETFILTER, fd)
        if fd is None:
            self._socket.bind((0, 1 << _GROUP_NFTABLES - 1 if watch else 0))
        self._socket.settimeout(_TIMEOUT_S)
        self._sequence = 1

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def detach(self) -> int:
        """Its descriptor, which is the caller's from here on."""
        return self._socket.detach()

    def drain(self) -> None:
        """Forget waiting notifications."""
        self._socket.settimeout(0)
        try:
            while True:
                self._socket.recv(1 << 17)
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno != errno.ENOBUFS:  # some were lost, and are not missed
                raise
        finally:
            self._socket.settimeout(_TIMEOUT_S)

    def change(self, *changes: Change) -> None:
        """Carry out all changes, or none. Raises the OSError of the first one that cannot be."""
        first = self._sequence
        packet = _message(_BEGIN, 0, _REQUEST, first, b"", resource=_SUBSYSTEM)
        for number, (kind, family, flags, body) in enumerate(changes, first + 1):
            packet += _message(_SUBSYSTEM << 8 | kind, family, _REQUEST | _ACK | flags, number, body)
        self._sequence = first + len(changes) + 2
        packet += _message(_END, 0, _REQUEST, self._sequence - 1, b"", resource=_SUBSYSTEM)
        self._socket.sendall(packet)
        waiting = len(changes)
        failed = 0
        while waiting:
            for kind, sequence, body in _messages(self._socket.recv(1 << 17)):
                if kind != _NLMSG_ERROR or not first <= sequence < self._sequence:
                    continue  # a notification, or what is left of a batch that failed
                waiting = 0 if sequence == first else waiting - 1  # the batch itself is refused: no other answer comes
                failed = failed or -struct.unpack_from("=i", body)[0]
        if failed:
            raise OSError(failed, f"nftables: {os.strerror(failed)}")

    def elements(self, family: int, table: str, name: str) -> list[bytes]:
        """The keys of a set or map. Raises OSError (ENOENT) when there is none of that name."""
        found = []
        for body in self._dump(_GETSETELEM, family, text_attribute(1, table) + text_attribute(2, name)):
            for _kind, element in attribute_list(attributes_of(body).get(3, b"")):
                key = attributes_of(element).get(1)
                if key is not None:
                    found.append(attributes_of(key)[1])
        return found

    def has_version(self, family: int, table: str, version: int) -> bool:
        """Whether a table of ours is there as this release makes it: its set ``version`` has that number alone."""
        try:
            return self.elements(family, table, "version") == [version.to_bytes(4, sys.byteorder)]
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise
            return False

    def ranges(self, family: int, table: str, name: str) -> set[tuple[bytes, bytes]]:
        """As ``elements``, of a set of concatenations with intervals: the first and the last key of each range."""
        found = set()
        for body in self._dump(_GETSETELEM, family, text_attribute(1, table) + text_attribute(2, name)):
            for _kind, element in attribute_list(attributes_of(body).get(3, b"")):
                first, last = (attributes_of(element).get(kind) for kind in (1, 10))
                if first is not None and last is not None:
                    found.add((attributes_of(first)[1], attributes_of(last)[1]))
        return found

    def has_table(self, family: int, table: str) -> bool:
        """Whether there is a table of that name."""
        return any(
            attributes_of(body).get(1, b"").rstrip(b"\0") == table.encode()
            for body in self._dump(_GETTABLE, family, b"")
        )

    def _dump(self, kind: int, family: int, body: bytes) -> list[bytes]:
        self._sequence += 1
        self._socket.sendall(_message(_SUBSYSTEM << 8 | kind, family, _REQUEST | _DUMP, self._sequence, body))
        found: list[bytes] = []
        while True:
            for reply, sequence, data in _messages(self._socket.recv(1 << 17)):
                if sequence != self._sequence:
                    continue
                if reply == _NLMSG_DONE:
                    return found
                if reply == _NLMSG_ERROR:
                    number = -struct.unpack_from("=i", data)[0]
                    raise OSError(number, f"nftables: {os.strerror(number)}")
                found.append(data[4:])


def add_elements(family: int, table: str, name: str, *elements: tuple[bytes, bytes | None]) -> Change:
    """Add (key, value) pairs to a map, or (key, None) to a set. One that is there already is no error."""
    return _NEWSETELEM, family, _CREATE, _element_list(table, name, elements)


def add_ranges(family: int, table: str, name: str, *ranges: tuple[bytes, bytes]) -> Change:
    """Add ranges to a set of concatenations with intervals: of each (first key, last key), both part of it."""
    return _NEWSETELEM, family, _CREATE, _range_list(table, name, ranges)


def delete_ranges(family: int, table: str, name: str, *ranges: tuple[bytes, bytes]) -> Change:
    """Remove ranges, each of which has to be there (ENOENT)."""
    return _DELSETELEM, family, 0, _range_list(table, name, ranges)


def delete_elements(family: int, table: str, name: str, *keys: bytes) -> Change:
    """Remove elements, each of which has to be there (ENOENT)."""
    return _DELSETELEM, family, 0, _element_list(table, name, tuple((key, None) for key in keys))


def flush_set(family: int, table: str, name: str) -> Change:
    """Remove all elements."""
    return _DELSETELEM, family, 0, text_attribute(1, table) + text_attribute(2, name)


def remove_table(family: int, table: str) -> Change:
    """Remove a table with all that is in it; none of that name is no error."""
    return _DESTROYTABLE, family, 0, text_attribute(1, table)


def redirect_port(table: str, address: bytes, port: int, to_ports: tuple[tuple[int, int], ...]) -> list[Change]:
    """Have what this namespace itself sends to an IPv4 address and port arrive at other ports of the same address.

    to_ports: (protocol, port) pairs. Replaces a table of that name.
    """
    hook = _word(1, _OUTPUT) + attribute(2, struct.pack(">i", _DSTNAT))
    chain = (
        text_attribute(1, table)
        + text_attribute(3, "output")
        + _nest(4, hook)
        + _word(5, _ACCEPT)
        + text_attribute(7, "nat")
    )
    changes: list[Change] = [
        remove_table(IP, table),
        (_NEWTABLE, IP, _CREATE, text_attribute(1, table)),
        (_NEWCHAIN, IP, _CREATE, chain),
    ]
    for protocol, to_port in to_ports:
        expressions = (
            _expression("payload", _word(1, _REGISTER_1) + _word(2, _NETWORK_HEADER) + _word(3, 16) + _word(4, 4)),
            _equal(address),
            _expression("meta", _word(1, _REGISTER_1) + _word(2, _META_L4PROTO)),
            _equal(bytes([protocol])),
            _expression("payload", _word(1, _REGISTER_1) + _word(2, _TRANSPORT_HEADER) + _word(3, 2) + _word(4, 2)),
            _equal(port.to_bytes(2, "big")),
            _expression("immediate", _word(1, _REGISTER_1) + _nest(2, attribute(1, address))),
            _expression("immediate", _word(1, _REGISTER_2) + _nest(2, attribute(1, to_port.to_bytes(2, "big")))),
            _expression("nat", _word(1, 1) + _word(2, IP) + _word(3, _REGISTER_1) + _word(5, _REGISTER_2)),
        )
        rule = (
            text_attribute(1, table)
            + text_attribute(2, "output")
            + _nest(4, b"".join(_nest(1, each) for each in expressions))
        )
        changes.append((_NEWRULE, IP, _CREATE | _APPEND, rule))
    return changes


def ifname(name: str) -> bytes:
    """An interface's name as part of a key."""
    return name.encode().ljust(16, b"\0")


def padded(value: bytes) -> bytes:
    """A part of a concatenated key or value."""
    return value + b"\0" * (-len(value) % 4)


def _equal(value: bytes) -> bytes:
    return _expression("cmp", _word(1, _REGISTER_1) + _word(2, 0) + _nest(3, attribute(1, value)))


def _expression(name: str, data: bytes) -> bytes:
    return text_attribute(1, name) + _nest(2, data)


def _element_list(table: str, name: str, elements: tuple[tuple[bytes, bytes | None], ...]) -> bytes:
    listed = b""
    for key, value in elements:
        element = _nest(1, attribute(1, key))
        if value is not None:
            element += _nest(2, attribute(1, value))
        listed += _nest(1, element)
    return text_attribute(1, table) + text_attribute(2, name) + _nest(3, listed)


def _range_list(table: str, name: str, ranges: tuple[tuple[bytes, bytes], ...]) -> bytes:
    listed = b"".join(_nest(1, _nest(1, attribute(1, first)) + _nest(10, attribute(1, last))) for first, last in ranges)
    return text_attribute(1, table) + text_attribute(2, name) + _nest(3, listed)


def _message(kind: int, family: int, flags: int, sequence: int, body: bytes, *, resource: int = 0) -> bytes:
    head = struct.pack("=IHHII", 20 + len(body), kind, flags, sequence, 0)
    return head + struct.pack(">BBH", family, 0, resource) + body


def _messages(data: bytes) -> list[tuple[int, int, bytes]]:
    """(kind, sequence, body) of each message."""
    found = []
    offset = 0
    while offset + 16 <= len(data):
        length, kind, _flags, sequence, _pid = struct.unpack_from("=IHHII", data, offset)
        found.append((kind, sequence, data[offset + 16 : offset + length]))
        offset += max(16, (length + 3) & ~3)
    return found


def _nest(kind: int, data: bytes) -> bytes:
    return attribute(kind | _NESTED, data)


def _word(kind: int, value: int) -> bytes:
    return attribute(kind, struct.pack(">I", value))
