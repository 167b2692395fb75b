"""Docker's documents of one container: what ``inspect`` and a list show."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from engine import published, sharing
from engine.records import EndpointRow, NetworkRow, Row
from engine.state import State
from engine.times import NEVER, ago, moment_of, text_of

_ENDPOINT: Final[Mapping[str, Any]] = {
    "IPAMConfig": None, "Links": None, "Aliases": None, "MacAddress": "", "NetworkID": "", "EndpointID": "",
    "Gateway": "", "IPAddress": "", "IPPrefixLen": 0, "IPv6Gateway": "", "GlobalIPv6Address": "",
    "GlobalIPv6PrefixLen": 0, "DriverOpts": None, "DNSNames": None, "GwPriority": 0,
}  # fmt: skip
_SETTINGS: Final[Mapping[str, Any]] = {
    "Bridge": "", "SandboxID": "", "SandboxKey": "", "Ports": {}, "HairpinMode": False, "LinkLocalIPv6Address": "",
    "LinkLocalIPv6PrefixLen": 0, "SecondaryIPAddresses": None, "SecondaryIPv6Addresses": None, "EndpointID": "",
    "Gateway": "", "GlobalIPv6Address": "", "GlobalIPv6PrefixLen": 0, "IPAddress": "", "IPPrefixLen": 0,
    "IPv6Gateway": "", "MacAddress": "",
}  # fmt: skip


def summary(
    config: Mapping[str, Any], host: Mapping[str, Any], mounts: list[dict[str, Any]], networks: list[str]
) -> dict[str, Any]:
    """What a list shows, for the row. config, host: docker's Config and HostConfig. networks: their names."""
    command = [*(config["Entrypoint"] or ()), *(config["Cmd"] or ())]
    first, *rest = command
    return {
        "command": " ".join((first, *(f"'{word}'" if " " in word else word for word in rest))),
        "labels": config["Labels"] or {},
        "network": host["NetworkMode"],
        "networks": networks,
        "beside": sorted(set(sharing.joined(host).values())),
        "mounts": mounts,
        "exposed": list(config.get("ExposedPorts", ())),
        "auto_remove": bool(host["AutoRemove"]),
    }


