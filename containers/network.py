"""The network hub: one namespace per launcher that connects containers to the outside, and to nothing else.

    host ── pasta ── [ hub: out 192.0.2.2 | nft: masquerade, drop | v0 v1 v2 … ] ── veth ── [ container: eth0 ]

What joins the hub to the host is the kernel where it can (``kernelway``: fast, for the host's root), else pasta, which
needs no right and leaves no trace (docs/decisions/0030-two-uplinks-and-why-pasta-sends-slowly.md).

pasta(1) copies the host's outward address into the hub and turns the hub's connections into its own sockets on the
host. Starting it takes 20 to 50 ms, so it is started once; a container costs one veth pair.

DNS to the host's resolvers passes. Of all else the hub drops what a container sends to

- another container;
- the hub itself, which has the host's outward address: so that is unreachable too;
- any other address of the host; the list follows the host's (rtnetlink notifications);
- link-local addresses, where clouds keep a host's credentials;
- networks that the administrator names.

pasta maps no address to the host's loopback, save one for DNS where the host's resolver listens there.

Containers get IPv6 where the hub has a way out by it, and a default route of a family only where the hub has one: what
cannot get out is told so at once, and who has both addresses of a name takes the other.

Nothing here outlives the launcher: the namespace has no name, and pasta is in the launcher's pid namespace.
"""

from __future__ import annotations

import os

from containers import netlink, syscalls, wire
from containers.addresses import AF_INET, AF_INET6, pack
from containers.errors import NetworkError
from containers.hubrules import rules, update
from containers.interfaces import PASTA_TIMEOUT_MS
from containers.netspaces import write_sysctls
from containers.programs import PATH, ended, find_program, remedy
from containers.resolvers import (
    DNS_FORWARD,
    DNS_FORWARD6,
    host_resolv_conf,
    nameservers,
    resolv_conf,
    within_reach,
)
from containers.setup import GUEST_INTERFACE
from containers.subnets import choose_subnet
from containers.switchrules import OUTWARD
from core import namespaces

OURS = ("shiplap", "shl-probe")
"""How the host's interfaces begin that the kernel's way has (``kernelway``). They are closed by rules of the host."""

_BLOCK6 = pack("fd53:6869:706c:6170:eeee::")
_SLOTS = 1 << 15
_FIRST_INDEX = 100


