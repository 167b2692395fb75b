"""The network hub: one namespace per launcher that connects containers to the outside, and to nothing else.

    host ── pasta ── [ hub: out 192.0.2.2 | nft: masquerade, drop | v0 v1 v2 … ] ── veth ── [ container: eth0 ]

pasta(1) copies the host's outward address into the hub and turns the hub's connections into its own sockets on the
host. Starting it takes 20 to 50 ms, so it is started once; a container costs one veth pair.

DNS to the host's resolvers passes. Of all else the hub drops what a container sends to

- another container;
- the hub itself, which has the host's outward address: so that is unreachable too;
- any other address of the host; the list follows the host's (rtnetlink notifications);
- link-local addresses, where clouds keep a host's credentials;
- networks that the administrator names.

pasta maps no address to the host's loopback, save one for DNS where the host's resolver listens there. IPv4 only.

Nothing here outlives the launcher: the namespace has no name, and pasta is in the launcher's pid namespace.
"""

from __future__ import annotations

import os

from containers import addresses, netlink, syscalls, wire
from containers.errors import NetworkError
from containers.setup import GUEST_INTERFACE
from core.openfiles import how_to_allow_more

OUTWARD = "out"
DNS_FORWARD = "169.254.1.1"
ALWAYS_DENIED = ("169.254.0.0/16",)
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_SLOTS = 1 << 15
_FIRST_INDEX = 100
_PACKAGES = {"pasta": "passt", "nft": "nftables"}

# Where the containers' addresses may come from: the block for benchmarks (RFC 2544), which no real network uses; then
# corners of the private ranges.
CANDIDATES = ("198.18.0.0", "198.19.0.0", "10.213.0.0", "10.87.0.0", "172.29.0.0", "100.127.0.0")
PREFIX = 16

RULES = """\
table inet shiplap {{
  set host {{ type ipv4_addr; {elements} }}
  set resolvers {{ type ipv4_addr; {resolvers} }}
  set denied {{ type ipv4_addr; flags interval; auto-merge; elements = {{ {denied} }} }}
  chain input {{
    type filter hook input priority filter; policy drop;
    iifname "lo" accept
    ct state established,related accept
    iifname "v*" reject with icmpx type admin-prohibited
  }}
  chain forward {{
    type filter hook forward priority filter; policy drop;
    iifname "v*" oifname "v*" reject with icmpx type admin-prohibited
    ct state established,related accept
    iifname "v*" ip daddr @host reject with icmpx type admin-prohibited
    iifname "v*" oifname "{outward}" meta l4proto {{ tcp, udp }} th dport 53 ip daddr @resolvers accept
    iifname "v*" ip daddr @denied reject with icmpx type admin-prohibited
    iifname "v*" oifname "{outward}" accept
    iifname "v*" reject with icmpx type admin-prohibited
  }}
  chain postrouting {{
    type nat hook postrouting priority srcnat;
    oifname "{outward}" masquerade
  }}
}}
"""


def parse_address(text: str) -> int | None:
    """A dotted IPv4 address as an integer; None when it is not one."""
    parts = text.split(".")
    if len(parts) != 4 or not all(part.isdecimal() and int(part) < 256 for part in parts):
        return None
    return int.from_bytes(bytes(map(int, parts)), "big")


def format_address(address: int) -> str:
    """Dotted."""
    return ".".join(map(str, address.to_bytes(4, "big")))


def choose_subnet(routes: list[tuple[int, int]]) -> int:
    """The first candidate /16 that no route (network, prefix length) overlaps. Raises NetworkError."""
    for text in CANDIDATES:
        candidate = parse_address(text) or 0
        if not any((candidate ^ network) >> (32 - min(prefix, PREFIX)) == 0 for network, prefix in routes):
            return candidate
    raise NetworkError(
        "no private IPv4 range is free for containers: the host has routes into all of " + ", ".join(CANDIDATES),
        hint="use --network=host or --network=none",
    )


def parse_networks(text: str) -> tuple[str, ...]:
    """``10.0.0.0/8,192.168.7.1`` with each part checked. Raises NetworkError."""
    parts = tuple(part.strip() for part in text.split(",") if part.strip())
    for part in parts:
        address, slash, length = part.partition("/")
        number = parse_address(address)
        bits = int(length) if length.isdecimal() else (-1 if slash else 32)
        if number is None or not 0 <= bits <= 32 or number & (0xFFFFFFFF >> bits):
            raise NetworkError(
                f"{part!r} is no IPv4 network that could be denied",
                hint="write 10.0.0.0/8, or an address; commas between",
            )
    return parts


