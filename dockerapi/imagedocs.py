"""Images as docker's documents, from the store."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from containers.keeper import eventlog
from core.settings import RegistrySettings
from engine.filters import labels_match
from engine.imagefilters import created, matching
from engine.imagefilters import found as found
from images.attestations import REFERENCE_DIGEST
from images.oci import OCI_INDEX, decode_manifest, parse_time
from images.store import Store
from registry.client import ClientConfig

if TYPE_CHECKING:
    from engine.engine import Engine
    from images.indexes import IndexEntry
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


def listed(
    store: Store,
    filters: Any,
    *,
    shared: bool,
    users: Mapping[str, Sequence[str]] | None,
    manifests: Mapping[str, Sequence[str]] | None,
) -> list[dict[str, Any]]:
    """As docker's ``GET /images/json``, the newest first.

    shared: measure what they share.
    users: the IDs of the containers of each, which are counted; None does not tell.
    manifests: the same, to tell them by the manifests of indexes; None does not tell those.
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
            "Containers": -1 if users is None else len(users.get(str(image.id), ())),
            "Created": created(image),
            "Id": str(image.id),
            "Labels": image.config.config.labels or None,
            "ParentId": "",
            "RepoDigests": digests(store, image),
            "RepoTags": [name.familiar for name in image.names],
            "SharedSize": sum(sizes[diff_id] for diff_id in set(image.diff_ids)) if shared else -1,
            "Size": image.size_bytes,
            "VirtualSize": image.size_bytes,
            **({} if manifests is None else of_index(store, image, manifests)),
        }
        for image in sorted(images, key=created, reverse=True)
    ]


def with_labels(store: Store, wanted: Sequence[str], unwanted: Sequence[str]) -> set[str]:
    """The IDs of the images that have all of the first labels, and none of the others."""
    return {
        str(image.id)
        for image in store.images.list()
        if labels_match(wanted, image.config.config.labels)
        and not any(labels_match([text], image.config.config.labels) for text in unwanted)
    }


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


def of_index(store: Store, image: Image, containers: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """As docker's ``Descriptor`` and ``Manifests``: of the index that a name of the image stands for, if one does.

    containers: the IDs of those of each image.
    """
    for name in image.names:
        index = store.images.indexes.find(str(name))
        if index is not None:
            document = json.loads(index.data)
            media_type = document.get("mediaType") or OCI_INDEX
            return {
                "Descriptor": {"mediaType": media_type, "digest": str(index.digest), "size": len(index.data)},
                "Manifests": [
                    _manifest(store, raw, entry, containers)
                    for raw, entry in zip(document["manifests"], index.entries, strict=True)
                ],
            }
    return {"Manifests": []}


def _manifest(
    store: Store, raw: dict[str, Any], entry: IndexEntry, containers: Mapping[str, Sequence[str]]
) -> dict[str, Any]:
    manifest = decode_manifest(store.blobs.read(entry.descriptor.digest))
    content = entry.descriptor.size + sum(each.size for each in (manifest.config, *manifest.layers))
    image = entry.image
    unpacked = 0 if image is None else image.size_bytes
    document = {
        "ID": str(entry.descriptor.digest),
        "Descriptor": raw,
        "Available": True,
        "Size": {"Content": content, "Total": content + unpacked},
    }
    if image is not None:
        users = list(containers.get(str(image.id), ()))
        data = {"Platform": raw.get("platform"), "Containers": users, "Size": {"Unpacked": unpacked}}
        return {**document, "Kind": "image", "ImageData": data}
    about = entry.descriptor.annotations.get(REFERENCE_DIGEST)
    if about is None:
        return {**document, "Kind": "unknown"}
    return {**document, "Kind": "attestation", "AttestationData": {"For": about}}


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
