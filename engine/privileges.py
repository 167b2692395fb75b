"""What of docker's HostConfig makes a container more, or less, than others: capabilities, the filter of system calls,
devices, sysctls, groups, ``Privileged``. Read, checked, and as ``spec.json`` has it.

All of it is of the container's own namespaces. Nothing here makes anybody in a container somebody on the host.
"""

from __future__ import annotations

import os
import re
import stat
from typing import Any, Final, NamedTuple

from containers.capabilities import ALL_CAPABILITIES, DEFAULT_CAPABILITIES
from containers.mounts import MASKED_PATHS, READONLY_PATHS
from engine import callfilters
from engine.callers import Caller
from engine.errors import InvalidRequestError, NotDoneError
from engine.fields import Fields

_SYSCTL: Final = re.compile(r"[a-z][A-Za-z0-9_@./-]*", re.ASCII)
_SYSCTLS: Final = frozenset({
    "kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem", "kernel.shmall", "kernel.shmmax", "kernel.shmmni",
    "kernel.shm_rmid_forced",
})  # fmt: skip
_OOM_SCORES: Final = range(-1000, 1001)
_OF_PRIVILEGED: Final = ("/dev/fuse", "/dev/net/tun")
"""Devices that serve a user namespace, too: what a container mounts or sends by them is its own."""

_OF_BLOCK_DEVICES: Final = (
    "BlkioWeightDevice", "BlkioDeviceReadBps", "BlkioDeviceWriteBps", "BlkioDeviceReadIOps", "BlkioDeviceWriteIOps",
)  # fmt: skip
_REFUSED_OPTIONS: Final = {
    "apparmor": "profiles of AppArmor are not applied: a container's root is nobody on the host",
    "label": "labels of SELinux are not applied",
    "credentialspec": "it is for Windows",
    "systempaths": "systempaths=unconfined is all there is",
    "writable-cgroups": "--privileged makes them writable",
}


class Device(NamedTuple):
    """A device of the host's. source: where it is there; target: in the container."""

    source: str
    target: str


class Privileges(NamedTuple):
    """What was read.

    capabilities: of the container's root.
    filtered: whether system calls are restricted.
    devices: those of the host's that it has.
    extras: as ``containers.extras`` has them, for ``spec.json``.
    """

    capabilities: frozenset[str]
    filtered: bool
    no_new_privileges: bool
    devices: tuple[Device, ...]
    extras: dict[str, Any]

    def mounts(self) -> list[dict[str, Any]]:
        """The devices, for ``spec.json``."""
        return [{"kind": "device", "source": each.source, "target": each.target} for each in self.devices]


_NO_MORE: Final = "a job's engine gives no more of the kernel than the job itself has"


def check_caller(body: Fields, caller: Caller) -> None:
    """Raise NotDoneError for what of a HostConfig the caller may not have.

    To be called before the HostConfig is read: that looks at paths with rights that others have not.
    """
    if caller.view:
        _check_job(body)
    elif caller.is_root:
        return
    if body.number("OomScoreAdj") < 0:
        raise NotDoneError("--oom-score-adj below 0 is for root's callers: it would have others' processes ended")
    for each in body.objects("Devices"):
        if caller.view or each.text("PathOnHost") not in _OF_PRIVILEGED:
            raise NotDoneError(f"--device {each.text('PathOnHost')}: devices of the host are for root's callers")
    for name in _OF_BLOCK_DEVICES:
        if body.objects(name):
            raise NotDoneError(f"HostConfig.{name}: limits of one device are for root's callers")


def check_exec(privileged: bool, caller: Caller) -> None:
    """Raise NotDoneError for a command in a container that the caller may not run with every capability."""
    if privileged and caller.view:
        raise NotDoneError(f"exec --privileged is refused: {_NO_MORE}")


