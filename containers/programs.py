"""The programs that connect containers to the network, pasta and nft: where they are, and what to do without them."""

from __future__ import annotations

import os

from containers.errors import NetworkError
from core.openfiles import how_to_allow_more

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PACKAGES = {"pasta": "passt", "nft": "nftables"}


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
        pid = os.posix_spawn(program, ["nft", "-f", "-"], {"PATH": PATH}, file_actions=actions)
        _pid, status = os.waitpid(pid, 0)
        complaint = os.pread(said, 2000, 0).decode(errors="replace").strip()
        return "" if status == 0 else complaint or ended(status)
    finally:
        os.close(rules)
        os.close(said)


def find_program(name: str) -> str | None:
    """Where ``pasta`` or ``nft`` is, whatever this process's PATH says: that of users often lacks /usr/sbin."""
    candidates = [f"{folder}/{name}" for folder in PATH.split(":")]
    return next((path for path in candidates if os.access(path, os.X_OK)), None)


def remedy(name: str, said: str = "") -> str:
    """What to do about ``pasta`` or ``nft`` that is missing, or that failed with what it ``said``."""
    return f"{_mending(name, said)}; or run without a network: --network=none"


def _mending(name: str, said: str) -> str:
    if name == "kernel":
        return "SHIPLAP_UPLINK=auto takes pasta then; `shiplap doctor` tells which rule would open the kernel's way"
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


def ended(status: int) -> str:
    """What a wait status says, for a message."""
    code = os.waitstatus_to_exitcode(status)
    return f"it was ended by signal {-code}" if code < 0 else f"it ended with code {code}"
