"""Docker's HostConfig: what is done, what is refused with its reason, and what nobody here knows.

Every field that docker 26 has stands in one of the tables below, so that none is ignored without a word: a client that
asked for a limit and silently got none would be worse off than one that was refused.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from containers.limits import DEFAULT_SHM_BYTES, MIN_MEMORY_BYTES
from containers.resources import Limits
from core.quantities import parse_size
from engine import finelimits, netconfig, privileges, sharing
from engine.errors import InvalidRequestError, NotDoneError
from engine.fields import Fields
from engine.netconfig import NetConfig
from engine.privileges import Privileges
from engine.sharing import Sharing

ULIMITS: Final = (
    "as", "core", "cpu", "data", "fsize", "memlock", "msgqueue", "nice", "nofile", "nproc", "rss", "rtprio",
    "sigpending", "stack",
)  # fmt: skip
POLICIES: Final = ("no", "always", "on-failure", "unless-stopped")
LOG_BYTES: Final = 20 << 20
LOG_FILES: Final = 5
_LOG_DRIVERS: Final = ("json-file", "local", "none")

# docker's ``HostConfig`` as ``inspect`` shows it where nothing was asked for, in docker's order.
DEFAULTS: Final[Mapping[str, Any]] = {
    "Binds": None, "ContainerIDFile": "", "LogConfig": {"Type": "json-file", "Config": {}}, "NetworkMode": "bridge",
    "PortBindings": None, "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0}, "AutoRemove": False,
    "VolumeDriver": "", "VolumesFrom": None, "ConsoleSize": [0, 0], "CapAdd": None, "CapDrop": None,
    "CgroupnsMode": "private", "Dns": None, "DnsOptions": None, "DnsSearch": None, "ExtraHosts": None,
    "GroupAdd": None, "IpcMode": "private", "Cgroup": "", "Links": None, "OomScoreAdj": 0, "PidMode": "",
    "Privileged": False, "PublishAllPorts": False, "ReadonlyRootfs": False, "SecurityOpt": None, "UTSMode": "",
    "UsernsMode": "", "ShmSize": DEFAULT_SHM_BYTES, "Runtime": "shiplap", "Isolation": "", "CpuShares": 0,
    "Memory": 0, "NanoCpus": 0, "CgroupParent": "", "BlkioWeight": 0, "BlkioWeightDevice": None,
    "BlkioDeviceReadBps": None, "BlkioDeviceWriteBps": None, "BlkioDeviceReadIOps": None,
    "BlkioDeviceWriteIOps": None, "CpuPeriod": 0, "CpuQuota": 0, "CpuRealtimePeriod": 0, "CpuRealtimeRuntime": 0,
    "CpusetCpus": "", "CpusetMems": "", "Devices": None, "DeviceCgroupRules": None, "DeviceRequests": None,
    "MemoryReservation": 0, "MemorySwap": 0, "MemorySwappiness": None, "OomKillDisable": False, "PidsLimit": None,
    "Ulimits": None, "CpuCount": 0, "CpuPercent": 0, "IOMaximumIOps": 0, "IOMaximumBandwidth": 0,
    "MaskedPaths": None, "ReadonlyPaths": None,
}  # fmt: skip

# Read here, or by ``mounts``.
_DONE: Final = frozenset({
    "AutoRemove", "Binds", "BlkioDeviceReadBps", "BlkioDeviceReadIOps", "BlkioDeviceWriteBps", "BlkioDeviceWriteIOps",
    "BlkioWeight", "BlkioWeightDevice", "CapAdd", "CapDrop", "CpuPeriod", "CpuQuota", "CpuShares", "CpusetCpus",
    "CpusetMems", "Devices", "Dns", "DnsOptions", "DnsSearch", "ExtraHosts", "GroupAdd", "Init", "IpcMode", "Links",
    "LogConfig", "MaskedPaths", "Memory", "MemoryReservation", "MemorySwap", "MemorySwappiness", "Mounts", "NanoCpus",
    "NetworkMode", "OomScoreAdj", "PidMode", "PidsLimit", "PortBindings", "Privileged", "PublishAllPorts",
    "ReadonlyPaths", "ReadonlyRootfs", "RestartPolicy", "SecurityOpt", "ShmSize", "Sysctls", "Tmpfs", "Ulimits",
    "VolumesFrom",
})  # fmt: skip
# What ``update`` changes; what it keeps is read again with it.
_UPDATED: Final = frozenset({
    "BlkioDeviceReadBps", "BlkioDeviceReadIOps", "BlkioDeviceWriteBps", "BlkioDeviceWriteIOps", "BlkioWeight",
    "BlkioWeightDevice", "CpuPeriod", "CpuQuota", "CpuShares", "CpusetCpus", "CpusetMems", "Memory",
    "MemoryReservation", "MemorySwap", "MemorySwappiness", "NanoCpus", "PidsLimit", "RestartPolicy",
})  # fmt: skip
# Shown by ``inspect`` and of no consequence here: they say how a client asked, or what is so anyway.
_NOTED: Final = frozenset({"Annotations", "ConsoleSize", "ContainerIDFile"})
# Fields with the values that change nothing (beside null, "", 0, false and empty lists), and why others are refused.
_REFUSED: Final[Mapping[str, tuple[tuple[object, ...], str]]] = {
    "Capabilities": ((), "no client of docker sends it"),
    "Cgroup": ((), "control groups of other containers cannot be joined"),
    "CgroupParent": ((), "control groups are made where this engine's are"),
    "CgroupnsMode": (("private",), "containers see their own control groups only"),
    "CpuCount": ((), "it is for Windows"),
    "CpuPercent": ((), "it is for Windows"),
    "CpuRealtimePeriod": ((), "real-time scheduling is not for containers here"),
    "CpuRealtimeRuntime": ((), "real-time scheduling is not for containers here"),
    "DeviceCgroupRules": ((), "in a user namespace nobody makes device nodes"),
    "DeviceRequests": ((), "GPUs are not looked for: name their nodes with --device, and bind their libraries"),
    "IOMaximumBandwidth": ((), "it is for Windows"),
    "IOMaximumIOps": ((), "it is for Windows"),
    "Isolation": (("default",), "it is for Windows"),
    "KernelMemory": ((), "kernels have no such limit any more"),
    "KernelMemoryTCP": ((), "version 2 of control groups has no such limit"),
    "OomKillDisable": ((), "a container without memory would hang for ever"),
    "Runtime": (("runc", "io.containerd.runc.v2", "shiplap"), "there is one runtime, this engine's own"),
    "StorageOpt": ((), "a container's disk has no limit of its own: put it, or its volumes, on a file system that has"),
    "UTSMode": ((), "the host's name is not for containers"),
    "UsernsMode": (("private",), "who is who on the host is not for a container to say: docs/volumes.md has who is"),
    "VolumeDriver": (("local",), "there is one driver of volumes, local"),
}
_PERIOD_US: Final = 100_000
_DOCKERS_LOG_OPTIONS: Final = ("compress", "env", "env-regex", "labels", "labels-regex", "mode", "tag")


class HostConfig(NamedTuple):
    """What was asked of the host.

    document: docker's ``HostConfig``, for ``inspect``.
    limits: ``Limits``, and ``fine`` as ``containers.finelimits`` has it, for ``spec.json``.
    ulimits: (name, soft, hard).
    restart: ``policy`` and ``maximum``; log: ``driver``, ``max_size``, ``max_file``, as ``spec.json`` has them.
    warnings: for whoever asked.
    """

    document: dict[str, Any]
    privileges: Privileges
    limits: dict[str, Any]
    shm_bytes: int
    ulimits: tuple[tuple[str, int, int], ...]
    init: bool
    read_only: bool
    network: NetConfig
    restart: dict[str, Any]
    log: dict[str, Any]
    auto_remove: bool
    sharing: Sharing
    warnings: tuple[str, ...]

    def resolved(self, identity_of: Callable[[str], str]) -> HostConfig:
        """With IDs for the names of containers that it is to be beside. identity_of: raises ContainerNotFoundError."""
        shared = self.sharing.resolved(identity_of)
        network = self.network
        if network.joined:
            network = network._replace(mode=f"container:{identity_of(network.joined)}")
        modes = {"NetworkMode": network.mode, "PidMode": shared.pid, "IpcMode": shared.ipc}
        return self._replace(document={**self.document, **modes}, network=network, sharing=shared)


def read(body: Fields) -> HostConfig:
    """Read a HostConfig. Raises InvalidRequestError; NotDoneError for what docker has and this engine does not do."""
    warnings = _look_over(body)
    restart = read_policy(body.inner("RestartPolicy"))
    if body.flag("AutoRemove") and restart["policy"] != "no":
        raise InvalidRequestError("can't create 'AutoRemove' container with restart policy")
    shm_bytes = body.number("ShmSize")
    if shm_bytes < 0:
        raise InvalidRequestError("SHM size can not be less than 0")
    log = _log(body.inner("LogConfig"))
    network = netconfig.read(body)
    return HostConfig(
        _document(body, restart),
        privileges.read(body),
        _all_limits(body),
        shm_bytes or DEFAULT_SHM_BYTES,
        _ulimits(body.objects("Ulimits")),
        body.flag("Init"),
        body.flag("ReadonlyRootfs"),
        network,
        restart,
        log,
        body.flag("AutoRemove"),
        sharing.read(body),
        tuple(warnings),
    )


class Updated(NamedTuple):
    """What ``update`` makes of a container. Members as ``HostConfig`` has them."""

    document: dict[str, Any]
    limits: dict[str, Any]
    restart: dict[str, Any]
    warnings: tuple[str, ...]


def update(before: Mapping[str, Any], asked: Fields) -> Updated:
    """Change limits and policy; what is not named, is empty or 0 stays. Raises InvalidRequestError, NotDoneError.

    before: the container's ``HostConfig``. Nothing else of it is looked at again: its devices may have gone since.
    """
    warnings = []
    changes: dict[str, Any] = {}
    for name in asked.names():
        value = asked.raw(name)
        if not value:
            continue
        if name in _UPDATED:
            changes[name] = value
        elif name in _REFUSED and value not in _REFUSED[name][0]:
            raise NotDoneError(f"HostConfig.{name} is refused: {_REFUSED[name][1]}")
        else:
            warnings.append(f"HostConfig.{name} is not changed by an update, and is passed over")
    wanted = Fields({name: value for name, value in {**before, **changes}.items() if name in _UPDATED}, "HostConfig")
    restart = read_policy(wanted.inner("RestartPolicy"))
    if "RestartPolicy" in changes:
        changes["RestartPolicy"] = {"Name": restart["policy"], "MaximumRetryCount": restart["maximum"]}
    return Updated({**before, **changes}, _all_limits(wanted), restart, tuple(warnings))


def _all_limits(body: Fields) -> dict[str, Any]:
    """As ``spec.json`` has them."""
    fine = finelimits.read(body)
    return {**read_limits(body)._asdict(), **({"fine": fine} if fine else {})}


def read_policy(body: Fields) -> dict[str, Any]:
    """A RestartPolicy as ``spec.json`` has it. Raises InvalidRequestError."""
    name, maximum = body.text("Name") or "no", body.number("MaximumRetryCount")
    if name not in POLICIES:
        raise InvalidRequestError(
            f"invalid restart policy: unknown policy '{name}'; use one of 'no', 'always', 'on-failure', or"
            " 'unless-stopped'"
        )
    if maximum < 0:
        raise InvalidRequestError("invalid restart policy: maximum retry count cannot be negative")
    if maximum and name != "on-failure":
        raise InvalidRequestError("invalid restart policy: maximum retry count can only be used with 'on-failure'")
    return {"policy": name, "maximum": maximum}


def read_limits(body: Fields) -> Limits:
    """Memory, processors and processes. Raises InvalidRequestError, in docker's words."""
    memory, total = body.number("Memory"), body.number("MemorySwap")
    if memory < 0 or 0 < memory < MIN_MEMORY_BYTES:
        raise InvalidRequestError("Minimum memory limit allowed is 6MB")
    if total > 0 and not memory:
        raise InvalidRequestError("You should always set the Memory limit when using Memoryswap limit, see usage")
    if 0 < total < memory:
        raise InvalidRequestError("Minimum memoryswap limit should be larger than memory limit, see usage")
    pids = body.number("PidsLimit")
    shares = body.number("CpuShares")
    if shares < 0:
        raise InvalidRequestError("CPU shares cannot be negative")
    return Limits(memory, total if memory else 0, _cpus(body), shares, max(pids, 0))


