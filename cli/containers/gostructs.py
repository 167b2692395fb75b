"""Which parts of docker's documents are structures in its command line, as templates print them: ``{no 0}``.

Only parts without pointers are here: docker prints the addresses of what they point to.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

from cli.gotemplate.printing import Struct, TypedMap

_Kind: TypeAlias = Callable[[Any], Any]


def as_structures(document: Mapping[str, Any]) -> dict[str, Any]:
    """The document of a container or an image, with its structures. Its members are the same, and so is its JSON."""
    return _members(document, _PARTS)


def _members(document: Mapping[str, Any], kinds: Mapping[str, _Kind]) -> dict[str, Any]:
    found = dict(document)
    for name, kind in kinds.items():
        if found.get(name) is not None:
            found[name] = kind(found[name])
    return found


def _struct(fields: Mapping[str, Any], kinds: Mapping[str, _Kind] | None = None) -> _Kind:
    """A kind of structures.

    fields: in Go's order, each with its zero value.
    kinds: those that are structures, lists or maps of them.
    """
    order = tuple(fields.items())

    def kind(value: Any) -> Any:
        return Struct(_members(value, kinds or {}), order) if isinstance(value, Mapping) else value

    return kind


def _said(say: Callable[[Mapping[str, Any]], str]) -> _Kind:
    """A structure that says itself what is printed."""

    def kind(value: Any) -> Any:
        return Struct(value, (), say(value)) if isinstance(value, Mapping) else value

    return kind


def _list(of: _Kind) -> _Kind:
    return lambda value: [of(one) for one in value] if isinstance(value, list) else value


def _map(of: _Kind, zero: Any) -> _Kind:
    def kind(value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        return TypedMap({name: None if one is None else of(one) for name, one in value.items()}, zero)

    return kind


def _parts(kinds: Mapping[str, _Kind]) -> _Kind:
    """What is printed as a map: a structure with pointers."""
    return lambda value: _members(value, kinds) if isinstance(value, Mapping) else value


_BINDING: Final = _struct({"HostIp": "", "HostPort": ""})
_PORTS: Final = _map(_list(_BINDING), [])
_SET: Final = _map(_struct({}), {})
_MOUNT: Final = _struct({
    "Type": "", "Name": "", "Source": "", "Destination": "", "Driver": "", "Mode": "", "RW": False, "Propagation": "",
})  # fmt: skip
_RATE: Final = _said(lambda device: f"{device.get('Path', '')}:{device.get('Rate', 0)}")
_HOST_CONFIG: Final = _parts({
    "RestartPolicy": _struct({"Name": "", "MaximumRetryCount": 0}),
    "LogConfig": _struct({"Type": "", "Config": {}}),
    "PortBindings": _PORTS,
    "Devices": _list(_struct({"PathOnHost": "", "PathInContainer": "", "CgroupPermissions": ""})),
    "Ulimits": _list(_said(lambda limit: f"{limit.get('Name', '')}={limit.get('Soft', 0)}:{limit.get('Hard', 0)}")),
    "BlkioWeightDevice": _list(_said(lambda device: f"{device.get('Path', '')}:{device.get('Weight', 0)}")),
    **dict.fromkeys(("BlkioDeviceReadBps", "BlkioDeviceWriteBps", "BlkioDeviceReadIOps", "BlkioDeviceWriteIOps"),
                    _list(_RATE)),
})  # fmt: skip
_STATE: Final = _struct({
    "Status": "", "Running": False, "Paused": False, "Restarting": False, "OOMKilled": False, "Dead": False, "Pid": 0,
    "ExitCode": 0, "Error": "", "StartedAt": "", "FinishedAt": "", "Health": None,
})  # fmt: skip
_CONFIG: Final = _struct({
    "Hostname": "", "Domainname": "", "User": "", "AttachStdin": False, "AttachStdout": False, "AttachStderr": False,
    "ExposedPorts": {}, "Tty": False, "OpenStdin": False, "StdinOnce": False, "Env": [], "Cmd": [],
    "Healthcheck": None, "ArgsEscaped": False, "Image": "", "Volumes": {}, "WorkingDir": "", "Entrypoint": [],
    "NetworkDisabled": False, "MacAddress": "", "OnBuild": [], "Labels": {}, "StopSignal": "", "StopTimeout": None,
    "Shell": [],
}, {"ExposedPorts": _SET, "Volumes": _SET})  # fmt: skip
_PARTS: Final[Mapping[str, _Kind]] = {
    "State": _STATE,
    "Config": _CONFIG,
    "HostConfig": _HOST_CONFIG,
    "NetworkSettings": _parts({"Ports": _PORTS}),
    "Mounts": _list(_MOUNT),
    "GraphDriver": _struct({"Data": {}, "Name": ""}),
}
