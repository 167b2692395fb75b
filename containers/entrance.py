"""The kernel's way in: TCP to a published port, forwarded into the switch once the host's firewall has let it in.

    client ─SYN─▶ [ host: input, where firewalls judge ─▶ the end of input ]
                       shiplap-at ──veth── shiplap-in ─▶ DNAT ─▶ shiplapN ─▶ [ switch: DNAT by ``published`` ]

A keeper listens at its ports as any program does (``keeper.ports``). Its listener has a mark (SO_MARK) that names the
switch. The last rule of ``input`` sees only what all other rules have let in. A SYN to such a listener does not go on
to it: a copy comes in again by ``shiplap-in``, where it is DNATed to the switch. What follows of the connection is the
kernel's: it passes no process, and the container sees the true client.

Whatever is in the way leads to the listener, and so through the keeper: no mark, a client whose address is one of the
switch's networks, an interface that does not forward, a DNAT by somebody else, no conntrack, tables that were flushed.
A copy may also be lost on its way: another table drops what is sent or forwarded, or the pair was taken down. Then
conntrack has learnt nothing, and the client asks again: its second SYN goes on to the listener (``tried``).
A keeper that is killed takes its listener along, so there is nothing to take back.

The host's table is ``ip shiplap``; it stays, as the pair of interfaces does. Its sets:

    taking, entrances   the marks, and the switch's address for each
    inside              for each mark, the networks of its switch
    doors               interfaces that forward
    tried               clients of whom a copy was sent a moment ago; when it is full, it misses some
"""

from __future__ import annotations

import errno
import os
import sys

from containers import netlink, nftwire, programs
from containers.addresses import pack
from containers.netlink import even_if
from containers.netspaces import read_sysctl, write_sysctls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

TABLE = "shiplap"
IN, AT = "shiplap-in", "shiplap-at"
_IN_MAC, _AT_MAC = b"\x02shpl\x03", b"\x02shpl\x04"
_OWN, _NEXT = "169.254.1.6", "169.254.1.7"
"""The copy goes to a next hop, by the route that an address of the pair makes: a rule with an interface could not be
loaded where there is none yet, as at a boot. What comes there is looked at, whomever it is for."""

_MTU = 65535
_MARK, _ADDRESSES, _NUMBERS = 0x53000000, 0xFFFFFF, 0x7FFF
"""A mark has the last three bytes of the switch's address, which has the pair's number (``kernelway``)."""

_TRIED_S = 8
"""Longer than a client waits before it asks again: one second, or three."""

_VERSION = 2
"""Of the rules below: a table with another one is given these."""

_RULES = f"""\
add table ip {TABLE}
add set ip {TABLE} version {{ type mark; }}
add set ip {TABLE} taking {{ type mark; }}
add map ip {TABLE} entrances {{ type mark : ipv4_addr; }}
add set ip {TABLE} inside {{ type mark . ipv4_addr; flags interval; }}
add set ip {TABLE} doors {{ type ifname; }}
add set ip {TABLE} tried {{ type ipv4_addr . inet_service . inet_service; flags dynamic,timeout; timeout {_TRIED_S}s; \
size 65535; }}
add chain ip {TABLE} taken
add chain ip {TABLE} input {{ type filter hook input priority 2147483646; }}
add chain ip {TABLE} prerouting {{ type nat hook prerouting priority -101; }}
flush set ip {TABLE} version
add element ip {TABLE} version {{ {_VERSION} }}
flush chain ip {TABLE} input
flush chain ip {TABLE} taken
flush chain ip {TABLE} prerouting
table ip {TABLE} {{
  chain taken {{
    fib daddr type != local accept
    ct zone != 0 accept
    ip saddr . tcp sport . tcp dport @tried accept
    add @tried {{ ip saddr . tcp sport . tcp dport }}
    dup to {_NEXT} drop
  }}
  chain input {{
    tcp flags & (fin | syn | rst | ack) != syn accept
    iifname != @doors accept
    ct state != new accept
    ct status snat,dnat accept
    socket mark . ip saddr @inside accept
    socket mark @taking goto taken
  }}
  chain prerouting {{
    iifname "{IN}" dnat to socket mark map @entrances
  }}
}}
"""


def ensure(far: bytes, subnets: Iterable[tuple[int, int]]) -> int:
    """Have the way in there for the switch at this end; the mark of its listeners, 0: there is none here.

    far: the switch's address on its pair with the host. subnets: its networks, (address, prefix length).
    To be called in the host's network namespace. Raises OSError.
    """
    mark = _MARK | int.from_bytes(far, "big") & _ADDRESSES
    host, nft = netlink.Netlink(), nftwire.Nft()
    try:
        if _is_strict() or host.has_rule_by_source():
            key = mark.to_bytes(4, sys.byteorder)
            _delete(nft, nftwire.delete_elements(nftwire.IP, TABLE, "taking", key))  # of listeners that there are
            return 0
        links = host.links()
        if not (IN in links and AT in links and nft.has_version(nftwire.IP, TABLE, _VERSION)) and not _make(host):
            return 0
        _fill(nft, links, mark, far, subnets)
        return mark
    finally:
        nft.close()
        host.close()


