"""What the engine and its host are: ``_ping``, ``version``, ``info``, ``system/df``, ``auth``."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, Final

import flask

from core.release import VERSION
from dockerapi import answering, asking
from dockerapi.versions import NEWEST, OLDEST, v

bp = flask.Blueprint("system", __name__)

_KINDS: Final = ("container", "image", "volume", "build-cache")
_ACTIVE: Final = ("running", "paused", "restarting")


@bp.route("/_ping", methods=["GET", "HEAD"])
def ping() -> flask.Response:
    """That somebody is there, and which versions they speak. Asks nobody."""
    response = flask.Response("" if flask.request.method == "HEAD" else "OK", content_type="text/plain; charset=utf-8")
    response.headers["Builder-Version"] = "2"
    response.headers["Swarm"] = "inactive"
    response.headers["Cache-Control"] = "no-cache, no-store, must-revalidate"
    response.headers["Pragma"] = "no-cache"
    return response


@bp.get("/version")
def version() -> flask.Response:
    """Versions of the engine and of the API."""
    machine = os.uname()
    details = {
        "ApiVersion": str(NEWEST),
        "Arch": _architecture(machine.machine),
        "BuildTime": "",
        "Experimental": "false",
        "GitCommit": "",
        "GoVersion": "",
        "KernelVersion": machine.release,
        "MinAPIVersion": str(OLDEST),
        "Os": "linux",
    }
    found = {
        "Platform": {"Name": "Shiplap"},
        "Components": [{"Name": "Engine", "Version": VERSION, "Details": details}],
        "Version": VERSION,
        "ApiVersion": str(NEWEST),
        "MinAPIVersion": str(OLDEST),
        "GitCommit": "",
        "GoVersion": "",
        "Os": "linux",
        "Arch": _architecture(machine.machine),
        "KernelVersion": machine.release,
        "BuildTime": "",
    }
    return answering.document(found, kind="version")


@bp.get("/info")
def info() -> flask.Response:
    """What the engine has, and what the host offers."""
    none = {"ID": "", "Expected": ""}
    found: dict[str, Any] = {
        **asking.engine().info(),
        "NFd": 0,
        "NGoroutines": 0,
        "NEventsListener": 0,
        "HttpProxy": "",
        "HttpsProxy": "",
        "NoProxy": "",
        "RegistryConfig": {"IndexConfigs": {}, "InsecureRegistryCIDRs": [], "Mirrors": []},
        "ContainerdCommit": none,
        "RuncCommit": none,
        "InitCommit": none,
        "DefaultAddressPools": [],
        "CDISpecDirs": [],
        "DiscoveredDevices": [],
        "FirewallBackend": {"Driver": "nftables"},
    }
    return answering.document(found, kind="info")


@bp.get("/system/df")
def disk_usage() -> flask.Response:
    """What takes the disk."""
    wanted = asking.texts("type")
    for kind in wanted:
        if kind not in _KINDS:
            from dockerapi.errors import bad

            raise bad(f"unknown object type: {kind}")
    found = asking.engine().disk_usage()
    verbose = asking.flag("verbose")
    summaries = usages(found, wanted or _KINDS, verbose=verbose)
    if verbose and asking.version() >= v(52):
        return answering.document(summaries, kind="usage")
    members = {"container": "Containers", "image": "Images", "volume": "Volumes", "build-cache": "BuildCache"}
    for kind, name in members.items():
        if wanted and kind not in wanted:
            found.pop(name, None)
            if kind == "image":
                found["LayersSize"] = 0
    for image in found.get("Images") or ():
        image["VirtualSize"] = image["Size"]
    for record in found.get("BuildCache") or ():
        record["Parent"], record["Parents"] = "", None
    return answering.document({**found, **summaries}, kind="usage")


def usages(found: Mapping[str, Any], kinds: Sequence[str], *, verbose: bool) -> dict[str, Any]:
    """What each kind takes, in short. found: of ``Engine.disk_usage``. verbose: with the single ones."""
    images, containers = found["Images"], found["Containers"]
    volumes, cache = found["Volumes"], found["BuildCache"]
    free = [image for image in images if image["Containers"] == 0]
    rows: dict[str, tuple[str, list[Any], int, int, int]] = {
        "image": (
            "ImageUsage", images, len(images) - len(free), found["LayersSize"],
            sum(image["Size"] - image["SharedSize"] for image in free),
        ),
        "container": (
            "ContainerUsage", containers, sum(each["State"] in _ACTIVE for each in containers),
            sum(each.get("SizeRw", 0) for each in containers),
            sum(each.get("SizeRw", 0) for each in containers if each["State"] not in _ACTIVE),
        ),
        "volume": (
            "VolumeUsage", volumes, sum(each["UsageData"]["RefCount"] > 0 for each in volumes),
            sum(max(0, each["UsageData"]["Size"]) for each in volumes),
            sum(max(0, each["UsageData"]["Size"]) for each in volumes if each["UsageData"]["RefCount"] <= 0),
        ),
        "build-cache": (
            "BuildCacheUsage", cache, sum(each["InUse"] for each in cache), sum(each["Size"] for each in cache),
            sum(each["Size"] for each in cache if not each["InUse"] and not each["Shared"]),
        ),
    }  # fmt: skip
    told: dict[str, Any] = {}
    for kind in kinds:
        name, items, active, size, reclaimable = rows[kind]
        told[name] = {
            "ActiveCount": active, "TotalCount": len(items), "TotalSize": size, "Reclaimable": reclaimable,
            **({"Items": items} if verbose else {}),
        }  # fmt: skip
    return told


def _architecture(machine: str) -> str:
    """As Go names it."""
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)
