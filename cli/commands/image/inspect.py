"""``shiplap image inspect``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from cli.guarding import for_each
from cli.store import open_store
from cli.table import print_json
from core.platforms import Platform

if TYPE_CHECKING:
    from images.indexes import IndexEntry
    from images.store import Store
    from images.summary import Image


@click.command("inspect")
@click.argument("names", metavar="IMAGE...", nargs=-1, required=True)
@click.option("--platform", metavar="OS/ARCH[/VARIANT]", help="Which of an image's platforms.  [default: this host's]")
@click.pass_obj
def command(root: str | None, *, names: Sequence[str], platform: str | None) -> int:
    """Show all about images, as JSON.

    The members are docker's; Config is the image's own, as it is stored. Index is there for images of several
    platforms, and LayersAway for layers that are still at their registry.
    """
    wanted = Platform.parse(platform) if platform else None
    documents: list[dict[str, Any]] = []
    with open_store(root) as store:
        code = for_each(names, lambda name: documents.append(_inspected(store, name, wanted)))
    print_json(documents)
    return code


def _inspected(store: Store, name: str, platform: Platform | None) -> dict[str, Any]:
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
