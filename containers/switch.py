"""The switch: the network namespace that holds all bridges of an engine's root. The kernel does the work in it.

    host ── uplink ── [ switch: out | filter, masquerade | b-a  b-b  … ] ── veth ── [ container: eth0, eth1 ]

On disk, below RUN/switch, which is as private as RUN:

    net     the namespace, pinned by a mount; that is made last, so the namespace is whole or absent
    lock    held (flock) by whoever makes the namespace or gives it new rules
    rules   the digest of the rules that it has: another release brings others
    opaque  is there when the kernel cannot tell transparent sockets (no nft_socket)

Whoever needs the switch opens it again (``open_switch``); nobody owns it. Every change is one that may be made twice,
and may be cut off at any instant: elements of the filter come before the interface that they are for, and what nobody
knows any more is removed by ``sweep``. A port without elements passes nothing.
"""

from __future__ import annotations

import errno
import os
from _blake2 import blake2b

from containers import netlink, nftwire, resolvers, syscalls
from containers.addresses import link_local, pack, pack_mac, pack_prefix
from containers.endpoints import Endpoint, Network, Publication, bridge_of, mac_of
from containers.errors import NetworkError
from containers.interfaces import configure, neighbours
from containers.netlink import even_if
from containers.netspaces import inside
from containers.switchpin import OPAQUE, apply, leave_bridged_alone, locked, make, pinned, read, write
from containers.switchrules import MAPS, OUTWARD, PORT_SETS, TABLE, script

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from containers.nftwire import Change

_PROTOCOLS = {"tcp": b"\x06", "udp": b"\x11"}


