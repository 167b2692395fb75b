"""The pin of the switch's namespace, its lock, and how the namespace is made and furnished (``containers.switch``)."""

from __future__ import annotations

import errno
import fcntl
import os
import time

from containers import netlink, programs, syscalls
from containers.addresses import AF_INET, AF_INET6
from containers.errors import NetworkError
from containers.netspaces import inside, write_sysctls
from containers.switchrules import FIND_NOTHING, FIND_TRANSPARENT, LOCAL_TABLE, MARK

OPAQUE = "opaque"
LOCK_TIMEOUT_S = 20.0
_POLL_S = 0.01
_NS_GET_NSTYPE = 0xB703
_FURNITURE = (
    ("ipv4/ip_forward", "1"),
    ("ipv4/conf/all/rp_filter", "1"),
    ("ipv4/conf/default/rp_filter", "1"),
    ("ipv4/conf/all/send_redirects", "0"),
    ("ipv4/conf/default/send_redirects", "0"),
    ("ipv6/conf/all/forwarding", "1"),
    ("ipv6/conf/default/addr_gen_mode", "1"),  # no address that nobody gave
    ("ipv6/conf/all/accept_ra", "0"),
    ("ipv6/conf/default/accept_ra", "0"),
    ("ipv6/conf/all/accept_redirects", "0"),
    ("ipv6/conf/default/accept_redirects", "0"),
)
_BRIDGED = tuple((f"bridge/bridge-nf-call-{kind}", "0") for kind in ("iptables", "ip6tables", "arptables"))


def pinned(folder: str) -> int:
    """A descriptor of the namespace; -1 when none is pinned."""
    try:
        fd = os.open(f"{folder}/net", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return -1
    try:
        if fcntl.ioctl(fd, _NS_GET_NSTYPE) == syscalls.CLONE_NEWNET:
            return fd
    except OSError as error:
        if error.errno != errno.ENOTTY:
            os.close(fd)
            raise
    os.close(fd)
    return -1


def locked(path: str) -> int:
    """A descriptor that holds the lock. Raises NetworkError when another process does not let go of it."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    end = time.monotonic() + LOCK_TIMEOUT_S
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= end:
                os.close(fd)
                raise NetworkError(f"another process has held {path} for {LOCK_TIMEOUT_S:g} s") from None
            time.sleep(_POLL_S)
        else:
            return fd


def make(folder: str, rules: str) -> None:
    """Make a namespace, furnish it, and pin it: the mount comes last. Raises NetworkError, OSError."""
    place = f"{folder}/net"
    os.close(os.open(place, os.O_CREAT | os.O_CLOEXEC, 0o600))

    def work() -> list[int]:
        _furnish()
        apply(folder, rules)
        syscalls.mount("/proc/thread-self/ns/net", place, None, syscalls.MS_BIND)
        return []

    inside(None, work)


def apply(folder: str, rules: str) -> list[int]:
    """Give this thread's namespace its rules by nft(8). Raises NetworkError.

    A kernel without nft_socket cannot tell the answers to transparent sockets. That is noted, see ``is_opaque``.
    """
    said = programs.nft(rules)
    opaque = FIND_TRANSPARENT in said
    if opaque:
        said = programs.nft(rules.replace(FIND_TRANSPARENT, FIND_NOTHING))
    if said:
        raise NetworkError(f"nft failed to set up the switch: {said}", hint=programs.remedy("nft", said))
    if opaque:
        write(f"{folder}/{OPAQUE}", "")
    elif is_opaque(folder):
        os.unlink(f"{folder}/{OPAQUE}")
    return []


def is_opaque(folder: str) -> bool:
    """Whether containers are to see the gateway instead of their published ports' clients."""
    return os.path.exists(f"{folder}/{OPAQUE}")


def leave_bridged_alone() -> list[int]:
    """What the host does with bridged packets is not for the switch; the module may have come later."""
    write_sysctls(*_BRIDGED)
    return []


def _furnish() -> None:
    link = netlink.Netlink()
    link.change(netlink.link_up(1))
    for family in (AF_INET, AF_INET6):
        link.change(netlink.all_is_local(family, LOCAL_TABLE), netlink.marked_use(family, MARK, LOCAL_TABLE))
    link.close()
    write_sysctls(*_FURNITURE, *_BRIDGED)


def read(path: str) -> str:
    try:
        with open(path, encoding="ascii") as file:
            return file.read()
    except FileNotFoundError:
        return ""


def write(path: str, text: str) -> None:
    with open(f"{path}.new", "w", encoding="ascii") as file:
        file.write(text)
    os.rename(f"{path}.new", path)
