"""The kernel's way out of a network namespace of ours: a veth pair to the host, which forwards and masquerades.

    [ hub or switch: out 198.19.0.1 ] ── veth ── [ host: shiplap0 198.19.0.0 | masquerade, filter ] ── eth0

The host has one table of ours, ``shiplap``, whose rules name ``shiplap*``. It is made once, serves all, and stays.
A pair's number is its lock: the name ``shiplapN`` can be there once only. It goes with the namespace that it leads to,
so nothing is left of who was killed.

Nothing comes in by it but answers and what is for published ports (``entrance``), nor does anything of the host's own:
its users come to a published port past its firewall's ``input``, as all do. Nothing goes from one pair to
another. Of the host itself nothing is reached but ``switchrules.HOST_GATEWAY``, where the switch lets it. Where
forwarding was off, it is switched on for the interfaces concerned only; what else could be forwarded then
(``borrowed``) is dropped, unless somebody's DNAT asks for it.

A packet tells whether another firewall drops what is forwarded: ``join`` sends it through the host into a throw-away
namespace on the other side, and waits for the answer.
"""

from __future__ import annotations

import _socket
import errno
import os

from containers import entrance, netlink, nftwire, programs
from containers.addresses import AF_INET, AF_INET6, pack
from containers.errors import NetworkError
from containers.netspaces import inside, read_sysctl, write_sysctls
from containers.subnets import choose_subnet
from containers.switchrules import HOST_GATEWAY, OUTWARD, TABLE

_VERSION = 3
"""Of the rules below, as their set ``version`` has it: another one is replaced."""

_BLOCKS = ("198.19.0.0", "198.18.0.0", "10.214.0.0", "10.88.0.0", "172.30.0.0", "100.126.0.0")
_PAIRS = 1 << 14
_PREFIX, _PREFIX6 = 31, 127
_BLOCK6 = pack("fd53:6869:706c:6170:ffff::")
_NEAR_MAC, _FAR_MAC = b"\x02shpl\x01", b"\x02shpl\x02"
"""Of every pair: it is a link between two. They know each other, for a question asked too early is not asked again."""

_PLAIN_MTU = 1500
_PROBE_PORT = 7
_PROBE_WAITS_S = (0.002, 0.004, 0.008, 0.016, 0.06, 0.2)  # before Linux 6.6 a new link takes a moment to carry
_RULES = """\
add table inet shiplap
add set inet shiplap version {{ type mark; }}
add set inet shiplap borrowed {{ type ifname; }}
add chain inet shiplap input {{ type filter hook input priority filter; }}
add chain inet shiplap forward {{ type filter hook forward priority filter; }}
add chain inet shiplap postrouting {{ type nat hook postrouting priority srcnat; }}
flush set inet shiplap version
flush chain inet shiplap input
flush chain inet shiplap forward
flush chain inet shiplap postrouting
add element inet shiplap version {{ {version} }}
table inet shiplap {{
  chain input {{
    iifname != "shiplap*" accept
    ct state established,related accept
    ip daddr {gateway} accept
    icmpv6 type {{ nd-neighbor-solicit, nd-neighbor-advert }} accept
    drop
  }}
  chain forward {{
    iifname "{entrance}" oifname "shiplap*" ct status dnat accept
    iifname "{entrance}" drop
    iifname "shiplap*" oifname "shiplap*" drop
    iifname "shiplap*" accept
    ct state established,related accept
    oifname "shiplap*" ct status dnat accept
    oifname "shiplap*" drop
    iifname @borrowed ct status dnat accept
    iifname @borrowed drop
  }}
  chain postrouting {{
    iifname "{entrance}" accept
    iifname "shiplap*" masquerade
    oifname "shiplap*" ct status & dnat == 0 drop
  }}
}}
"""


def join(netns: int, host: netlink.Netlink) -> int:
    """Give a network namespace the interface ``out`` to the host, with a default route; the MTU of the way.

    host: a socket in the host's namespace, where this process has to be. Raises NetworkError when the kernel is no way
    out here: the message says why, the hint what would open it. Nothing is left then, but the table.
    """
    try:
        version6 = host.has_default_route(AF_INET6) and _forwards_ipv6()
        if not host.has_default_route(AF_INET):
            raise NetworkError("the host has no way out by IPv4")
        block = _block(host)
        ensure_table()
        mtu = host.default_mtu() or _PLAIN_MTU
        number, name = _pair(netns, host, "shiplap", OUTWARD, mtu)
        try:
            _configure(netns, host, name, block + 2 * number, number, gateway=True, version6=version6)
            _forward(host, name, version6=version6)
            _probe(netns, host, block + 2 * _PAIRS)
        except BaseException:
            _remove(host, name)
            raise
    except OSError as error:
        raise NetworkError(f"the kernel's way out cannot be made: {error}") from error
    return mtu


