"""What the switch lets through, as one nft(8) script: its tables, chains and empty sets.

What changes while containers come and go are elements only, by ``nftwire``. The script may be applied again at any
time, whole or not at all: the elements stay.

The bridge table knows each port's one MAC address and its IP addresses. Nothing else comes from a port: no other
Ethernet protocol, no tag, no ARP or neighbour advertisement of another's address, no router advertisement, no redirect.

The inet table says who may talk to whom: ``forward`` from the top. A published port of another container is found
before that, in ``dstnat``: by the gateways' and the host's addresses (``reachable``), or by the very address it is
published at. What comes in from the host is for a published port as well (``entrance``), and goes on as long as that
is published (``behind``). ``mangle`` gives the answers to transparent sockets, which published ports have, to this
namespace.
"""

from __future__ import annotations

OUTWARD = "out"
TABLE = "shiplap"
HOST_GATEWAY, HOST_GATEWAY6 = "169.254.1.2", "fd53:6869:706c:6170::2"
ALWAYS_DENIED = ("169.254.0.0/16",)
ALWAYS_DENIED6 = (
    "fe80::/10",
    "fd00:ec2::/32",  # metadata services: Amazon's,
    "fd20:ce::254/128",  # Google's,
    "fd00:c1::a9fe:a9fe/128",  # Oracle's,
    "fd00:42::42/128",  # Scaleway's,
    "64:ff9b::a9fe:0/112",  # and 169.254.0.0/16 by NAT64 and by 6to4
    "2002:a9fe::/32",
)
MARK = 0x5417
LOCAL_TABLE = 200  # of routes
FIND_TRANSPARENT, FIND_NOTHING = "socket transparent 1", "meta mark 1 meta mark 2"

SETS = {
    "bridges": "type ifname",
    "outgoing": "type ifname",
    "same": "type ifname . ifname",
    "host": "type ipv4_addr",
    "host6": "type ipv6_addr",
    "reachable": "type ipv4_addr",
    "reachable6": "type ipv6_addr",
    "opened": "type ifname . ipv4_addr",
    "opened6": "type ifname . ipv6_addr",
    "resolvers": "type ipv4_addr",
    "resolvers6": "type ipv6_addr",
    "behind": "type inet_proto . ipv4_addr . inet_service",
}
MAPS = {
    "published": "type inet_proto . inet_service : ipv4_addr . inet_service",
    "published6": "type inet_proto . inet_service : ipv6_addr . inet_service",
    "published_at": "type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service",
    "published_at6": "type ipv6_addr . inet_proto . inet_service : ipv6_addr . inet_service",
}
PORT_SETS = {
    "macs": "type ifname . ether_addr",
    "addresses": "type ifname . ipv4_addr",
    "addresses6": "type ifname . ipv6_addr",
}

_BRIDGE_RULES = """\
add chain bridge shiplap ports {{ type filter hook prerouting priority -300; policy drop; }}
flush chain bridge shiplap ports
table bridge shiplap {{
  chain ports {{
    iifname . ether saddr != @macs drop
    ether type ip iifname . ip saddr @addresses accept
    ether type arp arp htype 1 arp ptype ip arp hlen 6 arp plen 4 iifname . arp saddr ether @macs \
iifname . arp saddr ip @addresses accept
    ether type != ip6 drop
    icmpv6 type {{ nd-router-advert, nd-router-solicit, nd-redirect }} drop
    icmpv6 type nd-neighbor-advert iifname . icmpv6 taddr != @addresses6 drop
    iifname . ip6 saddr @addresses6 accept
  }}
}}
"""

