"""What this host is, for docker's ``info``."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from containers.hierarchies import own_hierarchies
from core.filesystems import kind_of
from core.release import VERSION
from engine.places import Places
from engine.state import State
from engine.times import text_of


def memory_bytes() -> int:
    """All memory of the machine."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def document(places: Places, states: Sequence[State], images: int, now_ns: int) -> dict[str, Any]:
    """As docker's ``GET /info``."""
    hierarchies = own_hierarchies()
    controllers = {controller for hierarchy in hierarchies for controller in hierarchy.controllers}
    unified = all(hierarchy.version == 2 for hierarchy in hierarchies)
    machine = os.uname()
    system = _os_release()
    return {
        "ID": hashlib.sha256(os.fsencode(f"{machine.nodename}:{places.root}")).hexdigest()[:32],
        "Containers": len(states),
        "ContainersRunning": sum(state.is_up and state.status != "paused" for state in states),
        "ContainersPaused": sum(state.status == "paused" for state in states),
        "ContainersStopped": sum(not state.is_up for state in states),
        "Images": images,
        "Driver": "overlayfs",
        "DriverStatus": [["Backing Filesystem", kind_of(str(places.root))], ["userxattr", "true"]],
        "Plugins": {
            "Volume": ["local"],
            "Network": ["bridge", "null"],
            "Authorization": None,
            "Log": ["json-file", "local", "none"],
        },
        "MemoryLimit": "memory" in controllers,
        "SwapLimit": "memory" in controllers,
        "CpuCfsPeriod": "cpu" in controllers,
        "CpuCfsQuota": "cpu" in controllers,
        "CPUShares": "cpu" in controllers,
        "CPUSet": False,
        "PidsLimit": "pids" in controllers,
        "IPv4Forwarding": True,
        "BridgeNfIptables": False,
        "BridgeNfIp6tables": False,
        "Debug": False,
        "OomKillDisable": False,
        "SystemTime": text_of(now_ns),
        "LoggingDriver": "json-file",
        "CgroupDriver": "none" if not controllers else "cgroupfs",
        "CgroupVersion": "2" if unified else "1",
        "KernelVersion": machine.release,
        "OperatingSystem": system.get("PRETTY_NAME", "Linux"),
        "OSVersion": system.get("VERSION_ID", ""),
        "OSType": "linux",
        "Architecture": machine.machine,
        "IndexServerAddress": "https://index.docker.io/v1/",
        "NCPU": os.cpu_count() or 1,
        "MemTotal": memory_bytes(),
        "GenericResources": None,
        "DockerRootDir": str(places.root),
        "Name": machine.nodename,
        "Labels": [],
        "ExperimentalBuild": False,
        "ServerVersion": VERSION,
        "Runtimes": {"shiplap": {"path": "shiplap"}},
        "DefaultRuntime": "shiplap",
        "Swarm": {"NodeID": "", "NodeAddr": "", "LocalNodeState": "inactive", "ControlAvailable": False, "Error": ""},
        "LiveRestoreEnabled": True,
        "Isolation": "",
        "InitBinary": "",
        "SecurityOptions": ["name=seccomp,profile=builtin", "name=userns"],
        "Warnings": None,
    }


def _os_release() -> dict[str, str]:
    """os-release(5)"""
    for path in ("/etc/os-release", "/usr/lib/os-release"):
        try:
            lines = Path(path).read_text(errors="replace").splitlines()
        except OSError:
            continue
        pairs = (line.partition("=") for line in lines if "=" in line)
        return {name: value.strip("\"'") for name, _, value in pairs}
    return {}
