"""From a container's ``spec.json`` to what its first process is told, in the form of ``containers.spec.to_wire``."""

from __future__ import annotations

import base64

from containers.errors import ContainerError
from containers.extras import DOCKERS_MARKS
from containers.limits import DEFAULT_SHM_BYTES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

LIMITS: dict[str, Any] = {
    "memory_bytes": 0,
    "memory_swap_bytes": 0,
    "cpus": 0.0,
    "cpu_shares": 0,
    "pids": 0,
    "optional": (),
}
"""No limits, as ``containers.resources.Limits`` has them."""


SWITCH = "switch"
"""The kind of network of a container that the keeper itself connects; see ``wiring``."""


JOINED = "joined"
"""The kind of network of a container that has another one's."""


def to_wire(spec: dict[str, Any]) -> dict[str, Any]:
    """The first process's spec. Raises ContainerError for what this release cannot do, KeyError for what is missing."""
    process = spec["process"]
    limits = limits_of(spec)
    return {
        "layers": [tuple(layer) for layer in spec["layers"]],
        "upper": None if spec.get("read_only") else spec["upper"],
        "args": tuple(process["args"]),
        "env": tuple((name, value) for name, value in process["env"]),
        "cwd": process.get("cwd") or "/",
        "user": process.get("user") or "",
        "hostname": spec.get("hostname") or "",
        "network": _network(spec.get("network", "default")),
        "mounts": [_mount(mount) for mount in spec.get("mounts", ())],
        "extra_hosts": tuple((name, address) for name, address in spec.get("extra_hosts", ())),
        "terminal": bool(process.get("terminal")),
        "terminal_size": tuple(process.get("terminal_size") or (24, 80)),
        "terminal_input": True,
        "capabilities": sorted(process["capabilities"]),
        "filtered": bool(process.get("filtered", True)),
        "limits": limits,
        "limited": limits != LIMITS,
        "shm_bytes": spec.get("shm_bytes") or DEFAULT_SHM_BYTES,
        "ulimits": [_ulimit(limit) for limit in process.get("ulimits", ())],
        "init": False,
        "reaper": is_reaped(spec),
        "durable": True,
        "segment": "",
        "group": None,
        "no_new_privileges": bool(process.get("no_new_privileges")),
        "extras": {**_extras(spec), "marks": DOCKERS_MARKS},
    }


def is_reaped(spec: dict[str, Any]) -> bool:
    """Whether a process of ours is its first: as docker, not beside another container's, where that is the first."""
    return bool(spec["process"].get("init")) and not str(spec.get("pid", "")).startswith("container:")


def limits_of(spec: dict[str, Any]) -> dict[str, Any]:
    """Its limits; a process of ours is none of the command's."""
    limits = {**LIMITS, **(spec.get("limits") or {})}
    limits["optional"] = tuple(limits["optional"])
    if is_reaped(spec) and limits["pids"]:
        limits["pids"] += 1
    return limits


def exec_to_wire(spec: dict[str, Any], asked: dict[str, Any], every_capability: list[str]) -> dict[str, Any]:
    """The spec of a process that joins the container. asked: as the verb ``exec`` has it. Raises KeyError."""
    whole = to_wire(spec)
    env = dict(whole["env"])
    env.update((name, value) for name, value in asked.get("env") or ())
    privileged = bool(asked.get("privileged"))
    if asked.get("cwd") and not asked["cwd"].startswith("/"):
        raise ContainerError(f"Cwd must be an absolute path: {asked['cwd']}")
    return {
        **whole,
        "args": tuple(asked["args"]),
        "env": tuple(env.items()),
        "user": asked.get("user") or whole["user"],
        "cwd": asked.get("cwd") or whole["cwd"],
        "make_cwd": False,
        "terminal": bool(asked.get("terminal")),
        "terminal_size": tuple(asked.get("terminal_size") or (24, 80)),
        "capabilities": every_capability if privileged else whole["capabilities"],
        "filtered": whole["filtered"] and not privileged,
        "extras": {**whole["extras"], "call_filter": None} if privileged else whole["extras"],
        "reaper": False,
    }


def _extras(spec: dict[str, Any]) -> dict[str, Any]:
    """As ``containers.extras`` has them; in ``spec.json`` the filter is text."""
    found = dict(spec.get("extras") or {})
    if spec.get("ipc") == "none":
        found["no_shm"] = True
    if found.get("call_filter"):
        found["call_filter"] = base64.b64decode(found["call_filter"])
    return found


def _network(network: Any) -> str:
    if isinstance(network, dict):
        return SWITCH
    if str(network).startswith("container:"):
        return JOINED
    if network not in ("default", "none", "host"):
        raise ContainerError(f"this keeper has no network of the kind {network!r}")
    return str(network)


_BIND_MEMBERS = ("within", "subpath", "flat", "shallow", "propagation", "caller")


def _mount(mount: dict[str, Any]) -> tuple[Any, ...]:
    kind, target = mount["kind"], mount["target"]
    if kind == "bind":
        how = {name: mount[name] for name in _BIND_MEMBERS if mount.get(name)}
        return ("bind", target, mount["source"], bool(mount.get("readonly")), bool(mount.get("idmapped", True)), how)
    if kind == "tmpfs":
        options = tuple(mount.get("options") or ())
        return ("tmpfs", target, mount.get("size_bytes") or 0, mount.get("mode", 0o1777), mount.get("flags"), options)
    if kind == "tree":
        layers = [tuple(layer) for layer in mount["layers"]]
        owner = tuple(mount.get("owner", (0, 0)))
        return ("tree", target, layers, mount.get("source", "/"), mount.get("upper"), owner)
    if kind == "device":
        return ("device", target, mount["source"])
    if kind == "socket":  # which ``sockets`` takes, before anybody mounts it
        return ("socket", target, mount["source"], mount.get("caller"))
    raise ContainerError(f"this keeper has no mounts of the kind {kind!r}")


def _ulimit(limit: Any) -> tuple[str, int, int]:
    if isinstance(limit, dict):
        return (limit["name"], limit["soft"], limit["hard"])
    name, soft, hard = limit
    return (name, soft, hard)
