"""What takes the disk: docker's ``system df``."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from engine.looking import Looker
from images.oci import format_time, parse_time

if TYPE_CHECKING:
    from images.store import Store


def document(looker: Looker, store: Store, volumes: list[dict[str, Any]]) -> dict[str, Any]:
    """As docker's ``GET /system/df``. volumes: docker's documents, with ``UsageData``."""
    containers = looker.containers(every=True, filters=None, limit=0, sizes=True)
    used = Counter(container["ImageID"] for container in containers)
    images = store.images.list()
    layers = Counter(diff_id for image in images for diff_id in set(image.diff_ids))
    size_of = {diff_id: store.layers.size(diff_id) if store.layers.is_stored(diff_id) else 0 for diff_id in layers}
    return {
        "LayersSize": sum(size_of.values()),
        "Images": [
            {
                "Containers": used[str(image.id)],
                "Created": int(parse_time(image.config.created)) if image.config.created else int(image.created_at),
                "Id": str(image.id),
                "Labels": image.config.config.labels or None,
                "ParentId": "",
                "RepoDigests": [f"{ref.familiar_name}@{ref.digest}" for ref in store.images.digests(image.id)] or None,
                "RepoTags": [name.familiar for name in image.names] or None,
                "SharedSize": sum(size_of[diff_id] for diff_id in set(image.diff_ids) if layers[diff_id] > 1),
                "Size": image.size_bytes,
            }
            for image in images
        ],
        "Containers": containers,
        "Volumes": volumes,
        "BuildCache": [
            {
                "ID": item.id,
                "Type": item.type,
                "Description": item.description,
                "InUse": item.in_use,
                "Shared": item.shared,
                "Size": item.size_bytes,
                "CreatedAt": format_time(item.created_at),
                "LastUsedAt": format_time(item.used_at),
                "UsageCount": 0,
            }
            for item in store.cache_use.items(roughly=True)
        ],
    }