def rules(
    host_addresses: set[int], *, denied: tuple[str, ...] = (), resolvers: frozenset[int] | set[int] = frozenset()
) -> str:
    """The hub's packet filter, for nft -f. denied: networks beside ALWAYS_DENIED. resolvers: reached all the same."""
    return RULES.format(
        elements=_elements(host_addresses),
        resolvers=_elements(resolvers),
        denied=", ".join((*ALWAYS_DENIED, *denied)),
        outward=OUTWARD,
    )


def nameservers(text: str) -> set[int]:
    """The IPv4 addresses of a resolv.conf's name servers."""
    words = [line.split() for line in text.splitlines()]
    found = {parse_address(line[1]) for line in words if len(line) > 1 and line[0] == "nameserver"}
    return {address for address in found if address is not None}


def all_nameservers(text: str) -> set[str]:
    """The addresses of a resolv.conf's name servers, IPv4 and IPv6, as it has them; not those of the loopback."""
    words = [line.split() for line in text.splitlines()]
    found = {line[1].partition("%")[0] for line in words if len(line) > 1 and line[0] == "nameserver"}
    return {text for text in found if _is_address(text) and not text.startswith("127.") and text != "::1"}


def _is_address(text: str) -> bool:
    try:
        addresses.pack(text)
    except NetworkError:
        return False
    return True


def nft(script: str) -> str:
    """Have nft(8) carry out a script in this thread's network namespace, whole or not at all; what it complained of.

    Raises NetworkError when it is missing.
    """
    program = find_program("nft")
    if program is None:
        raise NetworkError("the program nft that separates containers is missing", hint=remedy("nft"))
    rules, said = os.memfd_create("rules", os.MFD_CLOEXEC), os.memfd_create("said", os.MFD_CLOEXEC)
    try:
        os.write(rules, script.encode())
        os.lseek(rules, 0, os.SEEK_SET)
        actions = [(os.POSIX_SPAWN_DUP2, rules, 0), (os.POSIX_SPAWN_DUP2, said, 1), (os.POSIX_SPAWN_DUP2, said, 2)]
        pid = os.posix_spawn(program, ["nft", "-f", "-"], {"PATH": _PATH}, file_actions=actions)
        _pid, status = os.waitpid(pid, 0)
        complaint = os.pread(said, 2000, 0).decode(errors="replace").strip()
        return "" if status == 0 else complaint or _ended(status)
    finally:
        os.close(rules)
        os.close(said)


def _elements(addresses: frozenset[int] | set[int]) -> str:
    if not addresses:
        return ""
    return "elements = { " + ", ".join(map(format_address, sorted(addresses))) + " }"


def resolv_conf(text: str, host_addresses: set[int]) -> str:
    """The container's resolv.conf for the host's: a resolver on the host itself is reached through pasta."""
    lines = []
    for line in text.splitlines():
        words = line.split()
        if len(words) > 1 and words[0] == "nameserver":
            address = parse_address(words[1])
            local = words[1] == "::1" or (address is not None and (address >> 24 == 127 or address in host_addresses))
            line = f"nameserver {DNS_FORWARD if local else words[1]}"
            if line in lines:
                continue
        lines.append(line)
    return "\n".join(lines) + "\n"


def find_program(name: str) -> str | None:
    """Where ``pasta`` or ``nft`` is, whatever this process's PATH says: that of users often lacks /usr/sbin."""
    candidates = [f"{folder}/{name}" for folder in _PATH.split(":")]
    return next((path for path in candidates if os.access(path, os.X_OK)), None)


def remedy(name: str, said: str = "") -> str:
    """What to do about ``pasta`` or ``nft`` that is missing, or that failed with what it ``said``."""
    return f"{_mending(name, said)}; or run without a network: --network=none"


def _mending(name: str, said: str) -> str:
    if not said:
        return f"apt-get install {_PACKAGES[name]}"
    if "Too many open files" in said:
        return how_to_allow_more()
    if "/dev/net/tun" in said:
        if not os.path.exists("/dev/net/tun"):
            return "as root: modprobe tun; in a container, give it the device /dev/net/tun"
        return "as root: chmod 666 /dev/net/tun, as udev does"
    if name == "nft":
        return "the kernel may lack a part of nftables: as root, modprobe -a nf_tables nft_masq nft_reject_inet nft_ct"
    return "`shiplap doctor` tries it again"