def _cpus(body: Fields) -> float:
    nano, period, quota = body.number("NanoCpus"), body.number("CpuPeriod"), body.number("CpuQuota")
    if nano and (period or quota):
        raise InvalidRequestError("Conflicting options: Nano CPUs and CPU Period cannot both be set")
    here = os.cpu_count() or 1
    if nano and not 0 < nano <= here * 10**9:
        raise InvalidRequestError(f"Range of CPUs is from 0.01 to {here}.00, as there are only {here} CPUs available")
    if period and not 1_000 <= period <= 1_000_000:
        raise InvalidRequestError(
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)"
        )
    if 0 < quota < 1_000:
        raise InvalidRequestError("CPU cfs quota can not be less than 1ms (i.e. 1000)")
    return nano / 1e9 if nano else max(0, quota) / (period or _PERIOD_US)


def _look_over(body: Fields) -> list[str]:
    """Refuse what is not done; returns a warning for each field that docker 26 does not have either."""
    warnings = []
    for name in body.names():
        value = body.raw(name)
        if name in _REFUSED and value:
            harmless, why = _REFUSED[name]
            if value not in harmless:
                raise NotDoneError(f"HostConfig.{name} is refused: {why}")
        elif name not in _REFUSED and name not in _DONE and name not in _NOTED:
            warnings.append(f"HostConfig.{name} is not known to this engine, and is passed over")
    return warnings