_INET_RULES = """\
add chain inet shiplap dstnat {{ type nat hook prerouting priority dstnat; }}
add chain inet shiplap mangle {{ type filter hook prerouting priority mangle; }}
add chain inet shiplap input {{ type filter hook input priority filter; policy drop; }}
add chain inet shiplap forward {{ type filter hook forward priority filter; policy drop; }}
add chain inet shiplap postrouting {{ type nat hook postrouting priority srcnat; }}
flush chain inet shiplap dstnat
flush chain inet shiplap mangle
flush chain inet shiplap input
flush chain inet shiplap forward
flush chain inet shiplap postrouting
table inet shiplap {{
  chain dstnat {{
    iifname "{outward}" meta l4proto tcp dnat ip to meta l4proto . th dport map @published
    iifname != @outgoing return
    dnat ip to ip daddr . meta l4proto . th dport map @published_at
    dnat ip6 to ip6 daddr . meta l4proto . th dport map @published_at6
    ip daddr @reachable dnat ip to meta l4proto . th dport map @published
    ip6 daddr @reachable6 dnat ip6 to meta l4proto . th dport map @published6
  }}
  chain mangle {{
    iifname @outgoing meta l4proto {{ tcp, udp }} {transparent} meta mark set {mark} accept
  }}
  chain input {{
    iifname "lo" accept
    meta mark {mark} accept
    ct state established,related accept
    iifname "{outward}" meta l4proto tcp reject with tcp reset
    iifname @bridges icmp type echo-request accept
    iifname @bridges icmpv6 type {{ echo-request, nd-neighbor-solicit, nd-neighbor-advert }} accept
    icmpv6 type {{ nd-neighbor-solicit, nd-neighbor-advert }} iifname "{outward}" accept
    iifname @bridges reject with icmpx type admin-prohibited
  }}
  chain forward {{
    iifname "{outward}" ct direction original ct status dnat meta l4proto . ip daddr . th dport @behind accept
    iifname "{outward}" ct direction original ct status dnat meta l4proto tcp reject with tcp reset
    iifname . oifname @same accept
    ct state established,related accept
    iifname @outgoing oifname @outgoing ct status dnat accept
    iifname @bridges oifname @bridges reject with icmpx type admin-prohibited
    oifname "{outward}" iifname . ip saddr @opened ip daddr {gateway} accept
    oifname "{outward}" iifname . ip6 saddr @opened6 ip6 daddr {gateway6} accept
    iifname @bridges ip daddr @host reject with icmpx type admin-prohibited
    iifname @bridges ip6 daddr @host6 reject with icmpx type admin-prohibited
    iifname @outgoing oifname "{outward}" meta l4proto {{ tcp, udp }} th dport 53 ip daddr @resolvers accept
    iifname @outgoing oifname "{outward}" meta l4proto {{ tcp, udp }} th dport 53 ip6 daddr @resolvers6 accept
    iifname @bridges ip daddr @denied reject with icmpx type admin-prohibited
    iifname @bridges ip6 daddr @denied6 reject with icmpx type admin-prohibited
    iifname @outgoing oifname "{outward}" accept
    iifname @bridges reject with icmpx type admin-prohibited
  }}
  chain postrouting {{
    oifname "{outward}" masquerade
    ct status dnat iifname . oifname @same masquerade
  }}
}}
"""


def script(denied: tuple[str, ...] = ()) -> str:
    """Everything, for ``nft -f``.

    denied: networks that containers do not reach, IPv4 and IPv6, beside link-local ones.
    """
    lines = [f"add table bridge {TABLE}", f"add table inet {TABLE}"]
    lines += [f"add set bridge {TABLE} {name} {{ {kind}; }}" for name, kind in PORT_SETS.items()]
    lines += [f"add set inet {TABLE} {name} {{ {kind}; }}" for name, kind in SETS.items()]
    lines += [f"add map inet {TABLE} {name} {{ {kind}; }}" for name, kind in MAPS.items()]
    denied4 = (*ALWAYS_DENIED, *(network for network in denied if ":" not in network))
    denied6 = (*ALWAYS_DENIED6, *(network for network in denied if ":" in network))
    for name, kind, networks in (("denied", "ipv4_addr", denied4), ("denied6", "ipv6_addr", denied6)):
        lines.append(f"add set inet {TABLE} {name} {{ type {kind}; flags interval; auto-merge; }}")
        lines.append(f"flush set inet {TABLE} {name}")
        lines.append(f"add element inet {TABLE} {name} {{ {', '.join(networks)} }}")
    inet = _INET_RULES.format(
        outward=OUTWARD,
        mark=MARK,
        gateway=HOST_GATEWAY,
        gateway6=HOST_GATEWAY6,
        transparent=FIND_TRANSPARENT,
    )
    return "\n".join(lines) + "\n" + _BRIDGE_RULES.format() + inet