def ensure_table() -> None:
    """Make the host's table, or make it again when it was flushed or is another release's.

    Raises NetworkError, OSError. Whoever runs for long calls it when the tables have changed (``nftwire.Nft``, watch).
    """
    nft = nftwire.Nft()
    try:
        if nft.has_version(nftwire.INET, TABLE, _VERSION):
            return
    finally:
        nft.close()
    said = programs.nft(_RULES.format(version=_VERSION, gateway=HOST_GATEWAY, entrance=entrance.IN))
    if said:
        raise NetworkError(f"nft failed to open the kernel's way out: {said}", hint=programs.remedy("nft", said))


def try_out() -> None:
    """See whether the kernel is a way out here, and leave the host as it was. Raises NetworkError when it is not."""
    nft = nftwire.Nft()
    host = netlink.Netlink()
    try:
        was_there = nft.has_table(nftwire.INET, TABLE)
        (netns,) = inside(None, lambda: [os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)])
        try:
            join(netns, host)
        finally:
            os.close(netns)
            if not was_there and nft.has_table(nftwire.INET, TABLE):
                borrowed = (
                    nft.elements(nftwire.INET, TABLE, "borrowed")
                    if nft.has_version(nftwire.INET, TABLE, _VERSION)
                    else []
                )
                names = [name.rstrip(b"\0").decode() for name in borrowed]
                write_sysctls(*((f"ipv4/conf/{name}/forwarding", "0") for name in names))
                nft.change(nftwire.remove_table(nftwire.INET, TABLE))
    finally:
        host.close()
        nft.close()


def give_back_borrowed() -> None:
    """Let the host forward as it likes, if it has come to be a router itself: a docker that was started later."""
    if read_sysctl("ipv4/ip_forward") == "1":
        nft = nftwire.Nft()
        try:
            nft.change(nftwire.flush_set(nftwire.INET, TABLE, "borrowed"))
        finally:
            nft.close()


def _block(host: netlink.Netlink) -> int:
    """The first block that the host routes nothing into but pairs of ours. Raises NetworkError."""
    routes = [(place, prefix) for place, prefix in host.routes() if prefix != _PREFIX]
    return choose_subnet(routes, _BLOCKS)


def _pair(netns: int, host: netlink.Netlink, prefix: str, inner: str, mtu: int) -> tuple[int, str]:
    """A veth pair under a number that is nobody's: the number, and the name of the host's end."""
    first = int.from_bytes(os.urandom(2), "big")
    for attempt in range(_PAIRS):
        number = (first + attempt) % _PAIRS
        name = f"{prefix}{number}"
        try:
            host.change(netlink.new_pair(name, _NEAR_MAC, inner, _FAR_MAC, netns, mtu))
        except FileExistsError:
            continue
        return number, name
    raise NetworkError(f"no number is free for another way out: {_PAIRS} are in use")


def _configure(
    netns: int, host: netlink.Netlink, name: str, base: int, number: int, *, gateway: bool, version6: bool
) -> None:
    """Addresses of both ends of a pair; a default route at the far one."""
    found = host.link(name)
    if found is None:
        raise OSError(errno.ENODEV, "the interface vanished while it was made", name)
    near, far = base.to_bytes(4, "big"), (base + 1).to_bytes(4, "big")
    near6, far6 = (_BLOCK6[:12] + (2 * number + end).to_bytes(4, "big") for end in (0, 1))
    changes = [netlink.add_address(found[0], near, _PREFIX), netlink.add_neighbour(found[0], far, _FAR_MAC)]
    if gateway:
        changes.append(netlink.add_address(found[0], pack(HOST_GATEWAY), 32))
    if version6:
        changes.append(netlink.add_address(found[0], near6, _PREFIX6))
        changes.append(netlink.add_neighbour(found[0], far6, _FAR_MAC))
    host.change(*changes)

    def there() -> list[int]:
        link = netlink.Netlink()
        try:
            inner = link.link(OUTWARD)
            assert inner is not None
            link.change(
                netlink.add_address(inner[0], far, _PREFIX),
                netlink.link_up(inner[0]),
                netlink.add_neighbour(inner[0], near, _NEAR_MAC),
                netlink.add_default_route(near),
            )
            if version6:
                link.change(
                    netlink.add_address(inner[0], far6, _PREFIX6),
                    netlink.add_neighbour(inner[0], near6, _NEAR_MAC),
                    netlink.add_default_route(near6),
                )
        finally:
            link.close()
        return []

    inside(netns, there)
    host.link(name)  # who asks waits until it carries


