"""A segment: one bridge in a network namespace of its own, by which a few containers reach each other and nothing else.

    [ segment: b ] ── veth ── [ container: eth1 ]     the same for each; eth0, where there is one, is the hub's

A job and its services have one. Nothing else is in the namespace: no address of its own, no route, no way out, no
packet filter that could be wrong. So nobody outside is reached by it or reaches it, whatever the host's filter does
with bridged packets, and all segments use the same addresses
(docs/decisions/0035-a-jobs-services-have-a-namespace.md).

A descriptor is all that keeps it. Whoever holds that ends, by whatever: the namespace, the bridge and the interfaces of
its containers go with it.
"""

from __future__ import annotations

import os

from containers import netlink
from containers.addresses import mac_for, pack_mac, pack_prefix, unpack
from containers.endpoints import Endpoint
from containers.interfaces import configure
from containers.netspaces import inside
from containers.switchpin import leave_bridged_alone

_BRIDGE = "b"
_INTERFACE = "eth1"
_MAC = "02:42:c6:33:64:00"
_MTU = 1500
_SUBNET = bytes((198, 51, 100, 0))
"""TEST-NET-2: no network uses it, so it hides nothing that a container may want to reach.  RFC 5737"""

MOST = 100
"""Containers of a segment."""


def address_of(number: int) -> str:
    """The address of a segment's container, by its number from 1 to ``MOST``: the same in each segment."""
    assert 1 <= number <= MOST
    return unpack(_SUBNET[:3] + bytes([number]))


def make() -> int:
    """A new segment: a descriptor of its namespace. Raises OSError, NetworkError."""

    def work() -> list[int]:
        leave_bridged_alone()
        link = netlink.Netlink()
        link.change(netlink.link_up(1), netlink.new_bridge(_BRIDGE, pack_mac(_MAC)))
        index = link.link(_BRIDGE)
        assert index is not None, "it was made"
        link.change(netlink.no_link_local_address(index[0]))
        link.close()
        return [os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)]

    return inside(None, work)[0]


def attach(segment: int, netns: int, address: str) -> None:
    """Give a container an interface of the segment, up. Raises OSError, NetworkError.

    segment, netns: descriptors of the two namespaces. address: as ``address_of``.
    """
    ipv4 = f"{address}/24"
    packed = pack_prefix(ipv4)[0]
    end = Endpoint("", "", _INTERFACE, mac_for(packed), ipv4)
    (fd,) = inside(segment, lambda: [netlink.Netlink().detach()])
    link = netlink.Netlink(fd=fd)
    try:
        bridge = link.link(_BRIDGE)
        assert bridge is not None, "it was made with the namespace"
        name = f"v{packed[3]}"
        old = link.link(name)
        if old is not None:  # of one that has ended, whose namespace the kernel has still to take apart
            link.change(netlink.delete_link(old[0]))
        link.change(netlink.new_port(name, bridge[0], _INTERFACE, pack_mac(end.mac), netns, _MTU))
        (fd,) = inside(netns, lambda: [netlink.Netlink().detach()])
        theirs = netlink.Netlink(fd=fd)
        try:
            configure(theirs, end)
        finally:
            theirs.close()
        link.link(name)  # who asks waits until it carries
    finally:
        link.close()