class Switch:
    """The switch of one root, open. Close it after use; it stays.

    netns: a descriptor of its namespace. host: a socket in the namespace of whoever opened it, which was the host's.
    """

    def __init__(self, netns: int, host: netlink.Netlink) -> None:
        self.netns = netns
        self.host = host

        link, rules = inside(netns, lambda: [netlink.Netlink().detach(), nftwire.Nft().detach()])
        self._link = netlink.Netlink(fd=link)
        self._nft = nftwire.Nft(fd=rules)

    def __enter__(self) -> Switch:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._link.close()
        self._nft.close()
        self.host.close()
        os.close(self.netns)

    def add_network(self, net: Network) -> None:
        """Make the bridge of a network, or finish it. Raises OSError, NetworkError."""
        name = nftwire.ifname(net.bridge)
        both = [("bridges", name), ("same", name + name)]
        changes = [_add(each, key) for each, key in [*both, *([] if net.internal else [("outgoing", name)])]]
        gateways = [pack(address) for address in (net.gateway, net.gateway6) if address is not None]
        if not net.internal:
            changes += [_add(_for("reachable", gateway), gateway) for gateway in gateways]
        self._nft.change(*changes)
        if self._link.link(net.bridge) is None:
            even_if(errno.EEXIST, lambda: self._link.change(netlink.new_bridge(net.bridge, mac_of(net.id))))
        index = self._bridge(net.id)[0]
        own = [(net.subnet, net.gateway), (net.subnet6, net.gateway6)]
        if net.subnet6 is not None:
            own.append(("fe80::/64", "fe80::1"))  # what neighbours are asked from
        for subnet, gateway in own:
            if subnet is not None and gateway is not None:
                address = netlink.add_address(index, pack(gateway), pack_prefix(subnet)[1])
                even_if(errno.EEXIST, lambda address=address: self._link.change(address))  # type: ignore[misc]

    def remove_network(self, net: Network) -> None:
        """Remove a network's bridge with all its ports, if it is there."""
        found = self._link.link(net.bridge)
        if found is not None:
            even_if(errno.ENODEV, lambda: self._link.change(netlink.delete_link(found[0])))
        name = nftwire.ifname(net.bridge)
        self._delete(nftwire.INET, "bridges", name)
        self._delete(nftwire.INET, "outgoing", name)
        self._delete(nftwire.INET, "same", name + name)
        for gateway in (net.gateway, net.gateway6):
            if gateway is not None:
                self._delete(nftwire.INET, _for("reachable", pack(gateway)), pack(gateway))

    def networks(self) -> set[str]:
        """The names of the bridges that there are (``Network.bridge``)."""
        return {name for name in self._link.links() if name.startswith("b-")}

    def attach(self, netns: int, endpoint: Endpoint, *, least_timeout_ms: int = 0) -> None:
        """Give a container's network namespace its interface, with addresses and routes, up.

        least_timeout_ms: of retransmissions to the outside; 0: the kernel's own.
        What is there of the same endpoint, in this or an earlier namespace, is replaced. Raises OSError, and
        NetworkError when the network is not there.
        """
        bridge, mtu, mac = self._bridge(endpoint.network)
        self._nft.change(*_elements_of(endpoint, add=True))
        self._forget_behind(endpoint)
        old = self._link.link(endpoint.port)
        if old is not None:
            even_if(errno.ENODEV, lambda: self._link.change(netlink.delete_link(old[0])))
        port = netlink.new_port(
            endpoint.port, bridge, endpoint.interface, pack_mac(endpoint.mac), netns, self.mtu() or mtu
        )
        self._link.change(port)
        (fd,) = inside(netns, lambda: [netlink.Netlink().detach()])
        link = netlink.Netlink(fd=fd)
        try:
            configure(link, endpoint, mac, least_timeout_ms=least_timeout_ms)
        finally:
            link.close()
        self._link.link(endpoint.port)  # who asks waits until it carries
        self._link.change(*neighbours(bridge, pack_mac(endpoint.mac), endpoint.ipv4, endpoint.ipv6))

    def detach(self, endpoint: Endpoint) -> None:
        """Take a container's interface away, if it is there."""
        found = self._link.link(endpoint.port)
        if found is not None:
            even_if(errno.ENODEV, lambda: self._link.change(netlink.delete_link(found[0])))
        for change in _elements_of(endpoint, add=False):
            even_if(errno.ENOENT, lambda change=change: self._nft.change(change))  # type: ignore[misc]

    def publish(self, publication: Publication) -> None:
        """Let other containers reach a published port by the addresses that it is published at."""
        name, key, value = _published(publication)
        changes = [_add("behind", behind) for behind in _behind(publication)]
        changes.append(nftwire.add_elements(nftwire.INET, TABLE, name, (key, value)))
        try:
            self._nft.change(*changes)
        except FileExistsError:  # with another container behind it, who was killed
            self._nft.change(nftwire.delete_elements(nftwire.INET, TABLE, name, key), *changes)

    def withdraw(self, publication: Publication) -> None:
        """The opposite of ``publish``; nothing when it is not there."""
        name, key, _value = _published(publication)
        self._delete(nftwire.INET, name, key)
        for behind in _behind(publication):
            self._delete(nftwire.INET, "behind", behind)

    def way_in(self) -> tuple[bytes, list[tuple[int, int]]] | None:
        """For ``entrance``: the address on the pair with the host, and the networks; None when there is no pair."""
        found = self._link.links().get(OUTWARD)
        if found is None:
            return None
        ours = self._link.all_addresses() - self._link.all_addresses(without=(OUTWARD,))
        far = next((address for address in ours if len(address) == 4), None)
        return None if far is None else (far, [route for route in self._link.routes() if route[1] < 31])

    def refresh(self, resolvers: Iterable[bytes] = ()) -> None:
        """Take over the host's addresses as they are now: what containers do not reach. resolvers: they do, for names.

        Whoever runs for long calls it when ``host`` (opened to watch) is readable; ``open_switch`` does it at once.
        """
        changes = []
        addresses = self.host.all_addresses()
        before = {key for name in ("host", "host6") for key in self._nft.elements(nftwire.INET, TABLE, name)}
        for address in before - addresses:  # what is the host's no more is nobody's published port either
            self._delete(nftwire.INET, _for("reachable", address), address)
        for name, wanted in (("host", addresses), ("resolvers", set(resolvers))):
            for length, ending in ((4, ""), (16, "6")):
                changes.append(nftwire.flush_set(nftwire.INET, TABLE, name + ending))
                found = [(address, None) for address in sorted(wanted) if len(address) == length]
                if found:
                    changes.append(nftwire.add_elements(nftwire.INET, TABLE, name + ending, *found))
        changes += [
            _add(_for("reachable", address), address)
            for address in addresses
            if address[0] != 127 and address != pack("::1")
        ]
        self._nft.change(*changes)

    def sweep(
        self, networks: Iterable[Network], endpoints: Iterable[Endpoint], publications: Iterable[Publication]
    ) -> None:
        """Remove what is not among these: bridges, ports, elements of the filter."""
        networks, endpoints = list(networks), list(endpoints)
        names = {net.bridge for net in networks} | {endpoint.port for endpoint in endpoints}
        for name, index in self._link.links().items():
            if name.startswith(("b-", "v-")) and name not in names:
                even_if(errno.ENODEV, lambda index=index: self._link.change(netlink.delete_link(index)))  # type: ignore[misc]
        known: dict[str, set[bytes]] = {}
        for each in publications:
            name, key, _value = _published(each)
            known.setdefault(name, set()).add(key)
        for name in MAPS:
            self._keep(nftwire.INET, name, lambda key, name=name: key in known.get(name, ()))  # type: ignore[misc]
        fields = {nftwire.ifname(name) for name in names}
        for name in ("bridges", "outgoing", "same", "opened", "opened6"):
            self._keep(nftwire.INET, name, lambda key: key[:16] in fields)
        for name in PORT_SETS:
            self._keep(nftwire.BRIDGE, name, lambda key: key[:16] in fields)
        gateways = {pack(address) for net in networks for address in (net.gateway, net.gateway6) if address}
        gateways |= self.host.all_addresses()
        for name in ("reachable", "reachable6"):
            self._keep(nftwire.INET, name, lambda key: key in gateways)

    def mtu(self) -> int:
        """Of the way out; 0 when there is none."""
        found = self._link.link(OUTWARD)
        return 0 if found is None else found[1]

    def _forget_behind(self, endpoint: Endpoint) -> None:
        """Nothing of who had the address before comes in to who has it now, if that one was killed."""
        if endpoint.ipv4 is not None:
            address = pack_prefix(endpoint.ipv4)[0]
            for key in self._nft.elements(nftwire.INET, TABLE, "behind"):
                if key[4:8] == address:
                    self._delete(nftwire.INET, "behind", key)

    def _keep(self, family: int, name: str, wanted: Callable[[bytes], bool]) -> None:
        for key in self._nft.elements(family, TABLE, name):
            if not wanted(key):
                self._delete(family, name, key)

    def _delete(self, family: int, name: str, key: bytes) -> None:
        change = nftwire.delete_elements(family, TABLE, name, key)
        even_if(errno.ENOENT, lambda: self._nft.change(change))

    def _bridge(self, network_id: str) -> tuple[int, int, bytes]:
        found = self._link.look_up(bridge_of(network_id))
        if found is None:
            raise NetworkError(f"the switch has no network {network_id[:12]}", hint="it was removed, or never added")
        return found