def _check_job(body: Fields) -> None:
    """Raise NotDoneError for what would be open to a container of a job's engine, and is not to the job."""
    if body.flag("Privileged"):
        raise NotDoneError(f"--privileged is refused: {_NO_MORE}")
    more = sorted(_capabilities(body.texts("CapAdd"), []) - DEFAULT_CAPABILITIES)
    if more:
        shown = "ALL" if len(more) > 1 else more[0].removeprefix("CAP_")
        raise NotDoneError(f"--cap-add {shown} is refused: {_NO_MORE}")
    for option in body.texts("SecurityOpt"):
        name = option.replace(":", "=", 1).partition("=")[0]
        if name in ("seccomp", "systempaths"):
            raise NotDoneError(f"--security-opt {name} is refused: {_NO_MORE}")
    if _are_paths_open(body):
        raise NotDoneError(f"HostConfig.MaskedPaths and ReadonlyPaths cannot be empty: {_NO_MORE}")


def read(body: Fields) -> Privileges:
    """Read a HostConfig. Raises InvalidRequestError, NotDoneError."""
    privileged = body.flag("Privileged")
    capabilities = _capabilities(body.texts("CapAdd"), body.texts("CapDrop"))
    if privileged:
        capabilities = ALL_CAPABILITIES  # whatever was dropped, as docker does it
    filtered, no_new_privileges, profile = _security(body.texts("SecurityOpt"))
    devices = [device for each in body.objects("Devices") for device in _devices(each)]
    if privileged:
        taken = {device.target for device in devices}
        devices += [Device(path, path) for path in _OF_PRIVILEGED if path not in taken and os.path.exists(path)]
    score = body.number("OomScoreAdj")
    if score not in _OOM_SCORES:
        raise InvalidRequestError(f"Invalid value {score}, range for oom score adj is [-1000, 1000]")
    call_filter, call_flags = callfilters.compiled(profile, capabilities) if profile else (None, 0)
    extras: dict[str, Any] = {
        "privileged": privileged,
        "open_paths": _are_paths_open(body),
        "sysctls": [[name, value] for name, value in _sysctls(body).items()],
        "groups": [_group(text) for text in body.texts("GroupAdd")],
        "oom_score": score,
        "call_filter": call_filter,
        "call_flags": call_flags,
    }
    return Privileges(
        capabilities,
        bool(filtered) if filtered is not None else not privileged,
        no_new_privileges,
        tuple(devices),
        {name: value for name, value in extras.items() if value},
    )


def _capabilities(added: list[str], dropped: list[str]) -> frozenset[str]:
    add = {_capability(name, "CapAdd") for name in added}
    drop = {_capability(name, "CapDrop") for name in dropped}
    if "ALL" in add:
        return ALL_CAPABILITIES - drop if "ALL" not in drop else ALL_CAPABILITIES
    kept = frozenset[str]() if "ALL" in drop else DEFAULT_CAPABILITIES - drop
    return kept | (add - {"ALL"})


def _capability(name: str, member: str) -> str:
    full = name.upper() if name.upper() == "ALL" else f"CAP_{name.upper().removeprefix('CAP_')}"
    if full != "ALL" and full not in ALL_CAPABILITIES:
        raise InvalidRequestError(f'invalid {member}: unknown capability: "{full}"')
    return full


def _security(options: list[str]) -> tuple[bool | None, bool, str]:
    """Whether system calls are filtered (None: nothing is said), whether programs gain no privileges, a profile."""
    filtered: bool | None = None
    no_new_privileges, profile = False, ""
    for option in options:
        name, separator, value = option.partition("=" if "=" in option else ":")
        if name == "no-new-privileges" and value in ("", "true", "false"):
            no_new_privileges = value != "false"
        elif name == "seccomp" and value in ("unconfined", "builtin"):
            filtered = value == "builtin"
        elif name == "seccomp":
            filtered, profile = True, callfilters.text_of(option, value)
        elif (name == "apparmor" and value in ("unconfined", "docker-default")) or (name, value) == (
            "label",
            "disable",
        ):
            continue  # there is neither AppArmor nor SELinux here to be without
        elif name in _REFUSED_OPTIONS:
            raise NotDoneError(f"--security-opt {name} is refused: {_REFUSED_OPTIONS[name]}")
        else:
            raise InvalidRequestError(
                f'invalid --security-opt 2: "{option}"' if separator else f"invalid --security-opt 1: {option!r}"
            )
    return filtered, no_new_privileges, profile


