"""What the hub lets through, for nft(8). See ``network``.

A container's IPv6 address is checked against the way that it came by, as ``rp_filter`` does it for IPv4.
"""

from __future__ import annotations

from containers.addresses import network_of, pack_prefix, unpack
from containers.errors import NetworkError
from containers.switchrules import ALWAYS_DENIED, ALWAYS_DENIED6, OUTWARD

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

RULES = """\
table inet shiplap {{
  set host {{ type ipv4_addr; {host} }}
  set host6 {{ type ipv6_addr; {host6} }}
  set resolvers {{ type ipv4_addr; {resolvers} }}
  set resolvers6 {{ type ipv6_addr; {resolvers6} }}
  set denied {{ type ipv4_addr; flags interval; auto-merge; elements = {{ {denied} }} }}
  set denied6 {{ type ipv6_addr; flags interval; auto-merge; elements = {{ {denied6} }} }}
  chain input {{
    type filter hook input priority filter; policy drop;
    iifname "lo" accept
    ct state established,related accept
    icmpv6 type {{ nd-neighbor-solicit, nd-neighbor-advert }} accept
    iifname "v*" reject with icmpx type admin-prohibited
  }}
  chain forward {{
    type filter hook forward priority filter; policy drop;
    iifname "v*" meta nfproto ipv6 fib saddr . iif oif missing drop
    iifname "v*" oifname "v*" reject with icmpx type admin-prohibited
    ct state established,related accept
    iifname "v*" ip daddr @host reject with icmpx type admin-prohibited
    iifname "v*" ip6 daddr @host6 reject with icmpx type admin-prohibited
    iifname "v*" oifname "{outward}" meta l4proto {{ tcp, udp }} th dport 53 ip daddr @resolvers accept
    iifname "v*" oifname "{outward}" meta l4proto {{ tcp, udp }} th dport 53 ip6 daddr @resolvers6 accept
    iifname "v*" ip daddr @denied reject with icmpx type admin-prohibited
    iifname "v*" ip6 daddr @denied6 reject with icmpx type admin-prohibited
    iifname "v*" oifname "{outward}" accept
    iifname "v*" reject with icmpx type admin-prohibited
  }}
  chain postrouting {{
    type nat hook postrouting priority srcnat;
    oifname "{outward}" masquerade
  }}
}}
"""


def parse_networks(text: str) -> tuple[str, ...]:
    """``10.0.0.0/8,192.168.7.1,fd00::/8`` with each part checked. Raises NetworkError."""
    parts = tuple(part.strip() for part in text.split(",") if part.strip())
    for part in parts:
        try:
            address, prefix = pack_prefix(part if "/" in part else f"{part}/{128 if ':' in part else 32}")
        except NetworkError:
            address, prefix = b"", 0
        if not address or network_of(address, prefix) != address:
            raise NetworkError(
                f"{part!r} is no network that could be denied",
                hint="write 10.0.0.0/8, fd00::/8, or an address; commas between",
            )
    return parts


def rules(
    host: AbstractSet[bytes], *, denied: tuple[str, ...] = (), resolvers: AbstractSet[bytes] = frozenset()
) -> str:
    """The hub's packet filter, for nft -f.

    host: its addresses. denied: networks beside those that always are. resolvers: reached all the same.
    """
    return RULES.format(
        host=_elements(host, 4),
        host6=_elements(host, 16),
        resolvers=_elements(resolvers, 4),
        resolvers6=_elements(resolvers, 16),
        denied=", ".join((*ALWAYS_DENIED, *(each for each in denied if ":" not in each))),
        denied6=", ".join((*ALWAYS_DENIED6, *(each for each in denied if ":" in each))),
        outward=OUTWARD,
    )


def update(host: AbstractSet[bytes]) -> str:
    """What tells the filter the host's addresses anew, for nft -f."""
    lines = []
    for name, size in (("host", 4), ("host6", 16)):
        lines.append(f"flush set inet shiplap {name}\n")
        if elements := _elements(host, size):
            lines.append(f"add element inet shiplap {name} {elements.removeprefix('elements = ')}\n")
    return "".join(lines)


def _elements(addresses: AbstractSet[bytes], size: int) -> str:
    """Those of one family, which have this many bytes."""
    found = sorted(address for address in addresses if len(address) == size)
    return "elements = { " + ", ".join(map(unpack, found)) + " }" if found else ""