def _forward(host: netlink.Netlink, name: str, *, version6: bool) -> None:
    """Have the host forward what comes by our interface, and the answers, which come by all others."""
    own = [(f"ipv4/conf/{name}/forwarding", "1")]
    if version6:
        own += [(f"ipv6/conf/{name}/accept_ra", "0"), (f"ipv6/conf/{name}/force_forwarding", "1")]
    write_sysctls(*own)
    if read_sysctl("ipv4/ip_forward") == "1":
        return
    others = [other for other in host.links() if other != "lo" and not other.startswith("shiplap")]
    borrowed = [other for other in others if read_sysctl(f"ipv4/conf/{other}/forwarding") == "0"]
    if borrowed:
        nft = nftwire.Nft()
        try:
            elements = [(nftwire.ifname(other), None) for other in borrowed]
            nft.change(nftwire.add_elements(nftwire.INET, TABLE, "borrowed", *elements))  # before it can be used
        finally:
            nft.close()
        write_sysctls(*((f"ipv4/conf/{other}/forwarding", "1") for other in borrowed))


def _forwards_ipv6() -> bool:
    """Whether the host can forward IPv6 by one interface without becoming a router, who takes no addresses by RA."""
    return read_sysctl("ipv6/conf/all/forwarding") == "1"


def _probe(netns: int, host: netlink.Netlink, block: int) -> None:
    """Send a packet through the host, and have an answer sent back. Raises NetworkError when one is dropped."""
    (far,) = inside(None, lambda: [os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)])
    try:
        number, name = _pair(far, host, "shl-probe", OUTWARD, _PLAIN_MTU)
        base = block + 2 * number
        _configure(far, host, name, base, number, gateway=False, version6=False)
        write_sysctls((f"ipv4/conf/{name}/forwarding", "1"))
        address = ".".join(map(str, (base + 1).to_bytes(4, "big")))
        (there,) = inside(far, lambda: [_udp(address, _PROBE_PORT)])
        (here,) = inside(netns, lambda: [_udp()])
        with _socket_of(there) as server, _socket_of(here) as client:
            client.connect((address, _PROBE_PORT))
            if not _answered(client, server):
                raise _dropped(host)
    finally:
        os.close(far)  # its interfaces go with it, and nobody waits for that


class _socket_of:  # noqa: N801 - a context, as a function
    """A descriptor as a socket that is closed at the end. (``_socket`` has no contexts.)"""

    def __init__(self, fd: int) -> None:
        self._socket = _socket.socket(fileno=fd)

    def __enter__(self) -> _socket.socket:
        return self._socket

    def __exit__(self, *_: object) -> None:
        self._socket.close()


def _udp(address: str = "", port: int = 0) -> int:
    made = _socket.socket(AF_INET, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC)
    made.bind((address, port))
    return made.detach()


def _answered(client: _socket.socket, server: _socket.socket) -> bool:
    """Whether a datagram gets there and back. As a rule it is there when ``send`` returns."""
    for wait_s in _PROBE_WAITS_S:
        for each in (client, server):
            each.settimeout(wait_s)
        try:
            client.send(b"there?")
            _data, peer = server.recvfrom(16)
            server.sendto(b"yes", peer)
            client.recv(16)
        except TimeoutError:
            continue
        except OSError:
            return False  # rejected, and told so by ICMP
        return True
    return False


def _dropped(host: netlink.Netlink) -> NetworkError:
    """Who drops what is forwarded, as far as one can tell, and the rule that would let it through."""
    nft = nftwire.Nft()
    try:
        firewalld = nft.has_table(nftwire.INET, "firewalld")
    finally:
        nft.close()
    if firewalld:
        rule = "firewall-cmd --permanent --zone=trusted --add-interface=shiplap+ && firewall-cmd --reload"
        return NetworkError("firewalld rejects what is forwarded", hint=f"as root: {rule}")
    if "docker0" in host.links():
        answers = "-o shiplap+ -m conntrack --ctstate RELATED,ESTABLISHED,DNAT"
        rule = f"iptables -I DOCKER-USER -i shiplap+ -j ACCEPT; iptables -I DOCKER-USER {answers} -j ACCEPT"
        return NetworkError("docker drops what others forward", hint=f"as root: {rule}")
    rule = "accept what comes in by shiplap*, and the answers"
    return NetworkError("another firewall drops what is forwarded", hint=f"in its rules for forwarding: {rule}")


def _remove(host: netlink.Netlink, name: str) -> None:
    found = host.link(name)
    if found is not None:
        try:
            host.change(netlink.delete_link(found[0]))
        except OSError as error:
            if error.errno != errno.ENODEV:
                raise
