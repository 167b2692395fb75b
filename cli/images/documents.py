"""An image as docker's ``inspect`` shows it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from core.platforms import Platform
    from images.indexes import IndexEntry
    from images.store import Store
    from images.summary import Image


def image_document(store: Store, name: str, platform: Platform | None) -> dict[str, Any]:
    """All about an image; with its index when it is for several platforms. Raises ImageNotFoundError."""
    document = _document(store, store.images.resolve(name, platform))
    index = store.images.indexes.find(name)
    if index is not None:
        document["Index"] = {"Digest": index.digest, "Manifests": [_entry(entry) for entry in index.entries]}
    return document


def _document(store: Store, image: Image) -> dict[str, Any]:
    raw = json.loads(store.blobs.read(image.id))
    document = {
        "Id": image.id,
        "Digest": image.manifest_digest,
        "RepoTags": [name.familiar for name in image.names],
        "RepoDigests": [name.familiar for name in store.images.digests(image.id)],
        "Created": raw.get("created", ""),
        "Author": raw.get("author", ""),
        "Architecture": raw.get("architecture", ""),
        "Variant": raw.get("variant", ""),
        "Os": raw.get("os", ""),
        "Size": image.size_bytes,
        "Config": raw.get("config") or {},
        "RootFS": {"Type": "layers", "Layers": list(image.diff_ids)},
    }
    if not document["Variant"]:
        del document["Variant"]
    if away := store.layers.away(image.diff_ids):
        document["LayersAway"] = away
    return document


def _entry(entry: IndexEntry) -> dict[str, Any]:
    """What an index says of one of its manifests; with the image's ID where the manifest is an image's."""
    described = entry.descriptor
    document: dict[str, Any] = {"Digest": described.digest, "MediaType": described.media_type, "Size": described.size}
    if described.platform is not None:
        document["Platform"] = str(described.platform.normalised())
    if described.artifact_type:
        document["ArtifactType"] = described.artifact_type
    if described.annotations:
        document["Annotations"] = described.annotations
    if entry.image is not None:
        document["Id"] = entry.image.id
    return document
