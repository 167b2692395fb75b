"""A container's interface, once it is in the container's network namespace: its addresses, its routes, and up."""

from __future__ import annotations

from containers import netlink
from containers.addresses import pack, pack_prefix
from containers.errors import NetworkError
from containers.netspaces import write_sysctls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from containers.endpoints import Endpoint

PASTA_TIMEOUT_MS = 5
"""The least retransmission time-out of TCP by pasta, which drops what does not fit: docs/decisions/0030."""

_PASTA_SENDING = ("ipv4/tcp_wmem", "4096 16384 262144")
"""Least, first and most bytes of TCP that wait for an answer, IPv6's too: about as much as fits pasta's sockets."""


def configure(
    link: netlink.Netlink, endpoint: Endpoint, gateway_mac: bytes = b"", *, least_timeout_ms: int = 0
) -> None:
    """Configure a new interface. Raises OSError, NetworkError.

    link: a socket in the container's namespace.
    gateway_mac: of the endpoint's gateways, where it has one.
    least_timeout_ms: as ``netlink.add_default_route``'s.
    """
    found = link.link(endpoint.interface)
    if found is None:
        raise NetworkError(f"the interface {endpoint.interface} of a container vanished while it was made")
    index = found[0]
    changes = [netlink.link_up(1)]
    if endpoint.ipv6 is None:
        changes.append(netlink.no_link_local_address(index))
    for text in (endpoint.ipv4, endpoint.ipv6):
        if text is not None:
            address, prefix = pack_prefix(text)
            changes.append(netlink.add_address(index, address, prefix))
    changes.append(netlink.link_up(index))
    gateways = (endpoint.gateway, endpoint.gateway6)
    changes += neighbours(index, gateway_mac, *gateways)
    changes += [
        netlink.add_default_route(pack(gateway), least_timeout_ms=least_timeout_ms)
        for gateway in gateways
        if gateway is not None
    ]
    link.change(*changes)


def bound_sending() -> list[int]:
    """In a container's network namespace that has pasta as its way out: have TCP send no more than pasta takes at once.

    Where nobody may set that, sending is slow.
    """
    try:
        write_sysctls(_PASTA_SENDING)
    except OSError:
        return []
    return []


def neighbours(index: int, mac: bytes, *addresses: str | None) -> list[netlink.Message]:
    """Nobody has to ask for the first packet: a question that comes before the answerer is ready costs a second."""
    return [
        netlink.expect_neighbour(index, pack(text.partition("/")[0]), mac) for text in addresses if text is not None
    ]
