"""``shiplap image inspect``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from cli.each import for_each
from cli.store import open_store
from cli.table import print_json

if TYPE_CHECKING:
    from images.images import Image
    from images.store import Store


@click.command("inspect")
@click.argument("names", metavar="IMAGE...", nargs=-1, required=True)
@click.pass_obj
def command(root: str | None, *, names: Sequence[str]) -> int:
    """Show all about images, as JSON.

    The members are docker's; Config is the image's own, as it is stored.
    """
    documents: list[dict[str, Any]] = []
    with open_store(root) as store:
        code = for_each(names, lambda name: documents.append(_document(store, store.images.resolve(name))))
    print_json(documents)
    return code


def _document(store: Store, image: Image) -> dict[str, Any]:
    raw = json.loads(store.blobs.read(image.id))
    document = {
        "Id": image.id,
        "Digest": image.manifest_digest,
        "RepoTags": [name.familiar for name in image.names],
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
    return document