def _is_strict() -> bool:
    """Whether a packet is dropped that comes in by another interface than answers go out by: a copy does.

    The larger number counts, and 2 is less strict than 1.
    """
    return max(read_sysctl("ipv4/conf/all/rp_filter"), read_sysctl(f"ipv4/conf/{IN}/rp_filter")) == "1"


def _make(host: netlink.Netlink) -> bool:
    """The pair of interfaces, and the table. A kernel may lack what it takes (nft_socket, nft_dup)."""
    found = host.link(AT)
    if found is None:
        own = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            even_if(errno.EEXIST, lambda: host.change(netlink.new_pair(AT, _AT_MAC, IN, _IN_MAC, own, _MTU)))
        finally:
            os.close(own)
        found = host.link(AT)
    inner = host.link(IN)
    if found is None or inner is None:
        return False
    for change in (
        netlink.no_link_local_address(found[0]),
        netlink.no_link_local_address(inner[0]),
        netlink.link_up(inner[0]),
        netlink.add_address(found[0], pack(_OWN), 31),
        netlink.add_neighbour(found[0], pack(_NEXT), _IN_MAC),
    ):
        even_if(errno.EEXIST, lambda change=change: host.change(change))  # type: ignore[misc]
    write_sysctls((f"ipv4/conf/{IN}/forwarding", "1"), (f"ipv4/conf/{IN}/rp_filter", "0"))
    host.link(AT)  # who asks waits until it carries
    return not programs.nft(_RULES)


def _fill(nft: nftwire.Nft, links: dict[str, int], mark: int, far: bytes, subnets: Iterable[tuple[int, int]]) -> None:
    """Elements for this switch, and none for pairs that are gone."""
    key = mark.to_bytes(4, sys.byteorder)
    taking = set(nft.elements(nftwire.IP, TABLE, "taking"))
    for old in {*taking, *nft.elements(nftwire.IP, TABLE, "entrances")}:
        if not _is_there(int.from_bytes(old, sys.byteorder), links):
            _delete(nft, nftwire.delete_elements(nftwire.IP, TABLE, "taking", old))
            _delete(nft, nftwire.delete_elements(nftwire.IP, TABLE, "entrances", old))
    doors = {bytes(name) for name in nft.elements(nftwire.IP, TABLE, "doors")}
    wanted = {nftwire.ifname(name) for name in links if not name.startswith("shiplap") and _forwards(name)}
    for door in doors - wanted:
        _delete(nft, nftwire.delete_elements(nftwire.IP, TABLE, "doors", door))
    known = nft.ranges(nftwire.IP, TABLE, "inside")
    mine = {_range(mark, address, prefix) for address, prefix in subnets}
    for each in known - mine:
        owner = int.from_bytes(each[0][:4], "big")
        if owner == mark or not _is_there(owner, links):
            _delete(nft, nftwire.delete_ranges(nftwire.IP, TABLE, "inside", each))
    changes = [nftwire.add_elements(nftwire.IP, TABLE, "doors", (door, None)) for door in wanted - doors]
    if mine - known:
        changes.append(nftwire.add_ranges(nftwire.IP, TABLE, "inside", *(mine - known)))
    if key not in taking:
        changes.append(nftwire.add_elements(nftwire.IP, TABLE, "entrances", (key, far)))
        changes.append(nftwire.add_elements(nftwire.IP, TABLE, "taking", (key, None)))
    if changes:
        nft.change(*changes)


def _range(mark: int, address: int, prefix: int) -> tuple[bytes, bytes]:
    """The first and the last key of a network in ``inside``, whose marks are as on the wire."""
    head = mark.to_bytes(4, "big")
    return head + address.to_bytes(4, "big"), head + (address | (1 << 32 - prefix) - 1).to_bytes(4, "big")


def _is_there(mark: int, links: dict[str, int]) -> bool:
    """Whether the pair is that a mark is of."""
    return f"shiplap{(mark & _NUMBERS) >> 1}" in links


def _forwards(name: str) -> bool:
    return name != "lo" and read_sysctl(f"ipv4/conf/{name}/forwarding") == "1"


def _delete(nft: nftwire.Nft, change: nftwire.Change) -> None:
    even_if(errno.ENOENT, lambda: nft.change(change))