def _are_paths_open(body: Fields) -> bool:
    """Whether nothing in /proc and /sys is masked: both lists are empty. Absent ones are docker's own."""
    lists = {"MaskedPaths": MASKED_PATHS, "ReadonlyPaths": READONLY_PATHS}
    for name, ours in lists.items():
        others = {path for path in body.texts(name) if path.lstrip("/") not in ours}
        if others - {"/proc/sched_debug", "/sys/devices/virtual/powercap"}:
            raise NotDoneError(f"HostConfig.{name}: paths of one's own are not done; an empty list hides nothing")
    empty = [body.has(name) and not body.texts(name) for name in lists]
    if any(empty) and not all(empty):
        raise NotDoneError("HostConfig.MaskedPaths and ReadonlyPaths are both empty, or both docker's own")
    return all(empty)


def _devices(each: Fields) -> list[Device]:
    """A device, or all that are below a directory. Raises InvalidRequestError, in docker's words."""
    source, target = each.text("PathOnHost"), each.text("PathInContainer") or each.text("PathOnHost")
    wanted = each.text("CgroupPermissions") or "rwm"
    if not source.startswith("/") or not target.startswith("/") or "\0" in source + target:
        raise InvalidRequestError(f"bad format for path: {source}")
    if not set(wanted) <= set("rwm"):
        raise InvalidRequestError(f"bad mode specified: {wanted}")
    if not {"r", "w"} <= set(wanted):
        raise NotDoneError(
            f"--device {source}:{wanted} is refused: a device is had for reading and writing, for no control group"
            " restricts it here"
        )
    try:
        if not os.path.isdir(source):
            if not _is_device(source):
                raise InvalidRequestError(f'error gathering device information "{source}": not a device node')
            return [Device(source, target)]
        found = []
        for folder, _, names in os.walk(source):
            below = os.path.normpath(f"{target}/{os.path.relpath(folder, source)}")
            devices = [name for name in sorted(names) if _is_device(f"{folder}/{name}")]
            found += [Device(f"{folder}/{name}", f"{below}/{name}") for name in devices]
    except OSError as error:
        raise InvalidRequestError(
            f'error gathering device information while adding custom device "{source}": '
            f"{(error.strerror or '').lower()}"
        ) from error
    if not found:
        raise InvalidRequestError(f'error gathering device information while adding custom device "{source}": none')
    return found


def _is_device(path: str) -> bool:
    return stat.S_IFMT(os.stat(path).st_mode) in (stat.S_IFCHR, stat.S_IFBLK)


def _sysctls(body: Fields) -> dict[str, str]:
    """Those of a container's own namespaces. Raises InvalidRequestError for the host's."""
    found = body.pairs("Sysctls")
    for name, value in found.items():
        dotted = name.replace("/", ".")
        is_network = dotted.startswith("net.")
        if not (is_network or dotted.startswith("fs.mqueue.") or dotted in _SYSCTLS):
            raise InvalidRequestError(f"sysctl {name!r} is not in a namespace of the container's: it is the host's")
        if not _SYSCTL.fullmatch(name) or ".." in name or "\0" in value:
            raise InvalidRequestError(f"invalid sysctl: {name!r}")
    return found


def _group(text: str) -> str:
    if not text or "\0" in text or ":" in text:
        raise InvalidRequestError(f"unable to find group {text}: no matching entries in group file")
    return text