class Hub:
    """The hub of this launcher. Made at once; usable when all ``starting`` processes have ended well.

    folder: a private directory for its few files.
    denied: networks out of bounds.
    way: ``kernel``, ``pasta``, or ``auto``: the kernel's where it is one, else pasta's.
    starting: pid to name. The launcher's loop waits for them, and calls ``ended`` for each.
    ready: whether containers can be connected.
    daemon: pasta's pid, 0 until known, or where there is none.
    is_kernels: whether the way out is the kernel's.
    """

    def __init__(self, folder: str, denied: tuple[str, ...] = (), way: str = "auto") -> None:
        self._folder = folder
        self._next = 0
        self._mtu = 0
        self._is_behind = False
        self._ways: dict[int, bool] = {}
        self.ready = False
        self.daemon = 0
        self.host = netlink.Netlink(watch_addresses=True)
        try:
            self._subnet = choose_subnet(self.host.routes())
            self._link = self._make_namespace()
            self._addresses = self.host.all_addresses(without=OURS)
            self._host_ways = {family: self.host.has_default_route(family) for family in (AF_INET, AF_INET6)}
        except (NetworkError, OSError):
            self.host.close()
            raise
        self._failures: dict[str, str] = {}
        self.is_kernels = False
        outer = within_reach(host_resolv_conf(), self._addresses)
        resolvers = nameservers(self.resolv_conf()) | nameservers(outer or "")
        text = rules(self._addresses, denied=denied, resolvers=resolvers)
        self._way = way if namespaces.is_initial() or way == "kernel" else "pasta"
        if self._way == "auto" and outer is None:
            self._way = "pasta"  # only that leads to a resolver on the host itself
        # First: everybody waits for it.
        first = (self._start_pasta(), "pasta") if self._way == "pasta" else (self._start_kernels(), "kernel")
        self.starting = dict([first])
        try:
            self.starting[self._start_filter(text)] = "nft"
        except (NetworkError, OSError):
            os.kill(first[0], syscalls.SIGKILL)
            os.waitpid(first[0], 0)
            raise

    def ended(self, pid: int, status: int) -> int | None:
        """Note that a ``starting`` process has ended, with this wait status; the pid of another that follows, if any.

        Raises NetworkError when all have ended and one has failed. If two failed, the error names the same one
        whichever was first: the message must not depend on chance.
        """
        name = self.starting.pop(pid)
        if name == "kernel" and status != 0 and self._way == "auto":
            pid = self._start_pasta()
            self.starting[pid] = "pasta"
            return pid
        if status != 0:
            with open(f"{self._folder}/{name}.log", encoding="utf-8", errors="replace") as file:
                said = file.read(2000).strip()
            self._failures[name] = said or ended(status)
        elif name == "pasta":
            with open(f"{self._folder}/pasta.pid", encoding="ascii") as file:
                self.daemon = int(file.read())
            self._mtu = self._link.mtu(OUTWARD)
        elif name == "kernel":
            self.is_kernels = True
            self._mtu = self._link.mtu(OUTWARD)
        follows = self._update() if name == "nft" and status == 0 else None
        if self._failures and not self.starting:
            failed = next(name for name in ("pasta", "kernel", "nft") if name in self._failures)
            said = self._failures[failed]
            raise NetworkError(f"{failed} failed to set up the containers' network: {said}", hint=remedy(failed, said))
        if not self.ready and not self.starting:
            by4 = self._link.has_default_route() or bool(self._link.routes())  # or to a network without a way out of it
            self._ways = {AF_INET: by4, AF_INET6: self._link.has_default_route(AF_INET6)}
            self.ready = True
        return follows

    def connect(self, netns: int) -> tuple[int, int, int, int, bytes, bytes]:
        """Give a container's network namespace an interface; what ``setup.configure_network`` is to know of it."""
        for _ in range(_SLOTS):
            slot = self._next
            self._next = (self._next + 1) % _SLOTS
            gateway = self._subnet + 2 * slot
            index = _FIRST_INDEX + slot
            try:
                self._link.change(
                    netlink.new_veth(index, f"v{slot}", GUEST_INTERFACE, "eth0", netns, self._mtu),
                    netlink.new_address(index, gateway, 31),
                )
            except FileExistsError:
                continue
            near6 = far6 = b""
            if self._ways[AF_INET6]:
                near6, far6 = (_BLOCK6[:12] + (2 * slot + end).to_bytes(4, "big") for end in (0, 1))
                self._link.change(
                    netlink.add_address(index, near6, 127), netlink.add_neighbour(index, far6, netlink.VETH_MACS[1])
                )
            least_ms = 0 if self.is_kernels else PASTA_TIMEOUT_MS
            return gateway + 1, 31, gateway if self._ways[AF_INET] else 0, least_ms, far6, near6
        raise NetworkError("no free address for another container: 32768 are in use")

    def addresses_changed(self) -> int | None:
        """Look at the host's addresses again, and keep them all unreachable; the pid of an update, if one is needed."""
        self.host.drain()
        addresses = self.host.all_addresses(without=OURS)
        if addresses == self._addresses:
            return None
        self._addresses = addresses
        self._is_behind = True
        return self._update()

    def _update(self) -> int | None:
        """Tell the filter the host's addresses if it does not know them; not before it is there, and one at a time."""
        if not self._is_behind or "nft" in self.starting.values():
            return None
        self._is_behind = False
        pid = self._start_filter(update(self._addresses))
        self.starting[pid] = "nft"
        return pid

    def resolv_conf(self) -> str:
        """The contents of /etc/resolv.conf for what is connected."""
        text = host_resolv_conf()
        if self.is_kernels:
            text = within_reach(text, self._addresses) or text
        elif not self._host_ways[AF_INET]:
            text = within_reach(text, self._addresses, size=16) or text
        forward = DNS_FORWARD if self._host_ways[AF_INET] or not self._host_ways[AF_INET6] else DNS_FORWARD6
        return resolv_conf(text, self._addresses, forward)

    def tables_changed(self) -> None:
        """Somebody changed the host's packet filter: see that the kernel's way out is still there."""
        from containers import kernelway

        if self.is_kernels:
            kernelway.ensure_table()
            kernelway.give_back_borrowed()

    def close(self) -> None:
        self._link.close()
        self.host.close()
        syscalls.umount2(f"{self._folder}/netns", syscalls.MNT_DETACH)

    def _make_namespace(self) -> netlink.Netlink:
        """Make the namespace, keep it by a mount, and return a socket in it. Raises OSError.

        A child does it: a root of a user namespace only could leave the host's network namespace, but not return.
        """
        place = f"{self._folder}/netns"
        os.close(os.open(place, os.O_CREAT | os.O_CLOEXEC, 0o600))
        ours, theirs = wire.socket_pair()
        pid = os.fork()
        if pid == 0:
            try:
                link = _furnished_namespace(place)
                wire.send(theirs, None, [link.fileno()])
            except OSError as error:
                wire.send(theirs, (error.errno, str(error)))
            finally:
                os._exit(0)
        theirs.close()
        answer = wire.receive(ours)
        ours.close()
        os.waitpid(pid, 0)
        if answer is None or not answer[1]:
            raise OSError(*(answer[0] if answer is not None else (0, "the process that made it was killed")))
        return netlink.Netlink(fd=answer[1][0])

    def _start_filter(self, text: str) -> int:
        rules_file = f"{self._folder}/nft.rules"
        fd = os.open(rules_file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        os.write(fd, text.encode())
        os.close(fd)
        netns = os.open(f"{self._folder}/netns", os.O_RDONLY | os.O_CLOEXEC)
        try:
            return self._spawn("nft", ["-f", rules_file], netns)
        finally:
            os.close(netns)

    def _start_kernels(self) -> int:
        """Take the kernel's way out, if it is one, in a process of its own, as others do meanwhile; its pid."""
        netns = os.open(f"{self._folder}/netns", os.O_RDONLY | os.O_CLOEXEC)
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                from containers import kernelway  # its import takes time, which nobody else is to spend

                kernelway.join(netns, netlink.Netlink())
                code = 0
            except (NetworkError, OSError) as error:
                with open(f"{self._folder}/kernel.log", "w", encoding="utf-8") as file:
                    file.write(str(error))
            finally:
                os._exit(code)
        os.close(netns)
        return pid

    def _start_pasta(self) -> int:
        arguments = "--quiet --config-net --no-map-gw --no-dhcp --no-ra --no-dhcpv6 --runas 0"
        arguments += f" -t none -u none -T none -U none --ns-ifname {OUTWARD}"
        if self._host_ways[AF_INET] or not self._host_ways[AF_INET6]:
            arguments += f" --dns-forward {DNS_FORWARD}"
        else:
            arguments += " --ipv6-only"
        arguments += f" --dns-forward {DNS_FORWARD6}" if self._host_ways[AF_INET6] else " --ipv4-only"
        files = ["--pid", f"{self._folder}/pasta.pid", "--netns", f"{self._folder}/netns"]
        return self._spawn("pasta", arguments.split() + files)

    def _spawn(self, name: str, arguments: list[str], netns: int = -1) -> int:
        """Start a program, in another network namespace if one is given; its pid. Raises NetworkError."""
        program = find_program(name)
        if program is None:
            raise NetworkError(
                f"the program {name} that connects containers to the network is missing", hint=remedy(name)
            )
        log = os.open(f"{self._folder}/{name}.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        pid = os.fork()
        if pid == 0:
            try:
                os.dup2(log, 1)
                os.dup2(log, 2)
                if netns >= 0:
                    syscalls.setns(netns, syscalls.CLONE_NEWNET)
                os.execve(program, [name, *arguments], {"PATH": PATH})  # noqa: S606 - without a shell is the point
            except OSError as error:
                os.write(2, str(error).encode())
            finally:
                os._exit(127)
        os.close(log)
        return pid


def _furnished_namespace(place: str) -> netlink.Netlink:
    """Enter a new network namespace that forwards packets, and mount it at ``place``; a socket in it."""
    syscalls.unshare(syscalls.CLONE_NEWNET)
    syscalls.mount("/proc/self/ns/net", place, None, syscalls.MS_BIND)
    link = netlink.Netlink()
    link.change(netlink.link_up(1))
    write_sysctls(
        ("ipv4/ip_forward", "1"),
        ("ipv4/conf/all/rp_filter", "1"),
        ("ipv4/conf/default/rp_filter", "1"),
        ("ipv6/conf/all/forwarding", "1"),
    )
    return link
