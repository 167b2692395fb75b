"""The switch's way out: the kernel's where it is one, else pasta's; found again, and made again when it is lost.

    RUN/switch/way          ``kernel`` or ``pasta``: what was made last
    RUN/switch/wanted       ``kernel``, ``pasta`` or ``auto``: what was wanted last
    RUN/switch/entrance     the mark of listeners whose clients come in by the kernel; 0: none do; "": not known yet
    RUN/switch/pasta.pid    of pasta, for people; nobody trusts it: a pasta that ended took its interface along

Whoever runs for long calls ``ensure_way`` again when the host's tables or the switch's interfaces have changed. What
goes on within the switch never notices; by pasta, connections to the outside are lost with it.
"""

from __future__ import annotations

import os

from containers import entrance, kernelway, netlink, nftwire, programs
from containers.errors import NetworkError
from containers.netspaces import inside
from containers.resolvers import DNS_FORWARD
from containers.switchpin import locked, read, write
from containers.switchrules import HOST_GATEWAY, OUTWARD
from core import namespaces

TYPE_CHECKING = False
if TYPE_CHECKING:
    from containers.switch import Switch

_PASTA = "--quiet --config-net --no-map-gw --no-dhcp --no-ra --no-dhcpv6 --runas 0 -t none -u none -T none -U none"


def ensure_way(run: str, switch: Switch, way: str = "") -> str:
    """Give the switch its way out, unless it has it: ``kernel`` or ``pasta``.

    way: the one that is wanted, or ``auto``; "": what was wanted last. To be called in the host's network and mount
    namespaces. Raises NetworkError, OSError.
    """
    folder = f"{run}/switch"
    lock = locked(f"{folder}/lock")
    try:
        if way and read(f"{folder}/wanted") != way:
            write(f"{folder}/wanted", way)
        way = way or read(f"{folder}/wanted") or "auto"
        if switch.mtu():
            made = read(f"{folder}/way")
            if made == "kernel":
                kernelway.ensure_table()
                kernelway.give_back_borrowed()
                _ensure_entrance(folder, switch)
            return made
        write(f"{folder}/entrance", "")
        made = _make(folder, switch, way)
        if made == "kernel":
            _ensure_entrance(folder, switch)
        write(f"{folder}/way", made)
        return made
    finally:
        os.close(lock)


def watch(switch: Switch) -> tuple[nftwire.Nft, netlink.Netlink]:
    """Sockets that become readable when ``ensure_way`` is to be called: drain them first."""
    (fd,) = inside(switch.netns, lambda: [netlink.Netlink(watch_links=True).detach()])
    return nftwire.Nft(watch=True), netlink.Netlink(fd=fd)


def entrance_mark(run: str) -> int:
    """The mark of listeners whose clients come in by the kernel (``entrance``); 0 when none do."""
    return int(read(f"{run}/switch/entrance") or 0)


def _ensure_entrance(folder: str, switch: Switch) -> None:
    """A host that has none is not asked again until the way is made again."""
    before = read(f"{folder}/entrance")
    known = switch.way_in()
    if before == "0" or known is None:
        return
    mark = str(entrance.ensure(*known))
    if mark != before:
        write(f"{folder}/entrance", mark)


def _make(folder: str, switch: Switch, way: str) -> str:
    if way == "kernel" or (way == "auto" and namespaces.is_initial()):
        try:
            kernelway.join(switch.netns, switch.host)
        except NetworkError:
            if way == "kernel":
                raise
        else:
            return "kernel"
    _start_pasta(folder)
    if not switch.mtu():
        raise NetworkError(f"pasta has not made the interface {OUTWARD}", hint=programs.remedy("pasta", "no interface"))
    return "pasta"


def _start_pasta(folder: str) -> None:
    """Start pasta, which goes to the background once the interface is there. It ends when the pin is removed."""
    program = programs.find_program("pasta")
    if program is None:
        raise NetworkError("the program pasta that connects containers is missing", hint=programs.remedy("pasta"))
    arguments = [*_PASTA.split(), "--dns-forward", DNS_FORWARD, "--map-host-loopback", HOST_GATEWAY]
    arguments += ["--ns-ifname", OUTWARD, "--pid", f"{folder}/pasta.pid", "--netns", f"{folder}/net"]
    said = os.memfd_create("said", os.MFD_CLOEXEC)
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    try:
        actions = [(os.POSIX_SPAWN_DUP2, null, 0), (os.POSIX_SPAWN_DUP2, said, 1), (os.POSIX_SPAWN_DUP2, said, 2)]
        pid = os.posix_spawn(program, ["pasta", *arguments], {"PATH": programs.PATH}, file_actions=actions)
        _pid, status = os.waitpid(pid, 0)
        complaint = os.pread(said, 2000, 0).decode(errors="replace").strip()
    finally:
        os.close(said)
        os.close(null)
    if status:
        what = complaint or programs.ended(status)
        raise NetworkError(f"pasta failed to connect the switch: {what}", hint=programs.remedy("pasta", what))