class Hub:
    """The hub of this launcher. Made at once; usable when all ``starting`` processes have ended well.

    folder: a private directory for its few files.
    denied: networks out of bounds.
    starting: pid to name. The launcher's loop waits for them, and calls ``ended`` for each.
    ready: whether containers can be connected.
    daemon: pasta's pid, 0 until known.
    """

    def __init__(self, folder: str, denied: tuple[str, ...] = ()) -> None:
        self._folder = folder
        self._next = 0
        self._mtu = 0
        self._is_behind = False
        self.ready = False
        self.daemon = 0
        self.host = netlink.Netlink(watch_addresses=True)
        try:
            self._addresses = self.host.addresses()
            self._subnet = choose_subnet(self.host.routes())
            self._link = self._make_namespace()
        except (NetworkError, OSError):
            self.host.close()
            raise
        self._failures: dict[str, str] = {}
        text = rules(self._addresses, denied=denied, resolvers=nameservers(self.resolv_conf()))
        pasta = self._start_pasta()  # first: everybody waits for it
        try:
            self.starting = {pasta: "pasta", self._start_filter(text): "nft"}
        except (NetworkError, OSError):
            os.kill(pasta, syscalls.SIGKILL)
            os.waitpid(pasta, 0)
            raise

    def ended(self, pid: int, status: int) -> int | None:
        """Note that a ``starting`` process has ended, with this wait status; the pid of an update that follows, if any.

        Raises NetworkError when all have ended and one has failed. If two failed, the error names the same one
        whichever was first: the message must not depend on chance.
        """
        name = self.starting.pop(pid)
        if status != 0:
            with open(f"{self._folder}/{name}.log", encoding="utf-8", errors="replace") as file:
                said = file.read(2000).strip()
            self._failures[name] = said or _ended(status)
        elif name == "pasta":
            with open(f"{self._folder}/pasta.pid", encoding="ascii") as file:
                self.daemon = int(file.read())
            self._mtu = self._link.mtu(OUTWARD)
        update = self._update() if name == "nft" and status == 0 else None
        if self._failures and not self.starting:
            failed = max(self._failures)  # pasta before nft
            said = self._failures[failed]
            raise NetworkError(f"{failed} failed to set up the containers' network: {said}", hint=remedy(failed, said))
        self.ready = self.ready or not self.starting
        return update

    def connect(self, netns: int) -> tuple[int, int, int]:
        """Give a container's network namespace an interface; its address, prefix length and gateway."""
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
            return gateway + 1, 31, gateway
        raise NetworkError("no free address for another container: 32768 are in use")

    def addresses_changed(self) -> int | None:
        """Look at the host's addresses again, and keep them all unreachable; the pid of an update, if one is needed."""
        self.host.drain()
        addresses = self.host.addresses()
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
        update = "flush set inet shiplap host\n"
        if self._addresses:
            update += f"add element inet shiplap host {_elements(self._addresses).removeprefix('elements = ')}\n"
        pid = self._start_filter(update)
        self.starting[pid] = "nft"
        return pid

    def resolv_conf(self) -> str:
        return resolv_conf(host_resolv_conf(), self._addresses)

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

    def _start_pasta(self) -> int:
        arguments = "--quiet --ipv4-only --config-net --no-map-gw --no-dhcp --no-ra --no-ndp --no-dhcpv6 --runas 0"
        arguments += f" -t none -u none -T none -U none --dns-forward {DNS_FORWARD} --ns-ifname {OUTWARD}"
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
                os.execve(program, [name, *arguments], {"PATH": _PATH})  # noqa: S606 - without a shell is the point
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
    for name, value in (("ip_forward", b"1"), ("conf/all/rp_filter", b"1"), ("conf/default/rp_filter", b"1")):
        fd = os.open(f"/proc/sys/net/ipv4/{name}", os.O_WRONLY | os.O_CLOEXEC)
        os.write(fd, value)
        os.close(fd)
    return link


def _ended(status: int) -> str:
    code = os.waitstatus_to_exitcode(status)
    return f"it was ended by signal {-code}" if code < 0 else f"it ended with code {code}"


def host_resolv_conf() -> str:
    """The host's own /etc/resolv.conf; empty when it has none."""
    try:
        with open("/etc/resolv.conf", encoding="utf-8", errors="replace") as file:
            return file.read()
    except FileNotFoundError:
        return ""