def listed(row: Row, state: State, now_ns: int, endpoints: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """One entry of ``GET /containers/json``. endpoints: by the network's name, see ``endpoint``."""
    shown = row.summary
    return {
        "Id": row.id,
        "Names": [f"/{row.name}"],
        "Image": row.image,
        "ImageID": row.image_id,
        "Command": shown["command"],
        "Created": row.created_ns // 1_000_000_000,
        "Ports": published.as_list(shown["exposed"], state.ports if state.has_process else ()),
        "Labels": shown["labels"],
        "State": docker_status(state),
        "Status": status_text(state, now_ns),
        "Health": _health(state),
        "HostConfig": {"NetworkMode": shown["network"]},
        "NetworkSettings": {"Networks": _networks(shown["networks"], endpoints)},
        "Mounts": shown["mounts"],
    }


def _health(state: State) -> dict[str, Any]:
    """A list's short form: of one that does not run, or has no check, there is none."""
    if state.health is None or not state.has_process:
        return {"Status": "none", "FailingStreak": 0}
    return {"Status": state.health["status"], "FailingStreak": state.health["failing_streak"]}


def inspected(
    row: Row,
    state: State,
    spec: Mapping[str, Any],
    directory: Path,
    endpoints: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """The document of ``GET /containers/ID/json``. spec: as ``spec.json`` has it. endpoints: as for ``listed``."""
    asked = dict(spec["asked"])
    args = spec["process"]["args"]
    logs = spec["log"]["driver"] != "none"
    return {
        "Id": row.id,
        "Created": text_of(row.created_ns),
        "Path": args[0],
        "Args": args[1:],
        "State": state_document(state),
        "Image": row.image_id,
        "ResolvConfPath": f"{directory}/etc/resolv.conf",
        "HostnamePath": f"{directory}/etc/hostname",
        "HostsPath": f"{directory}/etc/hosts",
        "LogPath": f"{directory}/log/0.json" if logs else "",
        "Name": f"/{row.name}",
        "RestartCount": state.restarts,
        "Driver": "overlayfs",
        "Platform": "linux",
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": "",
        "ExecIDs": None,
        "HostConfig": asked.pop("HostConfig"),
        "GraphDriver": _graph(spec, directory),
        "Mounts": row.summary["mounts"],
        "Config": asked,
        "NetworkSettings": _settings(row, state, endpoints),
    }


def endpoint(place: EndpointRow, network: NetworkRow, state: State, name: str) -> dict[str, Any]:
    """A container's place in a network, as docker shows it; one that does not run has no address."""
    user_defined = network.name != "bridge"
    found = {
        **_ENDPOINT,
        "IPAMConfig": dict(place.asked) or None,
        "Aliases": list(place.aliases) or None,
        "NetworkID": network.id,
        "GwPriority": place.priority,
        "DNSNames": [name, *place.aliases, place.container[:12]] if user_defined else None,
    }
    if state.has_process:
        found |= {
            "MacAddress": place.mac,
            "EndpointID": f"{place.container[:32]}{network.id[:32]}",
            "Gateway": "" if network.internal else network.gateway,
            "IPAddress": place.ipv4,
            "IPPrefixLen": int(network.subnet.partition("/")[2]),
        }
        if place.ipv6:
            found |= {
                "IPv6Gateway": "" if network.internal else network.gateway6,
                "GlobalIPv6Address": place.ipv6,
                "GlobalIPv6PrefixLen": int(network.subnet6.partition("/")[2]),
            }
    return found


def _networks(names: list[str], endpoints: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    return {name: dict(endpoints.get(name, _ENDPOINT)) for name in names}


def _settings(row: Row, state: State, endpoints: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    bound = state.ports if state.has_process else ()
    # As docker: what is in the default network is at the top, too; ports only of one that runs.
    top = {key: value for key, value in endpoints.get("bridge", {}).items() if key in _SETTINGS}
    ports = published.as_map(row.summary["exposed"], bound) if state.has_process else {}
    return {**_SETTINGS, **top, "Ports": ports, "Networks": _networks(row.summary["networks"], endpoints)}


def state_document(state: State) -> dict[str, Any]:
    """Docker's ``State``."""
    document: dict[str, Any] = {
        "Status": docker_status(state),
        "Running": state.is_up and state.status != "starting",
        "Paused": state.status == "paused",
        "Restarting": state.status == "restarting",
        "OOMKilled": state.oom,
        "Dead": state.status == "dead",
        "Pid": state.pid if state.has_process else 0,
        "ExitCode": state.exit_code,
        "Error": state.error,
        "StartedAt": state.started or NEVER,
        "FinishedAt": state.finished or NEVER,
    }
    if state.health is not None:
        document["Health"] = {
            "Status": state.health["status"],
            "FailingStreak": state.health["failing_streak"],
            "Log": [
                {"Start": each["start"], "End": each["end"], "ExitCode": each["exit_code"], "Output": each["output"]}
                for each in state.health["log"]
            ],
        }
    return document


def docker_status(state: State) -> str:
    """Docker has no word for what is about to run: it is still what it was."""
    if state.status == "starting":
        return "created" if state.started == NEVER else "exited"
    return state.status


def status_text(state: State, now_ns: int) -> str:
    """As the column STATUS has it: ``Up 3 minutes (healthy)``, ``Exited (137) 2 hours ago``."""

    def since(text: str) -> str:
        return ago(max(0, now_ns - moment_of(text)) / 1e9)

    if state.status == "running":
        health = ""
        if state.health is not None:
            word = state.health["status"]
            health = f" ({'health: starting' if word == 'starting' else word})"
        return f"Up {since(state.started)}{health}"
    if state.status == "paused":
        return f"Up {since(state.started)} (Paused)"
    if state.status == "restarting":
        return f"Restarting ({state.exit_code}) {since(state.finished)} ago"
    if state.status == "removing":
        return "Removal In Progress"
    if state.status == "dead":
        return "Dead"
    if state.started == NEVER:
        return "Created"
    return "" if state.finished == NEVER else f"Exited ({state.exit_code}) {since(state.finished)} ago"


def _graph(spec: Mapping[str, Any], directory: Path) -> dict[str, Any]:
    """Where its files are; layers that are EROFS images have no directory, and are named by the image."""
    lowers = ":".join(layer[0] for layer in reversed(spec["layers"]))
    upper = directory / "upper"
    return {"Data": {"LowerDir": lowers, "UpperDir": f"{upper}/fs", "WorkDir": f"{upper}/work"}, "Name": "overlayfs"}
