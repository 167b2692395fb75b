"""The network as a step has it, for a process of our own: the same hub, the same filter, the same name servers.

It finds out what steps reach where there is no image to start a container from. What is started here ends with the
process that asked.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from containers import netlink, syscalls
from containers.errors import ContainerError, NetworkError
from containers.network import Hub
from containers.rootless import become_root
from containers.setup import configure_network


def in_step_network(folder: Path, denied: tuple[str, ...], work: Callable[[], bytes]) -> bytes:
    """Do ``work`` in a process whose network is a step's; what it returns, of less than 64 KiB.

    folder: an empty private directory, in which nothing is left. denied: as the launcher's. For a process with one
    thread, which becomes root of a user namespace where it is not root. Raises ContainerError when there is no such
    network.
    """
    become_root()
    reader, writer = os.pipe2(os.O_CLOEXEC)
    try:
        try:
            syscalls.unshare(syscalls.CLONE_NEWNS | syscalls.CLONE_NEWPID)
            syscalls.mount(None, "/", None, syscalls.MS_REC | syscalls.MS_PRIVATE)
            syscalls.mount("tmpfs", str(folder), "tmpfs", 0, "mode=700")  # what is left there ends with the namespace
        except OSError as error:
            raise NetworkError(
                f"cannot make a namespace: {error.strerror}", hint="`shiplap doctor` tells why"
            ) from error
        pid = os.fork()
        if pid == 0:  # process 1 of its namespace: with it end pasta, and whatever ``work`` has started
            _answer(writer, folder, denied, work)
        os.close(writer)
        writer = -1
        answer = b""
        while data := os.read(reader, 65536):
            answer += data
        os.waitpid(pid, 0)
    finally:
        os.close(reader)
        if writer >= 0:
            os.close(writer)
    kind, _, rest = answer.partition(b"\n")
    if kind == b"done":
        return rest
    message, _, hint = rest.decode(errors="replace").partition("\0")
    raise NetworkError(message or "the process that was to look was killed", hint=hint or None)


def _answer(writer: int, folder: Path, denied: tuple[str, ...], work: Callable[[], bytes]) -> None:
    """Write ``done`` and what ``work`` returns, or ``failed`` with message and hint; ends the process."""
    try:
        _enter(folder, denied)
        os.write(writer, b"done\n" + work())
    except ContainerError as error:
        os.write(writer, f"failed\n{error.message}\0{error.hint or ''}".encode())
    except OSError as error:
        os.write(writer, f"failed\ncannot make the network of a step: {error}\0".encode())
    finally:
        os._exit(0)


def _enter(folder: Path, denied: tuple[str, ...]) -> None:
    """Make this process's network that of a step. Raises ContainerError, OSError."""
    hub = Hub(str(folder), denied)
    while not hub.ready:
        pid, status = os.wait()
        if pid in hub.starting:
            hub.ended(pid, status)
    names = folder / "resolv.conf"
    names.write_text(hub.resolv_conf())
    if os.path.exists("/etc/resolv.conf"):
        syscalls.mount(str(names), os.path.realpath("/etc/resolv.conf"), None, syscalls.MS_BIND)
    syscalls.unshare(syscalls.CLONE_NEWNET)
    netns = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        place = hub.connect(netns)
    finally:
        os.close(netns)
    link = netlink.Netlink()
    link.change(netlink.link_up(1))
    link.close()
    configure_network(*place)