def open_switch(run: str, *, denied: tuple[str, ...] = (), watch: bool = False) -> Switch:
    """The switch of the engine whose run-time directory is ``run``; made when there is none.

    To be called in the host's network and mount namespaces: elsewhere its pin is not seen, use ``Switch`` with a
    descriptor there. denied: networks that containers do not reach, beside link-local ones. watch: whether
    ``Switch.host`` becomes readable when the host's addresses change. Raises NetworkError, OSError.
    """
    folder = f"{run}/switch"
    for path in (run, folder):  # each is private: makedirs makes but the last so
        os.makedirs(path, mode=0o700, exist_ok=True)
    rules = script(denied)
    digest = blake2b(rules.encode(), digest_size=16).hexdigest()
    netns = pinned(folder)
    if netns < 0 or read(f"{folder}/rules") != digest:
        if netns >= 0:
            os.close(netns)
        lock = locked(f"{folder}/lock")
        try:
            netns = pinned(folder)
            if netns < 0:
                make(folder, rules)
                netns = pinned(folder)
            elif read(f"{folder}/rules") != digest:
                inside(netns, lambda: apply(folder, rules))
            write(f"{folder}/rules", digest)
        finally:
            os.close(lock)
    switch = Switch(netns, netlink.Netlink(watch_addresses=watch))
    try:
        switch.refresh(pack(address) for address in resolvers.all_nameservers(resolvers.host_resolv_conf()))
        inside(netns, leave_bridged_alone)
    except BaseException:
        switch.close()
        raise
    return switch


