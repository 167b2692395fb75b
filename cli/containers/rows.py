"""What tables and templates can show of containers: fields as docker's, from the documents of its API."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from cli.containers.times import local
from cli.listing import Listing, Row, ellipsis, label_of
from cli.progress.text import size_text
from cli.table import age
from core.gotext import quote

_COMMAND: Final = 20
_MOUNT: Final = 15
_SHORT: Final = 12

CONTAINERS: Final = Listing(
    {
        "ID": "CONTAINER ID",
        "Image": "IMAGE",
        "Command": "COMMAND",
        "CreatedAt": "CREATED AT",
        "RunningFor": "CREATED",
        "Ports": "PORTS",
        "State": "STATE",
        "Status": "STATUS",
        "Size": "SIZE",
        "Names": "NAMES",
        "Labels": "LABELS",
        "LocalVolumes": "LOCAL VOLUMES",
        "Mounts": "MOUNTS",
        "Networks": "NETWORKS",
    },
    ("ID", "Image", "Command", "RunningFor", "Status", "Ports", "Names"),
    "ID",
    "*formatter.ContainerContext",
)


def container_row(document: Mapping[str, Any], *, no_trunc: bool = False, now: float | None = None) -> Row:
    """A container's fields. document: as ``GET /containers/json`` has it. now: seconds since the epoch."""
    labels: Mapping[str, str] = document.get("Labels") or {}
    created = document["Created"]
    mounts = document.get("Mounts") or ()
    command = document["Command"]
    return {
        "ID": document["Id"] if no_trunc else document["Id"][:_SHORT],
        "Names": ",".join(_names(document.get("Names") or (), no_trunc=no_trunc)),
        "Image": _image(document, no_trunc=no_trunc),
        "Command": quote(command if no_trunc else ellipsis(command, _COMMAND)),
        "CreatedAt": local(created),
        "RunningFor": age(max(0.0, (time.time() if now is None else now) - created)),
        "Ports": ports_text(document.get("Ports") or ()),
        "State": document["State"],
        "Status": document["Status"],
        "Size": container_size(document),
        "Labels": ",".join(f"{name}={labels[name]}" for name in sorted(labels)),
        "LocalVolumes": str(sum(mount.get("Driver") == "local" for mount in mounts)),
        "Mounts": ",".join(_mount(mount, no_trunc=no_trunc) for mount in mounts),
        "Networks": ",".join((document.get("NetworkSettings") or {}).get("Networks") or ()),
        "Label": label_of(labels),
    }


def container_size(document: Mapping[str, Any]) -> str:
    """``1.2kB (virtual 5MB)``: what the container changed, and with its image."""
    text = size_text(document.get("SizeRw") or 0)
    virtual = document.get("SizeRootFs") or 0
    return f"{text} (virtual {size_text(virtual)})" if virtual > 0 else text


def ports_text(ports: Sequence[Mapping[str, Any]]) -> str:
    """``0.0.0.0:8080->80/tcp, 90-92/tcp``: docker's DisplayablePorts; neighbours with the same number are one range."""
    ordered = sorted(ports, key=lambda one: (one["PrivatePort"], one.get("IP") or "", one.get("PublicPort") or 0))
    groups: dict[tuple[str, str], list[list[int]]] = {}
    mapped: list[str] = []
    for port in ordered:
        private, address = port["PrivatePort"], port.get("IP") or ""
        if address and port.get("PublicPort") != private:
            mapped.append(f"{_host(address)}:{port.get('PublicPort', 0)}->{private}/{port['Type']}")
            continue
        runs = groups.setdefault((address, port["Type"]), [])
        if runs and private == runs[-1][1] + 1:
            runs[-1][1] = private
        else:
            runs.append([private, private])
    closed = [(key, run) for key, runs in groups.items() for run in runs[:-1]]
    last = [(key, runs[-1]) for key, runs in groups.items()]
    return ", ".join([*(_group(*key, *run) for key, run in closed + last), *mapped])


def _group(address: str, kind: str, first: int, last: int) -> str:
    ports = f"{first}" if first == last else f"{first}-{last}"
    return f"{_host(address)}:{ports}->{ports}/{kind}" if address else f"{ports}/{kind}"


def _host(address: str) -> str:
    return address


def _names(names: Sequence[str], *, no_trunc: bool) -> list[str]:
    """Without the slash in front; names through links (``/other/alias``) only in full."""
    bare = [name.removeprefix("/") for name in names]
    return bare if no_trunc else [name for name in bare if "/" not in name]


def _image(document: Mapping[str, Any], *, no_trunc: bool) -> str:
    image: str = document["Image"]
    if not image:
        return "<no image>"
    identity = document.get("ImageID", "")
    if not no_trunc and image == identity and image.startswith("sha256:"):
        return image.removeprefix("sha256:")[:_SHORT]
    return image


def _mount(mount: Mapping[str, Any], *, no_trunc: bool) -> str:
    name: str = mount.get("Name") or mount.get("Source") or ""
    return name if no_trunc else ellipsis(name, _MOUNT)


NETWORKS: Final = Listing(
    {
        "ID": "NETWORK ID",
        "Name": "NAME",
        "Driver": "DRIVER",
        "Scope": "SCOPE",
        "IPv6": "IPV6",
        "Internal": "INTERNAL",
        "Labels": "LABELS",
        "CreatedAt": "CREATED AT",
    },
    ("ID", "Name", "Driver", "Scope"),
    "ID",
    "*formatter.networkContext",
)


def network_row(document: Mapping[str, Any], *, no_trunc: bool = False) -> Row:
    """A network's fields. document: as ``GET /networks`` has it."""
    labels: Mapping[str, str] = document.get("Labels") or {}
    return {
        "ID": document["Id"] if no_trunc else document["Id"][:_SHORT],
        "Name": document["Name"],
        "Driver": document["Driver"],
        "Scope": document["Scope"],
        "IPv6": str(document["EnableIPv6"]).lower(),
        "Internal": str(document["Internal"]).lower(),
        "Labels": ",".join(f"{name}={labels[name]}" for name in sorted(labels)),
        "CreatedAt": document["Created"],
        "Label": label_of(labels),
    }


VOLUMES: Final = Listing(
    {
        "Name": "VOLUME NAME",
        "Driver": "DRIVER",
        "Scope": "SCOPE",
        "Mountpoint": "MOUNTPOINT",
        "Labels": "LABELS",
        "Links": "LINKS",
        "Size": "SIZE",
    },
    ("Driver", "Name"),
    "Name",
    "*formatter.volumeContext",
)


def volume_row(document: Mapping[str, Any]) -> Row:
    """A volume's fields. document: as ``GET /volumes`` has it; with UsageData, as ``GET /system/df`` has it."""
    labels: Mapping[str, str] = document.get("Labels") or {}
    usage = document.get("UsageData")
    return {
        "Name": document["Name"],
        "Driver": document["Driver"],
        "Scope": document["Scope"],
        "Mountpoint": document["Mountpoint"],
        "Labels": ",".join(f"{name}={labels[name]}" for name in sorted(labels)),
        "Links": str(usage["RefCount"]) if usage else "N/A",
        "Size": size_text(usage["Size"]) if usage else "N/A",
        "Label": label_of(labels),
    }