def _document(body: Fields, restart: Mapping[str, Any]) -> dict[str, Any]:
    found = dict(DEFAULTS)
    for name in body.names():
        if body.has(name) and (name in DEFAULTS or name in _DONE or name in _NOTED):
            found[name] = body.raw(name)
    found["RestartPolicy"] = {"Name": restart["policy"], "MaximumRetryCount": restart["maximum"]}
    found["NetworkMode"] = netconfig.network_mode(body.text("NetworkMode"))
    log = body.inner("LogConfig")
    found["LogConfig"] = {"Type": log.text("Type") or "json-file", "Config": log.pairs("Config")}
    found["ShmSize"] = found["ShmSize"] or DEFAULT_SHM_BYTES
    for name in ("CgroupnsMode", "IpcMode", "Runtime"):
        found[name] = DEFAULTS[name] if not found[name] or name == "Runtime" else found[name]
    return found


def _ulimits(limits: list[Fields]) -> tuple[tuple[str, int, int], ...]:
    found = []
    for each in limits:
        name, soft, hard = each.text("Name"), each.number("Soft"), each.number("Hard")
        if name not in ULIMITS:
            raise InvalidRequestError(f"invalid ulimit type: {name}")
        if hard != -1 and (soft > hard or soft == -1):
            raise InvalidRequestError(f"ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}")
        found.append((name, soft, hard))
    return tuple(found)


def _log(body: Fields) -> dict[str, Any]:
    driver, options = body.text("Type") or "json-file", body.pairs("Config")
    if driver not in _LOG_DRIVERS:
        raise InvalidRequestError(
            f"logger: no log driver named '{driver}' is registered", hint=f"there are {', '.join(_LOG_DRIVERS)}"
        )
    taken = {"max-size": LOG_BYTES, "max-file": LOG_FILES}
    for name, value in options.items():
        if driver == "none" or name not in (*taken, *_DOCKERS_LOG_OPTIONS):
            raise InvalidRequestError(f"unknown log opt '{name}' for {driver} log driver")
        if name not in taken:
            raise NotDoneError(f"log opt '{name}' is not done: max-size and max-file are")
        try:
            taken[name] = parse_size(value) if name == "max-size" and value != "-1" else int(value)
        except ValueError as error:
            raise InvalidRequestError(f"invalid value for {name}: {value}") from error
    if taken["max-file"] < 1 or (taken["max-size"] < 1 and taken["max-size"] != -1):
        raise InvalidRequestError("max-file and max-size must be positive")
    return {"driver": driver, "max_size": taken["max-size"], "max_file": taken["max-file"]}