def remove_switch(run: str) -> None:
    """Unpin the switch: it goes when the last container in it has gone."""
    folder = f"{run}/switch"
    lock = locked(f"{folder}/lock")
    try:
        netns = pinned(folder)
        if netns >= 0:
            os.close(netns)
            syscalls.umount2(f"{folder}/net", syscalls.MNT_DETACH)
        for name in ("net", "rules", OPAQUE):
            even_if(errno.ENOENT, lambda name=name: os.unlink(f"{folder}/{name}"))  # type: ignore[misc]
    finally:
        os.close(lock)


def _elements_of(endpoint: Endpoint, *, add: bool) -> list[Change]:
    """The filter's elements for a port: one MAC address, and the addresses that may come from it."""
    name = nftwire.ifname(endpoint.port)
    mac = pack_mac(endpoint.mac)
    bridge = nftwire.ifname(bridge_of(endpoint.network))
    found: list[tuple[int, str, bytes]] = [(nftwire.BRIDGE, "macs", name + nftwire.padded(mac))]
    if endpoint.ipv6 is not None:
        found.append((nftwire.BRIDGE, "addresses6", name + link_local(mac)))
    for text in (endpoint.ipv4, endpoint.ipv6):
        if text is not None:
            address = pack_prefix(text)[0]
            found.append((nftwire.BRIDGE, _for("addresses", address), name + address))
            if endpoint.host_gateway or not add:
                found.append((nftwire.INET, _for("opened", address), bridge + address))
    if add:
        return [nftwire.add_elements(family, TABLE, each, (key, None)) for family, each, key in found]
    return [nftwire.delete_elements(family, TABLE, each, key) for family, each, key in found]


def _published(publication: Publication) -> tuple[str, bytes, bytes]:
    """Map, key and value."""
    address, to_address = pack(publication.address), pack(publication.to_address)
    if len(address) != len(to_address):
        raise NetworkError(f"{publication.to_address} cannot be published at {publication.address}: the other family")
    if publication.protocol not in _PROTOCOLS:
        raise NetworkError(f"no ports of protocol {publication.protocol!r} can be published", hint="tcp or udp")
    key = nftwire.padded(_PROTOCOLS[publication.protocol]) + nftwire.padded(publication.port.to_bytes(2, "big"))
    value = to_address + nftwire.padded(publication.to_port.to_bytes(2, "big"))
    if any(address):
        return _for("published_at", address), address + key, value
    return _for("published", address), key, value


def _behind(publication: Publication) -> list[bytes]:
    """What comes in by the kernel is for: TCP over IPv4, at a port of all addresses."""
    address, to_address = pack(publication.address), pack(publication.to_address)
    if publication.protocol != "tcp" or len(address) != 4 or any(address):
        return []
    return [nftwire.padded(_PROTOCOLS["tcp"]) + to_address + nftwire.padded(publication.to_port.to_bytes(2, "big"))]


def _add(name: str, key: bytes) -> Change:
    return nftwire.add_elements(nftwire.INET, TABLE, name, (key, None))


def _for(name: str, address: bytes) -> str:
    """The set or map for an address's family."""
    return name if len(address) == 4 else name + "6"
