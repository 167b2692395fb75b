"""Images as docker's documents, from the store."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from containers.keeper import eventlog
from core.settings import RegistrySettings
from engine.imagefilters import created, matching
from engine.imagefilters import found as found
from images.oci import parse_time
from images.store import Store
from registry.client import ClientConfig

if TYPE_CHECKING:
    from engine.engine import Engine
    from images.summary import Image

_CONFIG: Final[Mapping[str, Any]] = {
    "Hostname": "", "Domainname": "", "User": "", "AttachStdin": False, "AttachStdout": False, "AttachStderr": False,
    "Tty": False, "OpenStdin": False, "StdinOnce": False, "Env": None, "Cmd": None, "Image": "", "Volumes": None,
    "WorkingDir": "", "Entrypoint": None, "OnBuild": None, "Labels": None,
}  # fmt: skip
_NONE: Final = "<none>:<none>"


@contextmanager
def opened(engine: Engine) -> Iterator[Store]:
    """The store of the caller's engine."""
    engine.places.make()
    with Store.open(engine.places.root) as store:
        yield store


def client_config(engine: Engine) -> ClientConfig:
    """How registries are reached from the caller's engine."""
    found = ClientConfig.load(RegistrySettings.from_environ(), engine.places.root, insecure=())
    return found._replace(relay=engine.caller.images)


def note(engine: Engine, action: str, identity: str, name: str = "", labels: Mapping[str, str] | None = None) -> None:
    """Write down that something happened to an image."""
    eventlog.append(str(engine.places.run), "image", action, identity, {**(labels or {}), "name": name or identity})


def listed(store: Store, filters: Any, *, shared: bool, users: Mapping[str, int] | None) -> list[dict[str, Any]]:
    """As docker's ``GET /images/json``, the newest first.

    shared: measure what they share. users: how many containers are of each; None does not tell.
    """
    images = matching(store, store.images.list(), filters)
    sizes: dict[str, int] = {}
    if shared:
        layers = Counter(diff_id for image in store.images.list() for diff_id in set(image.diff_ids))
        sizes = {
            diff_id: store.layers.size(diff_id) if times > 1 and store.layers.is_stored(diff_id) else 0
            for diff_id, times in layers.items()
        }
    return [
        {
            "Containers": -1 if users is None else users.get(str(image.id), 0),
            "Created": created(image),
            "Id": str(image.id),
            "Labels": image.config.config.labels or None,
            "ParentId": "",
            "RepoDigests": digests(store, image),
            "RepoTags": [name.familiar for name in image.names],
            "SharedSize": sum(sizes[diff_id] for diff_id in set(image.diff_ids)) if shared else -1,
            "Size": image.size_bytes,
            "VirtualSize": image.size_bytes,
        }
        for image in sorted(images, key=created, reverse=True)
    ]


def with_none(documents: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """As versions before 1.43 have images without a name."""
    for document in documents:
        document["RepoTags"] = document["RepoTags"] or [_NONE]
        document["RepoDigests"] = document["RepoDigests"] or ["<none>@<none>"]
    return documents


def inspected(store: Store, image: Image) -> dict[str, Any]:
    """As docker's ``GET /images/NAME/json``."""
    raw = json.loads(store.blobs.read(image.id))
    comments = [entry.comment for entry in image.config.history]
    config = raw.get("config") or {}
    document = {
        "Id": str(image.id),
        "RepoTags": [name.familiar for name in image.names],
        "RepoDigests": digests(store, image),
        "Parent": "",
        "Comment": comments[-1] if comments else "",
        "Created": raw.get("created") or "0001-01-01T00:00:00Z",
        "Container": "",
        "ContainerConfig": dict(_CONFIG),
        "DockerVersion": "",
        "Author": raw.get("author", ""),
        "Config": {**_CONFIG, **config},
        "Architecture": raw.get("architecture", ""),
        **({"Variant": raw["variant"]} if raw.get("variant") else {}),
        "Os": raw.get("os", ""),
        "Size": image.size_bytes,
        "VirtualSize": image.size_bytes,
        "GraphDriver": {"Data": None, "Name": "overlayfs"},
        "RootFS": {"Type": "layers", "Layers": [str(diff_id) for diff_id in image.diff_ids]},
        "Metadata": {"LastTagTime": "0001-01-01T00:00:00Z"},
    }
    if not document["RootFS"]["Layers"]:
        del document["RootFS"]["Layers"]
    return document


def history(store: Store, image: Image) -> list[dict[str, Any]]:
    """As docker's ``GET /images/NAME/history``: the newest first; only the first entry has an ID."""
    lines = store.images.history(image)[::-1]
    return [
        {
            "Comment": line.entry.comment,
            "Created": int(parse_time(line.entry.created)) if line.entry.created else 0,
            "CreatedBy": line.entry.created_by,
            "Id": str(image.id) if position == 0 else "<missing>",
            "Size": line.size_bytes,
            "Tags": [name.familiar for name in image.names] or None if position == 0 else None,
        }
        for position, line in enumerate(lines)
    ]


def digests(store: Store, image: Image) -> list[str]:
    """What registries call it: NAME@DIGEST."""
    return [f"{each.familiar_name}@{each.digest}" for each in store.images.digests(image.id)]
